"""Finds out whom this machine's NAT lets in: the server dials a fresh local port that has dialled one endpoint of it.

The port listens and holds one connection to the server, on which it asks to be dialled (:class:`DialBack`).  The server
dials only the endpoint that it sees of that very connection, once from another port of the same address and once from
another address if it has one.  What arrives shows the token that was sent along, so no stranger counts.  Beside that
the server knocks at a port of the same address that nobody has opened, and tells what answered.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IAddress, IListeningPort, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import DIAL_BACK_MARKS, DialBack, DialledBack, Observed
from p2pxfer.core.traversal.discovery import Filtering, Inbound, filtering_of, unsolicited_of
from p2pxfer.errors import P2pxferError
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.traversal.flight import Opener
from p2pxfer.net.traversal.listening import reuse_binding
from p2pxfer.net.traversal.servercheck import ServerCheck
from p2pxfer.net.types import Reactor

CHECK_S = 10.0
"""How long the whole check may take, seconds."""
GRACE_S = 2.0
"""How long a token may be on its way when the server's answer is there already, seconds: it may have to be repeated."""
MAX_VISITORS = 8
"""Most connections that are read at once: strangers may dial the port too."""
TOKEN = 16


class _Visitor(Protocol):
    """A connection from outside that may show the token."""

    def __init__(self, visitors: _Visitors) -> None:
        self._visitors = visitors
        self._data = b""

    def connectionMade(self) -> None:
        """Somebody came in."""
        self._visitors.present.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The visitor has gone."""
        self._visitors.present.discard(self)

    def dataReceived(self, data: bytes) -> None:
        """Collect what is shown, no more than a token and a byte, which makes it a wrong one."""
        self._data += data
        if len(self._data) > TOKEN:
            self._visitors.shown(self._data[: TOKEN + 1])
            self.leave()

    def leave(self) -> None:
        """Reset the connection."""
        cast(ITCPTransport, self.transport).abortConnection()


class _Visitors(Factory):
    """Accepts a few connections; ``shown`` gets what one of them said."""

    noisy = False

    def __init__(self, shown: Callable[[bytes], None]) -> None:
        self.shown = shown
        self.present: set[_Visitor] = set()
        self._left = MAX_VISITORS

    def buildProtocol(self, addr: IAddress | None) -> _Visitor | None:
        """A visitor, as long as there is room for one."""
        self._left -= 1
        return _Visitor(self) if self._left >= 0 else None

    def close(self) -> None:
        """Send everybody away, and let nobody in any more."""
        self._left = 0
        for visitor in list(self.present):
            visitor.leave()


class FilteringCheck(ServerCheck[Inbound]):
    """One check, from local ``port``.

    ``done`` fires once with the filtering and the treatment of unsolicited SYNs; it fails only when it is cancelled,
    which ends the check.  At the end nothing of it is left.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, opener: Opener, target: Endpoint, port: int) -> None:
        super().__init__(reactor, opener, target, [port])
        self.port = port
        self._token = os.urandom(TOKEN)
        self._arrived: set[bytes] = set()
        self._answer: DialledBack | None = None
        self._listener: IListeningPort | None = None
        self._visitors = _Visitors(self._shown)

    def start(self) -> None:
        """Listen, connect, ask."""
        self._ends_in(CHECK_S, self._too_late)
        any_address = "::" if self._target.host.version == 6 else ""
        binding = reuse_binding(self.port, any_address)
        listen = cast(Any, self._reactor).listenTCP  # the interface knows only a number in place of a binding
        listening: Deferred[IListeningPort] = execute(listen, binding, self._visitors, interface=any_address)
        listening.addCallbacks(self._listening, self._not_opened)

    def _listening(self, listener: IListeningPort) -> None:
        self._listener = listener
        if self._over:
            listener.stopListening()
        else:
            self._show_ports()

    def _not_opened(self, failure: Failure) -> None:
        self.log.info("filtering cannot be checked: {why}", why=failure.getErrorMessage())
        self._end("unknown", "the server could not be asked")

    def _on_message(self, link: ServerLink, message: Message) -> None:
        match message:
            case Observed():
                link.send(DialBack(self._token))
            case DialledBack() if self._answer is None:
                self._answer = message
                if self._timer is not None and self._timer.active():
                    left = self._timer.getTime() - self._reactor.seconds()
                    self._timer.reset(min(GRACE_S, left))
                self._judge(message)
            case _:
                pass

    def _lost(self, link: ServerLink, error: P2pxferError) -> None:
        self._end("unknown", "the server does not dial back")

    def _shown(self, data: bytes) -> None:
        if hmac.compare_digest(data[:TOKEN], self._token):
            self._arrived.add(data[TOKEN:])
            if self._answer is not None:
                self._judge(self._answer)

    def _judge(self, answer: DialledBack) -> None:
        """Compare what the server says with what arrived; a token that is still on its way is waited for."""
        outcomes = dict(zip(DIAL_BACK_MARKS, (answer.same_address, answer.other_address), strict=True))
        if all(mark in self._arrived for mark, outcome in outcomes.items() if outcome == "connected"):
            same, other = (
                None if outcome == "not-tried" else mark in self._arrived for mark, outcome in outcomes.items()
            )
            self._end(*filtering_of(same, other))

    def _too_late(self) -> None:
        self._end("unknown", "what the server says and what arrived differ" if self._answer else "the server is silent")

    def _end(self, filtering: Filtering, why: str) -> None:
        if not self._over:
            unsolicited, unanswered = unsolicited_of(self._answer.unopened if self._answer else "not-tried")
            self._end_with(Inbound(filtering, why, unsolicited=unsolicited, unanswered=unanswered))

    def _release(self) -> None:
        if self._listener is not None:
            self._listener.stopListening()
        self._visitors.close()
