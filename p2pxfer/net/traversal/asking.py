"""What is asked of the server and answered in the order of the questions, and its news of the others in a meeting."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Protocol as Interface
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred

from p2pxfer.core.messages import Introduction, PeerMapped, PeerNat, PeerReturned
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


class Introductions:
    """The introductions that were asked for on one control connection after the other."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._asked: deque[Deferred[Introduction]] = deque()
        self.informed: WeakValueDictionary[bytes, Informed] = WeakValueDictionary()
        """Who wants to hear news of the other side, by session; forgotten with whoever it is."""

    def ask(self, wait_s: float) -> Deferred[Introduction]:
        """The answer to the question that is sent now; fails ``ANSWER_S`` seconds after ``wait_s``."""
        answer: Deferred[Introduction] = Deferred()
        self._asked.append(answer)
        answer.addTimeout(wait_s + ANSWER_S, self._reactor, partial(too_late, "the server did not answer"))
        return answer

    def next(self) -> Deferred[Introduction] | None:
        """The question to which the next answer belongs, which is none any more."""
        return self._asked.popleft() if self._asked else None

    def lost(self, error: P2pxferError) -> None:
        """Nothing that was asked will be answered."""
        asked, self._asked = self._asked, deque()
        for deferred in asked:
            deferred.errback(error)

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
