"""One attempt at a further connection beside a direct path, from the agreement to the connection that stays.

Laws of this file:

1. Only the host at the other end of the path is dialled, whatever the peer says: it names nothing but ports.
2. The initiator keeps the first connection that greeted; all others of the attempt are reset.
3. It ends after :data:`OPEN_S` seconds with a path or with none, and says so once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol as Interface
from typing import cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.wire import Nominate
from p2pxfer.core.traversal.dials import Candidate
from p2pxfer.errors import AddressRefused, P2pxferError, Unreachable
from p2pxfer.net.session.parties import Party
from p2pxfer.net.session.path import PathOwner, PeerPath
from p2pxfer.net.session.silence import silence_s
from p2pxfer.net.traversal.flight import Flight
from p2pxfer.net.traversal.ownaddresses import endpoint_of, endpoint_text
from p2pxfer.net.traversal.puncher import Puncher
from p2pxfer.net.types import Reactor
from p2pxfer.status import PathKind

OPEN_S = 4.0
"""How long one attempt may take until a connection has greeted, seconds."""
MAX_GREETING = 4
"""Most connections of one attempt that have not been chosen."""
MakePath = Callable[[PathKind, str, str, PeerPath, PathOwner], PeerPath]
"""Makes a path of a kind, with the texts of its two ends, beside another one, for an owner."""


class SiblingsOwner(PathOwner, Interface):
    """A meeting: what happens on the connections is told to it like what happens on others."""

    party: Party


class AttemptOwner(Interface):
    """All further connections of one meeting, as one attempt sees them."""

    owner: SiblingsOwner
    asks: bool
    make_path: MakePath

    def protocol(self, path: PeerPath) -> IProtocol:
        """What speaks on a TCP connection first."""

    def puncher(self, port: int, candidates: list[Candidate], build: Callable[[IAddress], IProtocol | None]) -> Puncher:
        """One that dials these and listens at ``port``."""

    def may_dial(self, endpoint: Endpoint) -> bool:
        """Not this machine's own port."""

    def stands(self, attempt: SiblingAttempt, path: PeerPath) -> None:
        """A connection was chosen."""

    def ended(self, attempt: SiblingAttempt) -> None:
        """It is over."""


class SiblingAttempt(PathOwner):
    """One further connection that is to come about; afterwards it passes on what its path tells."""

    def __init__(self, siblings: AttemptOwner, reactor: Reactor, beside: PeerPath, number: int) -> None:
        self.beside = beside
        self.number = number
        self.done: Deferred[PeerPath | None] = Deferred()
        self.lost = False
        """The path over which it was agreed upon is gone: that says nothing about the way."""
        self.flight: Flight | None = None
        """Asks the server for outside ports; ends with the attempt."""
        self._siblings = siblings
        self._port = 0
        self._puncher: Puncher | None = None
        self._greeting: set[PeerPath] = set()
        self._chosen: PeerPath | None = None
        self._deadline: IDelayedCall = reactor.callLater(OPEN_S, self.stop)

    @property
    def over(self) -> bool:
        """It has come to something, or to nothing."""
        return self._chosen is not None or bool(self.done.called)

    @property
    def punching(self) -> bool:
        """It was told what to dial."""
        return self._puncher is not None

    def punch(self, port: int, ports: list[int], *, silently: bool = False) -> None:
        """Listen at the local ``port``, and dial these ports of the peer from there, ``silently`` later."""
        local, remote = self.beside.ends
        own = str(local.host) if local.host.version == 6 else ""
        wanted = [Endpoint(remote.host, one) for one in ports]
        candidates = [
            Candidate("server-reflexive", str(one.host), one.port, own)
            for one in wanted
            if self._siblings.may_dial(one)
        ]
        if candidates and not self.over:
            self._port = port
            self._puncher = self._siblings.puncher(port, candidates, self._protocol)
            self._puncher.start(silence_s(self.beside) if silently else 0.0)

    def stop(self) -> None:
        """End what has not come to a path."""
        if self._deadline.active():
            self._deadline.cancel()
        if self._puncher is not None:
            self._puncher.stop()
        for path in list(self._greeting):
            path.fail(Unreachable("another connection was chosen, or none in time"))
        if not self.over:
            self._siblings.ended(self)
            self.done.callback(None)
        if self.flight is not None:
            self.flight.stop()  # whoever waits for its answer finds the attempt over

    def overtaken(self) -> None:
        """Only what has connected may still be chosen."""
        if self._puncher is not None:
            self._puncher.stop()
        else:
            self.stop()

    def _protocol(self, address: IAddress) -> IProtocol | None:
        there = cast(IPv4Address | IPv6Address, address)
        try:
            same_host = endpoint_of(there).host == self.beside.ends[1].host
        except AddressRefused:  # a neighbour's link-local address
            return None
        if self.over or not same_host or len(self._greeting) >= MAX_GREETING:
            return None
        remote = endpoint_text(there.host, there.port)
        path = self._siblings.make_path(self.beside.facts.kind, f"port {self._port}", remote, self.beside, self)
        self._greeting.add(path)
        return self._siblings.protocol(path)

    def _choose(self, path: PeerPath) -> None:
        self._chosen = path
        self._greeting.discard(path)
        self.stop()
        self._siblings.stands(self, path)
        self.done.callback(path)

    # -- from the connections ------------------------------------------------------------------------------------

    def path_greeted(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        if self._siblings.asks and self._chosen is None:
            path.send(Nominate())
            self._choose(path)

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        if path is self._chosen:
            self._siblings.owner.path_message(path, message)
        elif isinstance(message, Nominate) and not self._siblings.asks and self._chosen is None:
            self._choose(path)

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        self._siblings.owner.path_chunk(path, chunk)

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        if path is self._chosen:
            self._siblings.owner.path_writable(path)

    def path_lost(self, path: PeerPath, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        self._greeting.discard(path)
        if path is self._chosen:
            self._siblings.owner.path_lost(path, error)
