"""Finds out whether this machine's NAT sends back what is meant for its own outside address (a hairpin, RFC 4787, 6).

Two fresh local ports let the server see them; then each listens, and dials the outside endpoint of the other.  Dials
that cross pass every kind of filtering, so only the hairpin decides.  What connects shows a token, so no stranger
counts.

Laws of this file:

1. Only endpoints that the server saw of these two ports are dialled, and only if a peer's might be.
2. The check ends within ``CHECK_S`` + ``CROSS_S`` seconds and leaves nothing behind.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import cast

from twisted.internet.interfaces import IProtocol, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from p2pxfer.core.addresses import Endpoint, canonical_endpoint, parse_endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import Observed
from p2pxfer.core.traversal.dials import Candidate
from p2pxfer.core.traversal.discovery import Hairpin
from p2pxfer.errors import AddressRefused, P2pxferError
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.traversal.flight import Opener
from p2pxfer.net.traversal.freshports import fresh_ports
from p2pxfer.net.traversal.puncher import Puncher
from p2pxfer.net.traversal.servercheck import ServerCheck
from p2pxfer.net.types import Reactor

CHECK_S = 5.0
"""How long the server may take to see both ports, seconds."""
CROSS_S = 2.5
"""How long the two dials may take, seconds: a SYN is repeated after one."""
MAX_GUESTS = 8
TOKEN = 16


class _Guest(Protocol):
    """A connection of one of the ports: shows the token, and reads what the other end shows."""

    def __init__(self, check: HairpinCheck, mine: bytes, theirs: bytes) -> None:
        self._check = check
        self._mine = mine
        self._theirs = theirs
        self._data = b""

    def connectionMade(self) -> None:
        """Show this side's token."""
        self._check.guests.add(self)
        cast(ITCPTransport, self.transport).write(self._mine)

    def dataReceived(self, data: bytes) -> None:
        """Compare what the other end shows, when all of it is here."""
        self._data += data
        if len(self._data) >= len(self._theirs):
            if hmac.compare_digest(self._data[: len(self._theirs)], self._theirs):
                self._check.met()
            self.leave()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The other end has gone."""
        self._check.guests.discard(self)

    def leave(self) -> None:
        """Reset the connection."""
        cast(ITCPTransport, self.transport).abortConnection()


class HairpinCheck(ServerCheck[tuple[Hairpin, str]]):
    """One check.  ``may_dial`` says whether an endpoint that the server saw may be dialled.

    ``done`` fires once with the result and, if it is unknown, why; it fails only when it is cancelled, which ends the
    check.
    """

    def __init__(
        self, reactor: Reactor, opener: Opener, target: Endpoint, may_dial: Callable[[Endpoint], bool]
    ) -> None:
        super().__init__(reactor, opener, target, fresh_ports(2))
        self._may_dial = may_dial
        self._token = os.urandom(TOKEN)
        self._seen: dict[int, Endpoint] = {}
        self._punchers: list[Puncher] = []
        self._left = MAX_GUESTS
        self.guests: set[_Guest] = set()

    def start(self) -> None:
        """Let the server see both ports."""
        self._ends_in(CHECK_S, self._end, "unknown", "the server is silent")
        self._show_ports()

    def _not_opened(self, failure: Failure) -> None:
        self._end("unknown", "the server could not be asked")

    def met(self) -> None:
        """The two ports have a connection."""
        self._end("yes", "")

    def _lost(self, link: ServerLink, error: P2pxferError) -> None:
        self._end("unknown", "the connection to the server was lost")

    def _on_message(self, link: ServerLink, message: Message) -> None:
        if not isinstance(message, Observed) or self._over:
            return
        try:
            self._seen[self._links[link]] = canonical_endpoint(parse_endpoint(message.observed))
        except AddressRefused:
            return
        if len(self._seen) == len(self._links) and not self._punchers:
            self._cross()

    def _cross(self) -> None:
        """Each port dials the other one's outside endpoint."""
        (one, seen_one), (other, seen_other) = self._seen.items()
        if not (self._may_dial(seen_one) and self._may_dial(seen_other)):
            self._end("unknown", "the outside address may not be dialled")
            return
        self._ends_in(CROSS_S, self._end, "no", "")
        for port, there, mark in ((one, seen_other, b"1"), (other, seen_one, b"2")):
            candidate = Candidate("server-reflexive", str(there.host), there.port)
            puncher = Puncher(self._reactor, port, [candidate], lambda address, mark=mark: self._guest(mark))  # type: ignore[misc]
            self._punchers.append(puncher)
        for puncher in list(self._punchers):
            puncher.start()

    def _guest(self, mark: bytes) -> IProtocol | None:
        self._left -= 1
        if self._left < 0 or self._over:
            return None
        marks = {b"1": b"2", b"2": b"1"}
        return _Guest(self, self._token + mark, self._token + marks[mark])

    def _end(self, hairpin: Hairpin, why: str) -> None:
        self._end_with((hairpin, why))

    def _release(self) -> None:
        for puncher in self._punchers:
            puncher.stop()
        for guest in list(self.guests):
            guest.leave()
