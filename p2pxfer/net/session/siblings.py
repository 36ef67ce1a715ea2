"""Further connections beside a direct path, agreed upon over that path: each is a path of its own afterwards.

Laws of this file:

1. The initiator asks.  One side uses a fresh local port, the other one the port of the path that stands, so one NAT has
   nothing new to map; which side, is tried out once and kept while it works.
2. A further connection makes its own TLS handshake with the same two keys, and its greeting says that it is one.
3. One attempt (:mod:`p2pxfer.net.session.siblingattempt`) dials at a time, :data:`MAX_SIBLINGS` connections beside a
   path.  The next attempt may overtake the word that the last one's connection is to stay, so that is still waited for.
4. The side with the fresh port listens first and dials later, when the other one must have its word, which comes behind
   data.  So SYNs cross only where a NAT needs that: of two that cross the kernel learns a round trip that is too short,
   by which ``bbr`` sets its window.
5. Who asks for more than :data:`MOST_ASKED` in :data:`OPEN_S` seconds breaks the protocol: each may cost a connection
   to the server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.python.failure import Failure

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.limits import Bucket
from p2pxfer.core.session.wire import Widen, Widened
from p2pxfer.core.traversal.dials import Candidate
from p2pxfer.core.traversal.discovery import DEPENDENT, one_family
from p2pxfer.errors import ProtocolBreach
from p2pxfer.net.connection.streams import SecureBootstrap
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.siblingattempt import OPEN_S, AttemptOwner, MakePath, SiblingAttempt, SiblingsOwner
from p2pxfer.net.traversal.flight import Flight
from p2pxfer.net.traversal.freshports import fresh_port
from p2pxfer.net.traversal.puncher import Puncher
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.types import Reactor

MAX_SIBLINGS = 8
"""Most connections beside the direct path of one meeting."""
MOST_ASKED = MAX_SIBLINGS + 4
"""Most attempts asked of one side in :data:`OPEN_S`."""

Fresh = Literal["here", "there"]
"""Whose port is a fresh one."""


class Siblings(AttemptOwner):
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
        self._attempt: SiblingAttempt | None = None
        self._last: SiblingAttempt | None = None
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
        attempt = self._attempt = SiblingAttempt(self, self._reactor, beside, self._count)
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

    async def _outside(self, attempt: SiblingAttempt, port: int) -> list[int]:
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
        self._attempt = attempt = SiblingAttempt(self, self._reactor, path, message.number)
        attempt.done.addErrback(lambda failure: failure.trap(CancelledError))
        if message.ports:
            attempt.punch(path.ends[0].port, message.ports)
        else:
            Deferred.fromCoroutine(self._use_fresh(attempt)).addErrback(self._broken)

    async def _use_fresh(self, attempt: SiblingAttempt) -> None:
        port = fresh_port()
        ports = await self._outside(attempt, port)
        if not attempt.over:
            attempt.beside.send(Widened(number=attempt.number, ports=ports))
            attempt.punch(port, [attempt.beside.ends[1].port], silently=True)

    def _broken(self, failure: Failure) -> None:
        self.log.failure("a further connection", failure)

    def protocol(self, path: PeerPath) -> IProtocol:
        """See :class:`~p2pxfer.net.session.siblingattempt.AttemptOwner`."""
        return SecureBootstrap(self._reactor, path, self._creator, is_client=self.asks)

    def puncher(self, port: int, candidates: list[Candidate], build: Callable[[IAddress], IProtocol | None]) -> Puncher:
        """See :class:`~p2pxfer.net.session.siblingattempt.AttemptOwner`."""
        return Puncher(self._reactor, port, candidates, build, doorman=self._client.doorman)

    def may_dial(self, endpoint: Endpoint) -> bool:
        """See :class:`~p2pxfer.net.session.siblingattempt.AttemptOwner`."""
        return endpoint not in self._client.own_endpoints

    def stands(self, attempt: SiblingAttempt, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.siblingattempt.AttemptOwner`."""
        self.ended(attempt)
        self._up.add(path)
        self.adopt(path)

    def ended(self, attempt: SiblingAttempt) -> None:
        """See :class:`~p2pxfer.net.session.siblingattempt.AttemptOwner`."""
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
