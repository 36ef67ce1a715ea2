"""How two NATs are punched of which at least one maps by destination: from what is known of both to a plan of dials.

Laws of this file:

1. The two sides compute their halves apart, each from the same two summaries and the same order of ways; the table
   below has a row for each half.
2. A plan dials one address: the public IPv4 address at which the server itself observed the peer.  A peer that was
   observed at several has a NAT that pools addresses, which no plan here can follow: then neither side makes one.
3. A port that was only guessed is held against :data:`~p2pxfer.core.addresses.DENIED_PORTS`: whoever listens on a
   common service there is somebody else.
4. A plan dials no four-tuple twice while it is pending, nor one that is a candidate.
5. The server may say in which order ways led to a path before.  That chooses among the ways that fit both NATs and may
   let a plan begin at once; what a plan may dial, and how much, does not depend on it.

A *cone* keeps one mapping for all destinations, so its port is known.  A NAT that draws ports *at random* is met by
many tries: its side holds ports open while the cone's side walks over the address, so that the chance grows with the
product of both numbers.  A *sequential* NAT is met at the ports that come next.  Two that draw from *blocks* are met if
one of them maps by address.  One that keeps the number of a port for the first connection from it, and for no other, is
met at a *second* port, of which both sides know without a word.  Times are seconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Sequence
from functools import cache
from ipaddress import IPv4Address
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from p2pxfer.core.addresses import DENIED_PORTS, MIN_PORT, Endpoint, scope
from p2pxfer.core.messages import NatSummary
from p2pxfer.core.traversal.dialing import MAX_DIALS
from p2pxfer.core.traversal.dials import Budget, Plan, Volley
from p2pxfer.core.traversal.discovery import DEPENDENT

Kind = Literal["cone", "sequential", "random", "unknown"]
Draw = Callable[[], float]

ROUND_TRIP_S: Final = 0.2
"""The round trip to the peer where nobody has measured it."""
HEAD_START: Final = 1.5
"""When a plan begins, round trips after the introduction: single dials win where they can."""
NEWS: Final = 5.0
"""How long a plan that aims at the peer's next ports waits for news of them, round trips after the introduction."""
LASTS_S: Final = 7.5
"""How long a plan goes on."""
WALK_S: Final = 3.0
"""How long a walk rolls on before it keeps what it has, and the other side begins to draw."""
HELD: Final = 64
"""Ports that a NAT which draws at random holds open at once."""
HOLES: Final = 512
"""Dials of a walk that are pending at once."""
DRAW_PACE: Final = 250.0
DRAWS: Final = 1200
DRAWN: Final = 240
"""Draws that are pending at once: each is closed before the kernel repeats its SYN."""
AHEAD: Final = 64
"""How many of the ports that come next are dialled at a sequential NAT."""
FEW: Final = 8
FEW_IN_ALL: Final = 48
BURST: Final = 16
"""Dials of the first burst between two sequential NATs; the second has twice as many."""
SECOND_BURST_S: Final = 0.25
BLOCKS: Final = "blocks"
"""The way between two NATs that draw from a block each, the only one that takes more than their kinds."""
SECOND: Final = "second"
"""The way to a NAT that keeps the number of a local port for its first connection only; that of the punch port was the
one to the server."""
AIMED: Final = ("ahead", "meet")
"""The ways that aim at the ports which a sequential NAT gives out next."""
SINGLE: Final = "single"
"""The way that needs no plan: the candidates are dialled."""
WALKERS: Final = 8
"""Ports from which a NAT that maps by address walks over a block, half as many where both do."""
WALKED: Final = 2400
"""Most dials of such walks: the rest of the budget is for repetitions."""
WIDEST: Final = 800
"""Blocks up to this width are met by blocks."""
BAND: Final = 2048
"""Where a walk looks for a sequential NAT: so many ports from the last one that was seen."""
AT_ONCE: Final = math.inf
"""A pace that only the budget limits, dials a second."""


class Situation(Struct, frozen=True):
    """What one side knows when it plans.

    ``observed`` are the endpoints of the peer that the server saw, ``seen`` those of this side, as far as they are
    known; ``round_trip`` is an estimate in seconds.  ``order`` is what the server says of ways, the best first; both
    sides are told the same.  ``spare`` are the second ports of this side and of the peer
    (:func:`~p2pxfer.core.traversal.dials.spare_ports`).
    """

    mine: NatSummary
    theirs: NatSummary
    observed: tuple[Endpoint, ...]
    round_trip: float = ROUND_TRIP_S
    order: tuple[str, ...] = ()
    seen: tuple[Endpoint, ...] = ()
    spare: tuple[int, int] = (0, 0)


def kind(nat: NatSummary) -> Kind:
    """What matters of a NAT for a punch.

    One that keeps the number of a fresh port is as good as a cone, whatever its mapping is called.  Ports that
    change in an unknown way count as random.
    """
    match nat.mapping, nat.ports:
        case "none" | "endpoint-independent", _:
            return "cone"
        case "unknown", _:
            return "unknown"
        case _, "preserving":
            return "cone"
        case _, "sequential" if nat.step and nat.latest:
            return "sequential"
        case _:
            return "random"


def plan(situation: Situation, port: int, draw: Draw) -> Plan | None:
    """This side's half of the strategy for the two NATs, dialling from ``port`` where its port matters.

    ``None`` where single dials do all that can be done: between most cones, where too little is known, and between NATs
    of which one draws at random and the other is no cone, but for two blocks (:func:`_blocks_meet`).  ``draw`` returns
    a uniform number in [0, 1).
    """
    way = _chosen(situation)
    peer = target(situation.observed)
    # The peer plans nothing against a NAT here that pools addresses, and half a plan finds nobody.
    if way is None or peer is None or (situation.seen and target(situation.seen) is None):
        return None
    make = _TABLE[kind(situation.mine), kind(situation.theirs)][way]
    return replace(make(situation, peer, port, draw), way=way)


def ways(one: Kind, other: Kind) -> tuple[str, ...]:
    """The ways that fit two kinds of NAT, in the order in which they are tried unless the server says another."""
    return (SINGLE, *_TABLE.get((one, other), ()))


def head_start(situation: Situation) -> float:
    """How many round trips single dials are ahead of the plan: none where the server says that they rarely win."""
    known = [way for way in situation.order if way in (SINGLE, _chosen(situation))]
    return 0.0 if SINGLE in known and known[0] != SINGLE else HEAD_START


def _chosen(situation: Situation) -> str | None:
    """The way of the plan: of those that fit, the one that the server names first, or else the first."""
    fit = _TABLE.get((kind(situation.mine), kind(situation.theirs)))
    if fit is None or (BLOCKS in fit and not _blocks_meet(situation.mine, situation.theirs)):
        return None
    if SECOND in fit and not _second_helps(situation):
        return None
    return next((way for way in situation.order if way in fit), next(iter(fit)))


def wants_news(situation: Situation) -> bool:
    """True if this side's plan aims at the ports that the peer's NAT gives out next: then what was known is stale."""
    return kind(situation.theirs) == "sequential" and kind(situation.mine) in ("cone", "sequential")


def target(observed: Sequence[Endpoint]) -> Endpoint | None:
    """The one public IPv4 endpoint among ``observed`` that a plan may aim at, the first if only ports differ."""
    public = [one for one in observed if isinstance(one.host, IPv4Address) and scope(one.host) == "public"]
    alone = len({one.host for one in public}) == 1
    return public[0] if alone and public[0].port >= MIN_PORT else None


def _hold(situation: Situation, peer: Endpoint, port: int, draw: Draw) -> Plan:
    """The side whose NAT draws at random: hold ports open, and draw many more if the walk did not find one.

    Of a NAT that has only a block of ports at most three eighths are taken: other programs need some.
    """
    width = _width(situation.mine)
    held, draws = min(HELD, max(8, width // 8)), min(DRAWS, width // 8)
    most = max(held, min(Budget().syns, width // 4))
    host, ends = str(peer.host), LASTS_S
    keep = 2 * situation.round_trip
    hold = Volley("fresh", host, (peer.port,) * held, AT_ONCE, held, ends, "redraw", most)
    late = Volley(
        "fresh", host, (peer.port,) * draws, DRAW_PACE, min(DRAWN, draws), ends, "leave", draws, keep, start=WALK_S
    )
    return Plan(f"{held} ports of the NAT here were held open for the peer to find, then {draws} drawn", (hold, late))


def _walk(situation: Situation, peer: Endpoint, port: int, draw: Draw) -> Plan:
    """The cone's side: walk over the ports of the other NAT from the one port that the peer knows, then stay."""
    taken = {one.port for one in situation.observed}
    low, high = _range(situation.theirs)
    every = _all_ports()
    first = bisect_left(every, low)
    last = max(first, bisect_right(every, high))
    band = _shuffled(_without(taken, every[first:last]), Budget().syns, draw)
    rest = _without(taken, every[:first] + every[last:]) if len(band) < Budget().syns else []
    ports = band + _shuffled(rest, Budget().syns - len(band), draw)
    walk = Volley(
        port, str(peer.host), tuple(ports), Budget().rate, HOLES, LASTS_S, "leave", len(ports),
        keep=2 * situation.round_trip, rolls=WALK_S,
    )  # fmt: skip
    return Plan("ports of the peer's NAT were tried at random while the peer held some open", (walk,))


def _ahead(situation: Situation, peer: Endpoint, port: int, draw: Draw) -> Plan:
    """The cone's side: dial the ports that a sequential NAT gives out next."""
    taken = {one.port for one in situation.observed}
    ports = tuple(p for p in _next_ports(situation.theirs, AHEAD) if p not in taken)
    volley = Volley(port, str(peer.host), ports, AT_ONCE, AHEAD, LASTS_S, "redial", Budget().syns)
    return Plan(f"the next {len(ports)} ports of the peer's NAT were tried", (volley,))


def _few(situation: Situation, peer: Endpoint, port: int, draw: Draw) -> Plan:
    """The sequential side: use up a few ports, among those which the cone's side tries."""
    volley = Volley("fresh", str(peer.host), (peer.port,) * FEW, AT_ONCE, FEW, LASTS_S, "redraw", FEW_IN_ALL)
    return Plan("the peer tried the next ports of the NAT here", (volley,))


def _meet(situation: Situation, peer: Endpoint, port: int, draw: Draw) -> Plan:
    """Two sequential sides: every dial goes to one port that the other side's own dials will have come past.

    Dials of one side and the port aimed at by the other need not correspond, so other connections of either network
    only shift the burst; it meets while fewer than the burst's length have come between.
    """
    volleys = []
    before = 0
    for number, start in ((BURST, 0.0), (2 * BURST, SECOND_BURST_S)):
        ports = _next_ports(situation.theirs, before + number - 1)[-1:]
        volleys.append(
            Volley(
                "fresh", str(peer.host), tuple(ports) * number, AT_ONCE, number, LASTS_S, "leave", number, start=start
            )
        )
        before += number
    return Plan(f"bursts of {BURST} and {2 * BURST} dials were aimed at ports that the peer's NAT gives out next",
                tuple(volleys))  # fmt: skip


def _keeps_first(nat: NatSummary) -> bool:
    """Whether the port of a dial is known if nothing was dialled from it before, and otherwise not."""
    return nat.mapping in DEPENDENT and nat.ports == "preserving"


def _second_helps(situation: Situation) -> bool:
    return all(situation.spare) and (_keeps_first(situation.mine) or _keeps_first(situation.theirs))


def _second(situation: Situation, peer: Endpoint, port: int, draw: Draw) -> Plan:
    """One dial from a second port, to a second port, or both: where nothing else was dialled from it, it is kept."""
    mine, theirs = situation.spare
    source = mine if _keeps_first(situation.mine) else port
    there = theirs if _keeps_first(situation.theirs) else peer.port
    dial = Volley(source, str(peer.host), (there,), AT_ONCE, 1, LASTS_S, "redial", MAX_DIALS)
    return Plan("a second pair of ports was tried, as a NAT keeps the first one for the server", (dial,), light=True)


def _blocks_meet(one: NatSummary, other: NatSummary) -> bool:
    """Whether two NATs with a block each can be brought together within the budget and without emptying a block.

    Where both map by port, a dial uses up a port of the block here and hits one pair of ports, of width times width, so
    ``n`` and ``n`` dials meet with the probability 1 - exp(-(n/width)^2): once in eight times for three eighths.  One
    that maps by address keeps a port for the whole of the other's block, so it tries that without using up its own.
    """
    narrow = all(nat.ports == "block" and _width(nat) <= WIDEST for nat in (one, other))
    return narrow and "address-dependent" in (one.mapping, other.mapping)


def _into_block(situation: Situation, peer: Endpoint, port: int, draw: Draw) -> Plan:
    """One of two blocks: walk over the other from a few ports, or draw ports here for the walk of the other side."""
    mine, theirs = situation.mine, situation.theirs
    taken = {one.port for one in situation.observed}
    every = _all_ports()
    band = _without(taken, every[bisect_left(every, theirs.low) : bisect_right(every, theirs.high)])
    host = str(peer.host)
    if mine.mapping != "address-dependent":
        count = _width(mine) * 3 // 8
        ports = tuple(band[int(draw() * len(band))] for _ in range(count)) if band else ()
        hold = Volley("fresh", host, ports, AT_ONCE, count, LASTS_S, "leave", count)
        return Plan(f"{count} ports of the NAT here were drawn for the peer to find", (hold,))
    both = theirs.mapping == "address-dependent"
    walkers = min(WALKERS // 2 if both else WALKERS, WALKED // max(1, len(band)))
    walks = tuple(
        Volley(
            port + number, host, tuple(_shuffled(list(band), len(band), draw)), Budget().rate / walkers,
            HOLES // walkers, LASTS_S, "redial", Budget().syns // walkers, keep=2 * situation.round_trip,
        )
        for number in range(walkers)
    )  # fmt: skip
    return Plan(f"all ports of the block of the peer's NAT were tried from {walkers} ports here", walks)


_TABLE: dict[tuple[Kind, Kind], dict[str, Callable[[Situation, Endpoint, int, Draw], Plan]]] = {
    # this side      the peer
    ("random", "cone"): {"walk": _hold},
    ("cone", "random"): {"walk": _walk},
    ("sequential", "cone"): {"ahead": _few, "walk": _hold},
    ("cone", "sequential"): {"ahead": _ahead, "walk": _walk},
    ("sequential", "sequential"): {"meet": _meet},
    ("random", "random"): {BLOCKS: _into_block},
    ("cone", "cone"): {SECOND: _second},
}
"""The halves of every way, for two kinds; a pair that is missing has no plan.  The names are part of the protocol."""


@cache
def _all_ports() -> tuple[int, ...]:
    """Every port that a walk may try, in order; made once, since it takes longer than the dials of a second."""
    return tuple(port for port in range(MIN_PORT, 65536) if port not in DENIED_PORTS)


def _range(nat: NatSummary) -> tuple[int, int]:
    """The ports among which those that the NAT gives out are expected, first and last."""
    if nat.ports != "sequential":
        return nat.low, nat.high
    return (nat.latest, nat.latest + BAND) if nat.step > 0 else (nat.latest - BAND, nat.latest)


def _width(nat: NatSummary) -> int:
    """How many ports the NAT draws from; all of them unless they are known to be a block."""
    return nat.high - nat.low + 1 if nat.ports == "block" and nat.high > nat.low else 65536 - MIN_PORT


def _next_ports(nat: NatSummary, count: int) -> list[int]:
    """The ports that a sequential NAT gives out next and that may be guessed at, in order."""
    ahead = (nat.latest + nat.step * ahead for ahead in range(1, count + 1))
    return [port for port in ahead if MIN_PORT <= port <= 65535 and port not in DENIED_PORTS]


def _without(taken: Collection[int], ports: Sequence[int]) -> list[int]:
    left = list(ports)
    for port in taken:
        if port in left:
            left.remove(port)
    return left


def _shuffled(ports: list[int], count: int, draw: Draw) -> list[int]:
    """At most ``count`` of ``ports`` in random order (the head of a Fisher-Yates shuffle)."""
    count = min(count, len(ports))
    for index in range(count):
        other = index + int(draw() * (len(ports) - index))
        ports[index], ports[other] = ports[other], ports[index]
    return ports[:count]
