"""What is asked of the server and answered in the order of the questions, and its news of the others in a meeting."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol as Interface
from weakref import WeakValueDictionary

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import Deferred

from p2pxfer.core.codec import Message
from p2pxfer.core.messages import Introduce, Introduction, PeerMapped, PeerNat, PeerReturned
from p2pxfer.errors import P2pxferError
from p2pxfer.net.connection.streams import too_late
from p2pxfer.net.types import Reactor

ANSWER_S = 20.0
"""Deadline for the answer to a request on a registered connection, seconds."""


class Informed(Interface):
    """Who meets a peer and hears news of its NAT."""

    def peer_nat(self, news: PeerNat) -> None:
        """The server passes on what the other side's NAT turned out to do, and where that side was seen."""

    def peer_returned(self) -> None:
        """The other side has registered again since it was introduced."""

    def peer_mapped(self, mapped: list[str]) -> None:
        """The server passes on where the other side's router leads to it."""


class _Question(Struct):
    """Asked for the first time at ``since``, on the reactor's clock."""

    message: Introduce
    answer: Deferred[Introduction]
    since: float

    def again(self, tag: int, now: float) -> Introduce:
        """The same for another connection; the server need not wait longer than it had to before."""
        left = max(0, math.ceil(self.message.wait_s - (now - self.since)))
        return replace(self.message, tag=tag, wait_s=left)


class Introductions:
    """The introductions that were asked for on one control connection after the other.

    Where a connection was left for another one, what was asked on it is asked again there: the server may have
    introduced the two already, and the other side then meets nobody once.
    """

    def __init__(self, reactor: Reactor, send: Callable[[Message], None]) -> None:
        self._reactor = reactor
        self._send = send
        self._asked: deque[_Question] = deque()
        self._held: list[_Question] = []
        self.informed: WeakValueDictionary[bytes, Informed] = WeakValueDictionary()
        """Who wants to hear news of the other side, by session; forgotten with whoever it is."""

    def ask(self, message: Introduce) -> Deferred[Introduction]:
        """Send this question; its answer fails ``ANSWER_S`` seconds after the time that it may wait."""
        self._send(message)
        answer: Deferred[Introduction] = Deferred()
        self._asked.append(_Question(message, answer, self._reactor.seconds()))
        answer.addTimeout(message.wait_s + ANSWER_S, self._reactor, partial(too_late, "the server did not answer"))
        return answer

    def next(self) -> Deferred[Introduction] | None:
        """The question to which the next answer belongs, which is none any more."""
        return self._asked.popleft().answer if self._asked else None

    def ask_again(self, tag: int) -> None:
        """The new connection stands, whose tag this is: send what was held for it."""
        held, self._held = [one for one in self._held if not one.answer.called], []
        for question in held:
            self._asked.append(question)
            self._send(question.again(tag, self._reactor.seconds()))

    def lost(self, error: P2pxferError | None) -> None:
        """Nothing that was asked will be answered; ``None``: the connection is left for another one, and it waits for
        that."""
        asked = [*self._held, *self._asked]
        self._asked.clear()
        self._held = [] if error is not None else asked
        for question in asked if error is not None else ():
            question.answer.errback(error)

    def inform(self, news: PeerNat | PeerReturned | PeerMapped) -> None:
        """News of the other side of a meeting."""
        informed = self.informed.get(news.session)
        if informed is None:
            return
        match news:
            case PeerNat():
                informed.peer_nat(news)
            case PeerReturned():
                informed.peer_returned()
            case PeerMapped():
                informed.peer_mapped(news.mapped)
