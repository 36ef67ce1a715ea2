"""One of the two machines of a world: its boxes, its sockets, what it dials and what it has sent."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

from p2pxfer.core.traversal.course import Course
from p2pxfer.core.traversal.dialing import DialSchedule, Orders
from p2pxfer.core.traversal.dials import Candidate, Dial, Plan
from p2pxfer.core.traversal.ledger import Ledger
from scripts.poplib.nats import OPEN, Address, Nat, NatKind

MAPPED_PORT = 19999


@dataclass(frozen=True)
class Machine:
    """One machine of a pair: the boxes between it and the internet from the inside out, and what else leads to it.

    ``server`` is the delay to the server, one way in seconds.  ``mapped``: its router was asked for a port and gave it.
    ``ipv6`` is the firewall before its IPv6 address, ``None`` if it has none.
    """

    boxes: tuple[NatKind, ...] = (OPEN,)
    server: float = 0.02
    mapped: bool = False
    ipv6: NatKind | None = None


@dataclass(eq=False, slots=True)
class Socket:
    """A connecting socket: SYN_SENT until it is gone."""

    local: int
    remote: Address
    dial: Dial
    alive: bool = True


class SingleDial:
    """What most programs do: dial each candidate once, at the same moment as the peer, and wait."""

    syns = 0

    def __init__(self, candidates: list[Candidate], port: int) -> None:
        self._dials = [Dial(port, candidate.host, candidate.port) for candidate in dict.fromkeys(candidates)]

    def due(self, now: float) -> Orders:
        dials, self._dials = self._dials, []
        return Orders(dial=dials)

    def wake(self) -> float | None:
        return None

    def add(self, plan: Plan, now: float) -> None:
        raise AssertionError("there are no plans with single dials")

    def failed(self, dial: Dial, now: float, *, icmp: bool = False) -> None:
        """Nothing is dialled again."""

    def connected(self, dial: Dial) -> None:
        """Nothing else is under way."""


@dataclass(eq=False)
class Side:
    """One machine at work: its boxes, its sockets, its schedule, what it sent."""

    machine: Machine
    address: str
    port: int
    nats: list[Nat]
    ipv6: list[Nat]
    rng: random.Random
    schedule: DialSchedule | SingleDial = field(init=False)
    course: Course = field(init=False)
    ledger: Ledger = field(default_factory=Ledger)
    sockets: dict[Dial, Socket] = field(default_factory=dict)
    bound: dict[tuple[int, Address], Socket] = field(default_factory=dict)
    stuck: set[tuple[int, Address]] = field(default_factory=set)
    """Four-tuples that the listener holds half open."""
    fresh: itertools.count[int] = field(default_factory=lambda: itertools.count(28000))
    syns: list[float] = field(default_factory=list)
    """When the SYNs of the plan left, the kernel's repetitions with them."""
    sent: int = 0
    """All SYNs, those of the candidates with them."""
    dialled: list[tuple[float, Dial]] = field(default_factory=list)
    wake_at: float | None = None
    allowed: bool = False

    @property
    def nat(self) -> Nat:
        """The outermost box, whose addresses the world sees."""
        return self.nats[-1]

    def path(self, host: str) -> list[Nat]:
        """The boxes on the way to and from ``host``'s kind of address."""
        return self.ipv6 if ":" in host else self.nats

    def out(self, local: int, remote: Address, now: float) -> Address | None:
        """Where a SYN comes from in the end; ``None`` if a box has no port for it."""
        source: Address | None = None
        for nat in self.path(remote[0]):
            if (source := nat.out(local, remote, now)) is None:
                return None
            local = source[1]
        return source

    def give_up(self, local: int, remote: Address) -> None:
        """The connection from ``local`` is gone, without a word to the boxes: for one it was all that it had."""
        for nat in self.path(remote[0]):
            outside = nat.closed(local, remote)
            if outside is None:
                return
            local = outside[1]


def side_of(machine: Machine, index: int, rng: random.Random) -> Side:
    """The side number ``index``; only its outermost box has a public address."""
    inner = [f"192.168.{number}.1" for number in range(len(machine.boxes) - 1)]
    addresses = [*inner, f"198.18.{index + 1}.1"]
    nats = [
        Nat(kind, address, random.Random(rng.random())) for kind, address in zip(machine.boxes, addresses, strict=True)
    ]
    ipv6 = [] if machine.ipv6 is None else [Nat(machine.ipv6, f"2001:db8::{index + 1}", random.Random(rng.random()))]
    side = Side(machine, addresses[-1], 20000 + index, nats, ipv6, random.Random(rng.random()))
    if machine.mapped:
        side.nat.open_port(side.port, MAPPED_PORT)
    return side
