"""The rendezvous server on sockets: the driver of the machine that decides.

It feeds :mod:`p2pxfer.core.server.registry` with what happens, carries out the effects, and owns what that takes: the
store, admission, the relays and the one timer.  No decision about names, introductions or relays is made here.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from p2pxfer.core.addresses import observed_endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.limits import Buckets
from p2pxfer.core.messages import ALPN_SERVER, CrossOutcome, DialOutcome, Failure, Introduction, KnockOutcome
from p2pxfer.core.server.effects import (
    Abort,
    Claim,
    ClaimName,
    Close,
    CrossOut,
    DialOut,
    Effect,
    Listening,
    OpenDeaf,
    PairRelay,
    Send,
    ServerSettings,
    TouchName,
)
from p2pxfer.core.server.experience import Row
from p2pxfer.core.server.links import Role
from p2pxfer.core.server.registry import Registry
from p2pxfer.core.text import safe_text
from p2pxfer.errors import FrameError
from p2pxfer.net.connection.tls import Creator, peer_tls
from p2pxfer.net.private.identity import Identity
from p2pxfer.net.server.admission import Admission, AdmissionSettings
from p2pxfer.net.server.clientconn import Doors, ServerConnection
from p2pxfer.net.server.deafport import DeafPort
from p2pxfer.net.server.dialback import dial_back
from p2pxfer.net.server.knock import knock
from p2pxfer.net.server.relay import Relay
from p2pxfer.net.server.store import NameStore

CLOSE_S = 5.0
"""How long a refused client may take to read the reason, seconds."""
TICK_S = 1.0
KEEP_S = 60.0
"""How often what punches taught goes to the disk, if there is something new, seconds."""
LOG_LINES_A_MINUTE = 100
"""Most lines of one kind in the log."""


class RendezvousServer:
    """One server.  ``start`` before the first connection, ``stop`` at the end."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        identity: Identity,
        store: NameStore,
        *,
        settings: ServerSettings,
        admission: AdmissionSettings,
        clock: IReactorTime | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """``clock`` tells time and keeps deadlines; the reactor itself unless a test brings its own."""
        self.reactor = reactor
        self.clock: IReactorTime = clock if clock is not None else cast(IReactorTime, reactor)
        self.creator: Creator = peer_tls(identity, None, ALPN_SERVER)
        self.registry = Registry(entropy, settings, self.clock.seconds())
        self.admission = Admission(self.clock, admission)
        self.relays: set[Relay] = set()
        self.relayed_bytes = 0
        """Bytes carried by relays that have ended."""
        self.introductions = 0
        """Pairs of clients that were introduced."""
        self.refused: Counter[str] = Counter()
        """How often which error word was sent."""
        self._store = store
        self._connections: dict[int, ServerConnection] = {}
        self._deaf_ports: dict[int, DeafPort] = {}
        self._numbers = itertools.count(1)
        self._kept_at = self.clock.seconds()
        self._remembers = False
        self._lines = Buckets(LOG_LINES_A_MINUTE / 60, LOG_LINES_A_MINUTE)
        self._ticker = LoopingCall(self._tick)
        self._ticker.clock = self.clock

    def start(self, listening: Listening) -> None:
        """Begin: the ports are open at ``listening``."""
        self.registry.listens(listening)
        self._store.start()
        self._store.kept().addCallback(self._remember)
        self._ticker.start(TICK_S, now=False)

    def stop(self) -> None:
        """End every connection and close the store."""
        if self._ticker.running:
            self._ticker.stop()
        for number, connection in list(self._connections.items()):
            self.lost(number)
            connection.abort()
        self._keep_experience()
        self._store.close()

    @property
    def carried(self) -> int:
        """Bytes carried by relays, those that stand with them."""
        return self.relayed_bytes + sum(sum(relay.counts) for relay in self.relays)

    def factory(self) -> Factory:
        """What to listen with, on every port."""
        return Doors(self)

    def note(self, kind: str, text: str, **fields: object) -> None:
        """One line in the log, unless there were too many of its ``kind`` in the last minute."""
        if self._lines.take(kind, self.clock.seconds()):
            self.log.info(text, log_kind=kind, **fields)

    # -- what connections tell -----------------------------------------------------------------------------------

    def opened(self, connection: ServerConnection, key: bytes) -> int:
        """TLS stands; returns the connection's number."""
        number = next(self._numbers)
        self._connections[number] = connection
        here, there = connection.tls.getHost(), connection.tls.getPeer()
        self._apply(
            self.registry.opened(
                number,
                key,
                observed_endpoint(there.host, there.port),
                observed_endpoint(here.host, here.port),
                self.clock.seconds(),
                connection.tls.round_trip,
            )
        )
        return number

    def received(self, number: int, message: Message) -> Role:
        """A message came; returns what the connection is now."""
        self._apply(self.registry.received(number, message, self.clock.seconds()))
        return self.registry.role(number)

    def broken(self, number: int, error: FrameError) -> None:
        """Something came that is no message."""
        self.note("frame", "refused a frame: {why}", why=safe_text(str(error), 200))
        self._apply(self.registry.broken(number, error, self.clock.seconds()))

    def lost(self, number: int) -> None:
        """A connection is gone."""
        if number in self._deaf_ports:
            self._deaf_ports[number].close()
        if self._connections.pop(number, None) is not None:
            self._apply(self.registry.lost(number, self.clock.seconds()))

    # -- what the machine says -----------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = self.clock.seconds()
        self._apply(self.registry.tick(now))
        if now - self._kept_at >= KEEP_S:
            self._keep_experience()

    def _remember(self, kept: tuple[list[Row], float] | None) -> None:
        if kept is not None:
            self.registry.experience.load(*kept, self.clock.seconds())
            self._remembers = True

    def _keep_experience(self) -> None:
        experience, self._kept_at = self.registry.experience, self.clock.seconds()
        # What could not be read is not written over.
        if experience.changed and self._remembers:
            experience.changed = False
            self._store.keep(experience.rows(self._kept_at))

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(conn, message):
                    self._count(message)
                    self._connections[conn].send(message)
                case Close(conn):
                    self._connections[conn].close_within(CLOSE_S)
                case Abort(conn):
                    self._connections[conn].abort()
                case ClaimName(conn, name, key, may_create):
                    self._store.claim(name, key, may_create).addCallback(self._claimed, conn)
                case TouchName(name, key):
                    self._store.touch(name, key)
                case DialOut():
                    self._dial_out(effect)
                case OpenDeaf():
                    self._open_deaf(effect)
                case CrossOut(conn):
                    self._deaf_ports[conn].cross()
                case PairRelay(one, other, limit):
                    self._pair(self._connections[one], self._connections[other], limit)

    def _count(self, message: Message) -> None:
        match message:
            case Failure(word):
                self.refused[word] += 1
            case Introduction(initiator=True):
                self.introductions += 1

    def _claimed(self, claim: Claim, conn: int) -> None:
        self._apply(self.registry.name_claimed(conn, claim, self.clock.seconds()))

    def _dial_out(self, order: DialOut) -> None:
        """Dial back and knock at once, and tell both outcomes together."""
        back: list[list[DialOutcome]] = []
        knocked: list[KnockOutcome] = []

        def take(into: list[Any], outcome: object) -> None:
            """Keep an outcome; when both are there, the registry hears of them."""
            into.append(outcome)
            if back and knocked:
                self._apply(self.registry.dialled(order.conn, back[0], knocked[0], self.clock.seconds()))

        dial_back(self.reactor, order.target, order.sources, order.token, partial(take, back))
        knock(self.reactor, order.unopened, order.sources[0], partial(take, knocked))

    def _open_deaf(self, order: OpenDeaf) -> None:
        port = 0
        try:
            opened = DeafPort(self.reactor, order.at, order.target, partial(self._crossed, order.conn))
        except OSError as error:
            self.note("deaf", "no port to cross from: {why}", why=str(error))
            self.clock.callLater(0, self._crossed, order.conn, "not-tried")
        else:
            self._deaf_ports[order.conn] = opened
            port = opened.port
        self._apply(self.registry.deaf(order.conn, port, self.clock.seconds()))

    def _crossed(self, conn: int, outcome: CrossOutcome) -> None:
        self._deaf_ports.pop(conn, None)
        self._apply(self.registry.crossed(conn, outcome, self.clock.seconds()))

    def _pair(self, one: ServerConnection, other: ServerConnection, limit: int) -> None:
        for leg in (one, other):
            leg.prepare_relay()
        relay = Relay(one, other, self.clock, self._relay_ended, limit)
        self.relays.add(relay)
        for leg in (one, other):
            leg.become_leg(relay)

    def _relay_ended(self, relay: Relay) -> None:
        self.relays.discard(relay)
        self.relayed_bytes += sum(relay.counts)
        self.note(
            "relay",
            "relay ended after {seconds:.1f} s: {up} and {down} bytes{why}",
            seconds=self.clock.seconds() - relay.started,
            up=relay.counts[0],
            down=relay.counts[1],
            why=f", {relay.why}" if relay.why else "",
        )
