"""Connections to one service of a contact, over one session at a time that is begun again when it is lost.

Laws of this file:

1. A session that fails takes its connections with it.  If there was one before, or the peer is expected, another one is
   begun after a pause, and so on until :meth:`Calling.close`.
2. Whoever wants a connection waits for a session, but no longer than the patience; so many may wait at once.
3. ``ended`` fires once, with what no other session would change: the peer refuses this machine, it is another one, or
   it was never there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol

from p2pxfer.core.backoff import Backoff
from p2pxfer.core.ownnames import waiting_name
from p2pxfer.errors import IdentityMismatch, Interrupted, LimitReached, P2pxferError, Refused, Unreachable
from p2pxfer.net.services.peeraddress import PeerAddress
from p2pxfer.net.services.streamsession import Streams
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.pairsession import Appointment, PairSession
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.status import Note

MAX_WAITING = 256
"""Most that wait for a session at once."""
LONGEST_PAUSE_S = 5.0
"""Longest pause between two sessions, seconds."""
FINAL = (IdentityMismatch, LimitReached, Refused)
"""What ends it although there was a session before."""


def service_appointment(peer: KnownPeer, service: str, *, expected: bool) -> Appointment:
    """Where the user of a service finds who exposes it."""
    absent = f"{peer.shown} does not expose {service} now"
    return Appointment(asks=True, name=waiting_name(peer.key, service), absent=absent, expected=expected)


class Calling:
    """See the laws above.

    A peer that is ``expected`` may come later.
    """

    def __init__(
        self,
        machine: Machine,
        peer: KnownPeer,
        service: str,
        *,
        expected: bool,
    ) -> None:
        self.ended: Deferred[P2pxferError] = Deferred()
        self.on_empty: Callable[[], None] | None = None
        """Called when the last connection has ended."""
        self._machine = machine
        self._reactor = machine.reactor
        self._peer = peer
        self._service = service
        self._expected = expected
        self._client: RendezvousClient | None = None
        self._session: PairSession | None = None
        self._streams: Streams | None = None
        self._waiting: list[Deferred[None]] = []
        self._pause: IDelayedCall | None = None
        self._backoff = Backoff(random.random, longest=LONGEST_PAUSE_S)
        self._leaving: set[Deferred[None]] = set()
        self._over: P2pxferError | None = None

    def start(self, client: RendezvousClient) -> None:
        """Begin to look for the peer through ``client``."""
        self._client = client
        self._begin()

    def connect(self, build: Callable[[IAddress], IProtocol | None]) -> Deferred[IProtocol]:
        """A connection with the protocol that ``build(address of the peer)`` makes.

        Fails with the reason of the peer, or :class:`~p2pxfer.errors.P2pxferError` where no session came about in time.
        """
        answer = Deferred.fromCoroutine(self._connect(build))
        return answer.addTimeout(self._machine.patience, self._reactor, self._too_late)

    async def _connect(self, build: Callable[[IAddress], IProtocol | None]) -> IProtocol:
        while self._over is None:
            if self._session is not None and self._session.met.called and self._streams is not None:
                return await self._streams.open(self._service, build)
            if len(self._waiting) >= MAX_WAITING:
                raise LimitReached("too many connections wait for the peer")
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
        raise self._over

    def _too_late(self, result: object, timeout: float) -> IProtocol:
        raise Unreachable(f"no connection to {self._service} of {self._peer.shown} came about in {timeout:.0f} seconds")

    @property
    def connections(self) -> int:
        """How many there are, or are being asked for."""
        return 0 if self._streams is None else len(self._streams)

    def fail(self, error: P2pxferError) -> None:
        """End everything with this error, which no other session would change."""
        self._end(error)
        if not self.ended.called:
            self.ended.callback(error)

    async def close(self, *, stopped: bool = False) -> None:
        """End all connections, and the session in good order; ``stopped`` as for the session."""
        self._end(Interrupted("the program is ending"))
        if self._session is not None:
            session, self._session = self._session, None
            await session.finish(stopped=stopped)
            session.close()
        await gatherResults(list(self._leaving))

    # -- sessions ----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._pause = None
        assert self._client is not None
        there = PeerAddress(self._peer.id, self._peer.name, self._service)
        here = PeerAddress(str(self._machine.identity.id), None, self._service)
        streams = Streams(self._reactor, here, there, on_empty=self._empty)
        session = PairSession(
            self._machine,
            self._peer,
            on_event=streams.event,
            on_settled=streams.settled,
            appointment=service_appointment(self._peer, self._service, expected=self._expected),
        )
        streams.attach(session)
        session.met.addCallback(self._met)
        session.failed.addCallback(partial(self._failed, session, streams))
        self._session, self._streams = session, streams
        session.start(self._client)

    def _met(self, _: None) -> None:
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    def _empty(self) -> None:
        if self.on_empty is not None:
            self.on_empty()

    def _failed(self, session: PairSession, streams: Streams, error: P2pxferError) -> None:
        self._session = self._streams = None
        final = isinstance(error, FINAL) or not (self._expected or session.met.called)
        # Whoever hears of it may want another connection at once: that one waits for the next session.
        if final:
            self._over = self._over or error
        streams.lost(error)
        leaving = Deferred.fromCoroutine(session.leave())
        self._leaving.add(leaving)
        leaving.addBoth(partial(self._left, session, leaving))
        if final:
            self.fail(error)
            return
        if session.met.called:
            self._expected = True
            self._backoff.reset()
            self._machine.tell(Note(f"{error.message}; its connections were reset, waiting for {self._peer.shown}"))
        self._pause = self._reactor.callLater(self._backoff.next(), self._begin)

    def _left(self, session: PairSession, leaving: Deferred[None], _: object) -> None:
        self._leaving.discard(leaving)
        session.close()

    def _end(self, error: P2pxferError) -> None:
        self._over = self._over or error
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._streams is not None:
            streams, self._streams = self._streams, None
            streams.lost(error)
        self._met(None)
