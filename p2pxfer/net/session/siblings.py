"""Further connections beside a direct path, agreed upon over that path: each is a path of its own afterwards.

Laws of this file:

1. The initiator asks.  One side uses a fresh local port, the other one the port of the path that stands, so one NAT has
   nothing new to map; which side, is tried out once and kept while it works.
2. Only the host at the other end of the path is dialled, whatever the peer says: it names nothing but ports.
3. A further connection makes its own TLS handshake with the same two keys, and its greeting says that it is one.  The
   initiator keeps the first one that greeted; all others of the same attempt are reset.
4. One attempt dials at a time, :data:`MAX_SIBLINGS` connections beside a path, :data:`OPEN_S` seconds for each attempt.
   The next attempt may overtake the word that the last one's connection is to stay, so that is still waited for.
5. The side with the fresh port listens first and dials later, when the other one must have its word, which comes behind
   data.  So SYNs cross only where a NAT needs that: of two that cross the kernel learns a round trip that is too short,
   by which ``bbr`` sets its window.
6. Who asks for more than :data:`MOST_ASKED` in that time breaks the protocol: each may cost a connection to the server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast
from typing import Protocol as Interface

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol
from twisted.python.failure import Failure

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.limits import Bucket
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.wire import Nominate, Widen, Widened
from p2pxfer.core.traversal.dials import Candidate
from p2pxfer.core.traversal.discovery import DEPENDENT, one_family
from p2pxfer.errors import AddressRefused, P2pxferError, ProtocolBreach, Unreachable
from p2pxfer.net.connection.streams import SecureBootstrap
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.session.parties import Party
from p2pxfer.net.session.path import PathOwner, PeerPath
from p2pxfer.net.session.silence import silence_s
from p2pxfer.net.traversal.flight import Flight
from p2pxfer.net.traversal.freshports import fresh_port
from p2pxfer.net.traversal.ownaddresses import endpoint_of, endpoint_text
from p2pxfer.net.traversal.puncher import Puncher
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.types import Reactor
from p2pxfer.status import PathKind

MAX_SIBLINGS = 8
"""Most connections beside the direct path of one meeting."""
OPEN_S = 4.0
"""How long one attempt may take until a connection has greeted, seconds."""
MOST_ASKED = MAX_SIBLINGS + 4
"""Most attempts asked of one side in :data:`OPEN_S`."""
MAX_GREETING = 4
"""Most connections of one attempt that have not been chosen."""

Fresh = Literal["here", "there"]
"""Whose port is a fresh one."""
MakePath = Callable[[PathKind, str, str, PeerPath, PathOwner], PeerPath]
"""Makes a path of a kind, with the texts of its two ends, beside another one, for an owner."""


class SiblingsOwner(PathOwner, Interface):
    """A meeting: what happens on the connections is told to it like what happens on others."""

    party: Party


class Siblings:
    """The further connections of one meeting, on either side.

    ``adopt`` gets each path that stands, whose events go to ``owner`` from then on.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        client: RendezvousClient,
        creator: PeerTLS,
        owner: SiblingsOwner,
        make_path: MakePath,
        adopt: Callable[[PeerPath], None],
    ) -> None:
        self._reactor = reactor
        self._client = client
        self._creator = creator
        self.asks = owner.party.role == "initiator"
        self.owner = owner
        self.make_path = make_path
        self.adopt = adopt
        self._count = 0
        self._failed: set[Fresh] = set()
        self._attempt: _Attempt | None = None
        self._last: _Attempt | None = None
        """The one before, which may still be told which connection stays."""
        self._up: set[PeerPath] = set()
        self._closed = False
        self._asking = Bucket(MOST_ASKED / OPEN_S, MOST_ASKED, reactor.seconds())

    @property
    def possible(self) -> bool:
        """Another connection may be asked for."""
        room = len(self._up) < MAX_SIBLINGS and self._attempt is None
        return room and not self._closed and len(self._failed) < len(_WAYS)

    async def open(self, beside: PeerPath) -> PeerPath | None:
        """Ask for another connection beside this path; ``None`` if none came about, in :data:`OPEN_S` or a little
        more."""
        if not self.possible:
            return None
        self._count += 1
        fresh = self._next_way(beside)
        attempt = self._attempt = _Attempt(self, self._reactor, beside, self._count)
        if fresh == "here":
            port = fresh_port()
            ports = await self._outside(attempt, port)
            if not attempt.over:
                beside.send(Widen(number=self._count, ports=ports))
                attempt.punch(port, [beside.ends[1].port], silently=True)
        else:
            beside.send(Widen(number=self._count, ports=[]))
        path = await attempt.done
        if path is None and not attempt.lost:
            self._failed.add(fresh)
            self.log.debug("no further connection came about, the fresh port was {where}", where=fresh)
        elif path is not None:
            self._failed = set(_WAYS) - {fresh}
        return path

    def _next_way(self, beside: PeerPath) -> Fresh:
        """A NAT that maps by destination would give a fresh port here an outside port that nobody can know."""
        dependent = self._client.discovery.mapping in DEPENDENT and beside.facts.kind != "lan"
        order: list[Fresh] = ["there", "here"] if dependent else ["here", "there"]
        return next(way for way in order if way not in self._failed)

    async def _outside(self, attempt: _Attempt, port: int) -> list[int]:
        """Where the peer finds a local port: the port itself, or the one that the server sees of it."""
        discovery, beside = self._client.discovery, attempt.beside
        plain = beside.facts.kind == "lan" or beside.ends[1].host.version == 6 or not discovery.views
        if plain or discovery.mapping == "none" or discovery.summary.ports == "preserving":
            return [port]
        target = one_family(discovery.views)[0].at
        flight = attempt.flight = Flight(self._reactor, self._client.open_as_seen, target, [port])
        flight.start()
        probes = await flight.done
        return [probe.seen.port for probe in probes] or [port]

    def receive(self, path: PeerPath, message: Message) -> bool:
        """A message came on a path that is up; true if it was about further connections.

        Raises:
            ProtocolBreach: it is not this side's to get, or is one too many.
        """
        match message:
            case Widen() if not self.asks:
                self._asked(path, message)
            case Widened() if self.asks:
                attempt = self._attempt
                if attempt is not None and attempt.number == message.number and not attempt.punching:
                    attempt.punch(path.ends[0].port, message.ports)
            case Widen() | Widened():
                raise ProtocolBreach(f"{type(message).__name__} came from the wrong side")
            case _:
                return False
        return True

    def _asked(self, path: PeerPath, message: Widen) -> None:
        """The initiator wants another connection; it notices by itself if there is none."""
        if not self._asking.take(self._reactor.seconds()):
            raise ProtocolBreach("the peer asked for further connections again and again")
        if self._last is not None:
            self._last.stop()
        self._last, self._attempt = self._attempt, None
        if self._last is not None:
            self._last.overtaken()
        if len(self._up) >= MAX_SIBLINGS or self._closed:
            return
        self._attempt = attempt = _Attempt(self, self._reactor, path, message.number)
        attempt.done.addErrback(lambda failure: failure.trap(CancelledError))
        if message.ports:
            attempt.punch(path.ends[0].port, message.ports)
        else:
            Deferred.fromCoroutine(self._use_fresh(attempt)).addErrback(self._broken)

    async def _use_fresh(self, attempt: _Attempt) -> None:
        port = fresh_port()
        ports = await self._outside(attempt, port)
        if not attempt.over:
            attempt.beside.send(Widened(number=attempt.number, ports=ports))
            attempt.punch(port, [attempt.beside.ends[1].port], silently=True)

    def _broken(self, failure: Failure) -> None:
        self.log.failure("a further connection", failure)

    def protocol(self, attempt: _Attempt, path: PeerPath) -> IProtocol:
        """What speaks on a TCP connection first."""
        return SecureBootstrap(self._reactor, path, self._creator, is_client=self.asks)

    def puncher(self, port: int, candidates: list[Candidate], build: Callable[[IAddress], IProtocol | None]) -> Puncher:
        """One that dials these and listens at ``port``."""
        return Puncher(self._reactor, port, candidates, build, doorman=self._client.doorman)

    def may_dial(self, endpoint: Endpoint) -> bool:
        """Not this machine's own port."""
        return endpoint not in self._client.own_endpoints

    def stands(self, attempt: _Attempt, path: PeerPath) -> None:
        """A connection was chosen."""
        self.ended(attempt)
        self._up.add(path)
        self.adopt(path)

    def ended(self, attempt: _Attempt) -> None:
        """It is over."""
        if self._attempt is attempt:
            self._attempt = None
        if self._last is attempt:
            self._last = None

    def lost(self, path: PeerPath) -> None:
        """A path of the meeting is gone; an attempt that was agreed upon over it ends."""
        self._up.discard(path)
        for attempt in (self._attempt, self._last):
            if attempt is not None and attempt.beside is path:
                attempt.lost = True
                attempt.stop()

    def close(self) -> None:
        """The meeting is over."""
        self._closed = True
        for attempt in (self._attempt, self._last):
            if attempt is not None:
                attempt.stop()


_WAYS: tuple[Fresh, ...] = ("here", "there")


class _Attempt(PathOwner):
    """One further connection that is to come about; afterwards it passes on what its path tells."""

    def __init__(self, siblings: Siblings, reactor: Reactor, beside: PeerPath, number: int) -> None:
        self.beside = beside
        self.number = number
        self.done: Deferred[PeerPath | None] = Deferred()
        self.lost = False  # the path over which it was agreed upon is gone: that says nothing about the way
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
        return self._siblings.protocol(self, path)

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
