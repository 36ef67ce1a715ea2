"""Two NATs with a delay between them, in virtual time: the world in which schedules and strategies are tried.

Both sides run the real :class:`~p2pxfer.core.dialing.DialSchedule` with the real plans.  A SYN travels from a socket
through the near NAT, which gives it a port, over the delay, to the far NAT, which lets it in or not.  What a TCP does
with it is modelled as far as it matters here: a SYN that meets a connecting socket is a simultaneous open, one that
meets the listener is accepted, a RST ends a connecting socket, an unanswered SYN is repeated as Linux repeats it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.dialing import REPEATS, Candidate, Dial, DialSchedule
from p2pxfer.core.messages import NatSummary
from p2pxfer.core.strategies import HEAD_START, ROUND_TRIP_S, Situation, plan

PUNCH_S = 10.0
Address = tuple[str, int]


@dataclass(frozen=True)
class NatKind:
    """``mapping``: one port for all destinations or one for each; ``ports``: how it is chosen.

    ``simo``: a bare SYN may enter a flow that was opened from inside (simultaneous open).  ``busy``: connections of
    other machines behind the same NAT, each second.
    """

    mapping: Literal["endpoint-independent", "port-dependent"] = "endpoint-independent"
    ports: Literal["preserving", "random", "sequential"] = "preserving"
    filtering: Literal["none", "address", "port"] = "port"
    unsolicited: Literal["drop", "rst"] = "drop"
    simo: bool = True
    low: int = 1024
    high: int = 65535
    busy: float = 0.0


@dataclass(eq=False)
class Socket:
    """A connecting socket: SYN_SENT until it is gone."""

    local: int
    remote: Address
    dial: Dial
    alive: bool = True


class Nat:
    """The translation of one side."""

    def __init__(self, kind: NatKind, address: str, rng: random.Random) -> None:
        self.kind = kind
        self.address = address
        self.rng = rng
        self.mapping: dict[object, int] = {}
        self.inside: dict[int, int] = {}
        self.flows: dict[tuple[int, Address], int] = {}
        self.permitted: set[tuple[int, str]] = set()
        self._next = rng.randrange(40000, 41000)
        self._since = 0.0
        self.latest = 0

    def out(self, local: int, remote: Address, now: float) -> int:
        """The outside port for a SYN from ``local`` to ``remote``; the flow exists from now on."""
        key: object = local if self.kind.mapping == "endpoint-independent" else (local, remote)
        port = self.mapping.get(key)
        if port is None:
            port = self.mapping[key] = self._choose(local, now)
        self.latest = port
        self.inside[port] = local
        self.flows[port, remote] = local
        self.permitted.add((port, remote[0]))
        return port

    def _choose(self, local: int, now: float) -> int:
        if self.kind.ports == "preserving":
            return local
        if self.kind.ports == "random":
            return self.kind.low + int(self.rng.random() * (self.kind.high - self.kind.low + 1))
        while self.kind.busy:
            gap = self.rng.expovariate(self.kind.busy)
            if self._since + gap > now:
                break
            self._since += gap
            self._next += 1
        self._since = now
        self._next += 1
        return self._next

    def forget(self, port: int, remote: Address, local: int) -> None:
        """A RST passed: the flow is gone, and its mapping if it was of this destination alone."""
        self.flows.pop((port, remote), None)
        if self.kind.mapping != "endpoint-independent":
            self.mapping.pop((local, remote), None)

    def lets_in(self, port: int, source: Address) -> int | None:
        """The inside port that a bare SYN from ``source`` to ``port`` reaches."""
        if (port, source) in self.flows:
            return self.flows[port, source] if self.kind.simo else None
        if self.kind.filtering == "none" or (self.kind.filtering == "address" and (port, source[0]) in self.permitted):
            return self.inside.get(port)
        return None


@dataclass(eq=False)
class Side:
    """One machine: its sockets, its schedule, what it sent."""

    nat: Nat
    port: int
    rng: random.Random
    schedule: DialSchedule = field(init=False)
    sockets: dict[Dial, Socket] = field(default_factory=dict)
    bound: dict[tuple[int, Address], Socket] = field(default_factory=dict)
    fresh: itertools.count[int] = field(default_factory=lambda: itertools.count(28000))
    syns: list[float] = field(default_factory=list)
    dialled: list[tuple[float, Dial]] = field(default_factory=list)


class World:
    """Two sides behind ``kinds``; :meth:`run` tells after how many seconds they met, or ``None``."""

    def __init__(
        self,
        kinds: tuple[NatKind, NatKind],
        seed: int,
        *,
        delay: float = 0.04,
        skew: float = 0.01,
        known: Callable[[Nat], NatSummary] | None = None,
    ) -> None:
        rng = random.Random(seed)
        self.delay = delay
        self.skew = skew
        self.now = 0.0
        self.met: float | None = None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self.sides = tuple(
            Side(Nat(kind, f"198.18.{i + 1}.1", random.Random(rng.random())), 20000 + i, random.Random(rng.random()))
            for i, kind in enumerate(kinds)
        )
        self._known = known or summary

    def at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._number), call))

    def run(self) -> float | None:
        # Each side was seen by the server at two of its endpoints, a tenth of a second before the introduction.
        seen = []
        for side in self.sides:
            ports = [side.nat.out(side.port, ("198.18.0.10", number), 0.0) for number in (8877, 8878)]
            seen.append(tuple(Endpoint(IPv4Address(side.nat.address), port) for port in dict.fromkeys(ports)))
        known = [self._known(side.nat) for side in self.sides]
        for index, side in enumerate(self.sides):
            self.at(0.1 + index * self.skew, lambda s=side, i=index: self._introduced(s, known, i, seen[1 - i]))
        while self._events and self.met is None and self.now < PUNCH_S + 1:
            self.now, _, call = heapq.heappop(self._events)
            call()
        return self.met

    def _introduced(self, side: Side, known: list[NatSummary], index: int, peer: tuple[Endpoint, ...]) -> None:
        start = self.now
        candidates = [Candidate("server-reflexive", str(one.host), one.port) for one in peer]
        side.schedule = DialSchedule(candidates, side.port, start, start + PUNCH_S, side.rng.random)

        def begin() -> None:
            situation = Situation(known[index], known[1 - index], peer)
            if (made := plan(situation, side.port, side.rng.random)) is not None:
                side.schedule.add(made, self.now)
                self._work(side)

        self.at(start + HEAD_START * ROUND_TRIP_S, begin)
        self._work(side)

    def _work(self, side: Side) -> None:
        orders = side.schedule.due(self.now)
        for dial in orders.drop:
            self._close(side, side.sockets[dial])
        for dial in orders.dial:
            self._dial(side, dial)
        wake = side.schedule.wake()
        if wake is not None:
            # A wake-up that something else made needless does no harm.
            self.at(max(wake, self.now + 1e-4), lambda: self._woken(side))

    def _woken(self, side: Side) -> None:
        wake = side.schedule.wake()
        if wake is not None and wake <= self.now + 1e-9:
            self._work(side)

    def _dial(self, side: Side, dial: Dial) -> None:
        local = next(side.fresh) if dial.source == "fresh" else dial.source
        sock = Socket(local, (dial.host, dial.port), dial)
        assert (local, sock.remote) not in side.bound, "one four-tuple twice"
        side.sockets[dial] = side.bound[local, sock.remote] = sock
        side.dialled.append((self.now, dial))
        self._send_syn(side, sock, self.now, 0)

    def _send_syn(self, side: Side, sock: Socket, began: float, index: int) -> None:
        if not sock.alive:
            return
        if sock.dial.serial:
            side.syns.append(self.now)
        port = side.nat.out(sock.local, sock.remote, self.now)
        source = (side.nat.address, port)
        self.at(self.now + self.delay, lambda: self._arrives(self._other(side), sock, source))
        if index < len(REPEATS):
            self.at(began + REPEATS[index], lambda: self._send_syn(side, sock, began, index + 1))

    def _arrives(self, far: Side, sock: Socket, source: Address) -> None:
        port = sock.remote[1]
        local = far.nat.lets_in(port, source)
        if local is None:
            if far.nat.kind.unsolicited == "rst" and (port, source) not in far.nat.flows:
                self.at(self.now + self.delay, lambda: self._refused(self._other(far), sock, source[1]))
            return
        meets = far.bound.get((local, source))
        # A SYN that meets no connecting socket goes to the listener.  In a flow that a closed socket had opened the
        # listener's answer does not pass: a NAT that keeps track of sequence numbers awaits those of the old SYN.
        accepted = local == far.port and (port, source) not in far.nat.flows
        if (meets is not None or accepted) and sock.alive and self.met is None:
            self.met = self.now + self.delay - 0.1

    def _refused(self, side: Side, sock: Socket, port: int) -> None:
        side.nat.forget(port, sock.remote, sock.local)
        if sock.alive:
            self._close(side, sock)
            side.schedule.failed(sock.dial, self.now)
            self._work(side)

    def _close(self, side: Side, sock: Socket) -> None:
        sock.alive = False
        side.sockets.pop(sock.dial, None)
        side.bound.pop((sock.local, sock.remote), None)

    def _other(self, side: Side) -> Side:
        return self.sides[1] if side is self.sides[0] else self.sides[0]


def summary(nat: Nat) -> NatSummary:
    """What good probes would find out."""
    kind = nat.kind
    if kind.mapping == "endpoint-independent":
        return NatSummary(mapping=kind.mapping, ports="preserving" if kind.ports == "preserving" else "changed")
    if kind.ports == "sequential":
        return NatSummary(mapping=kind.mapping, ports="sequential", step=1, latest=nat.latest)
    narrow = kind.high - kind.low < 2048
    band = {"low": kind.low, "high": kind.high} if narrow else {}
    return NatSummary(mapping=kind.mapping, ports="block" if narrow else "random", **band)
