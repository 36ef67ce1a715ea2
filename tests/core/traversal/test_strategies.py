"""Plans for two NATs: tried in a modelled world with both sides' schedules, and their limits as properties."""

from __future__ import annotations

import itertools
import random
import statistics
from collections import Counter
from ipaddress import ip_address
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import replace

from p2pxfer.core.addresses import DENIED_PORTS, MIN_PORT, PUNCH_PORTS, Endpoint
from p2pxfer.core.messages import NatSummary
from p2pxfer.core.traversal.dials import Budget, Plan, spare_ports
from p2pxfer.core.traversal.discovery import Mapping
from p2pxfer.core.traversal.ledger import MOST_PLANS, QUIET_S, Ledger
from p2pxfer.core.traversal.strategies import (
    BLOCKS,
    HEAD_START,
    LASTS_S,
    SECOND,
    Draw,
    Situation,
    head_start,
    kind,
    plan,
    target,
    wants_news,
    ways,
)
from scripts.poplib.knowledge import discovered
from scripts.poplib.nats import NatKind
from scripts.poplib.world import World

CONE = NatKind()
RANDOM = NatKind(mapping="port-dependent", ports="random")
SEQUENTIAL = NatKind(mapping="port-dependent", ports="sequential")


FIRST = NatKind(mapping="port-dependent", ports="first-preserved")


def variant(base: NatKind, **changes: object) -> NatKind:
    return NatKind(**{**base.__dict__, **changes})


def by_address(size: int, **changes: object) -> NatKind:
    return block(size, mapping="address-dependent", **changes)


def block(size: int, **changes: object) -> NatKind:
    return variant(RANDOM, low=20480, high=20480 + size - 1, **changes)


def within_budget(world: World) -> None:
    """Laws of the budget on what really left each side, the kernel's repetitions with it."""
    budget = Budget()
    for side in world.sides:
        assert len(side.syns) <= budget.syns
        new = [when for when, dial in side.dialled if dial.serial]
        for first, last in zip(new, new[budget.rate :], strict=False):
            assert last - first >= 1.0
        other = world.sides[1] if side is world.sides[0] else world.sides[0]
        assert {dial.host for _, dial in side.dialled} <= {other.nat.address}


CONE_RST = variant(CONE, unsolicited="rst")
RANDOM_RST = variant(RANDOM, unsolicited="rst")
BUSY = variant(SEQUENTIAL, busy=20.0)

PAIRS = {
    # name: NAT of either side, how many of so many seeds must meet
    "random + port-restricted": (RANDOM, CONE, 47, 50),
    "port-restricted + random": (CONE, RANDOM, 18, 20),
    "random + port-restricted/rst": (RANDOM, CONE_RST, 19, 20),
    "random/rst + port-restricted": (RANDOM_RST, CONE, 18, 20),
    "random/rst + port-restricted/rst": (RANDOM_RST, CONE_RST, 16, 20),
    "random without simultaneous open + port-restricted": (variant(RANDOM, simo=False), CONE, 19, 20),
    "random + port-restricted without simultaneous open": (RANDOM, variant(CONE, simo=False), 16, 20),
    "block of 256 + port-restricted": (block(256), CONE, 50, 50),
    "block of 512 + port-restricted": (block(512), CONE, 50, 50),
    "block of 256 + port-restricted/rst": (block(256), CONE_RST, 19, 20),
    "blocks of 64 by address": (by_address(64), by_address(64), 20, 20),
    "blocks of 512 by address": (by_address(512), by_address(512), 19, 20),
    "blocks of 64 by address, both with rst": (
        by_address(64, unsolicited="rst"),
        by_address(64, unsolicited="rst"),
        19,
        20,
    ),
    "block of 64 by address + block of 64": (by_address(64), block(64), 17, 20),
    "block of 256 + block of 256 by address": (block(256), by_address(256), 17, 20),
    "sequential + port-restricted": (SEQUENTIAL, CONE, 50, 50),
    "busy sequential + port-restricted": (BUSY, CONE, 50, 50),
    "sequential/rst + port-restricted/rst": (variant(SEQUENTIAL, unsolicited="rst"), CONE_RST, 48, 50),
    "busy sequential + busy sequential": (BUSY, BUSY, 48, 50),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_hard_pairs_meet(pair: str) -> None:
    one, other, enough, seeds = PAIRS[pair]
    times = []
    for seed in range(seeds):
        world = World((one, other), seed)
        met = world.run()
        within_budget(world)
        if met is not None and met <= 8.0:
            times.append(met)
    median = statistics.median(times) if times else float("nan")
    print(f"{pair}: {len(times)} of {seeds}, median {median:.2f} s, last {max(times, default=0):.2f} s")
    assert len(times) >= enough


SECOND_PAIRS = {
    "first-preserved + port-restricted": (FIRST, CONE),
    "first-preserved + port-restricted/rst": (FIRST, CONE_RST),
    "first-preserved + random ports": (FIRST, variant(CONE, ports="random")),
    "first-preserved + first-preserved": (FIRST, FIRST),
    "first-preserved/rst + first-preserved/rst": (variant(FIRST, unsolicited="rst"), variant(FIRST, unsolicited="rst")),
    "first-preserved/icmp + port-restricted/icmp": (
        variant(FIRST, unsolicited="icmp"),
        variant(CONE, unsolicited="icmp"),
    ),
}


@pytest.mark.parametrize("pair", SECOND_PAIRS)
@pytest.mark.parametrize("skew", [-0.3, -0.02, 0.0, 0.02, 0.3])
def test_a_second_pair_of_ports_meets_where_the_first_cannot(pair: str, skew: float) -> None:
    """The port of the connection to the server is taken by it, so every dial from there gets another one."""
    for seed in range(10):
        assert World(SECOND_PAIRS[pair], seed, skew=skew, planner=lambda *_: None).run() is None
        world = World(SECOND_PAIRS[pair], seed, skew=skew, known=discovered)
        met = world.run()
        assert met is not None
        assert met < 1.5
        assert sum(len(side.syns) for side in world.sides) < 60
        for side in world.sides:
            assert len({(dial.source, dial.host, dial.port) for _, dial in side.dialled if dial.serial}) <= 1


@given(st.binary(min_size=32, max_size=32))
def test_both_sides_know_both_second_ports(session: bytes) -> None:
    mine, theirs = spare_ports(session, "initiator")
    assert spare_ports(session, "responder") == (theirs, mine)
    assert {mine, theirs} <= set(PUNCH_PORTS)


def test_second_ports_are_those_of_the_protocol() -> None:
    assert spare_ports(bytes(range(32)), "initiator") == (32612, 24591)
    assert len(PUNCH_PORTS) == 12763


def test_second_ports_differ_from_session_to_session() -> None:
    found = [spare_ports(bytes([number]) * 32, "initiator") for number in range(100)]
    assert len(set(itertools.chain(*found))) > 190


def test_a_second_pair_is_light_and_for_those_whom_it_helps() -> None:
    keeps = NatSummary(mapping="port-dependent", ports="preserving")
    for mine, theirs in itertools.product((keeps, STEADY), repeat=2):
        made = plan(Situation(mine, theirs, (PEER,), spare=SPARE), 20000, random.Random(1).random)
        assert (made is None) == (keeps not in (mine, theirs))
        if made is not None:
            (volley,) = made.volleys
            assert (made.way, made.light, volley.window) == (SECOND, True, 1)
            assert volley.source == (SPARE[0] if mine == keeps else 20000)
            assert volley.ports == ((SPARE[1] if theirs == keeps else PEER.port),)
    assert plan(Situation(keeps, STEADY, (PEER,)), 20000, random.Random(1).random) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RANDOM, RANDOM),
        (RANDOM, SEQUENTIAL),
        (block(512), block(512)),
        (variant(RANDOM, mapping="address-dependent"), by_address(512)),
        (by_address(1024), by_address(64)),
    ],
)
def test_hopeless_pairs_send_nothing_beyond_their_candidates(one: NatKind, other: NatKind) -> None:
    world = World((one, other), 1)
    assert world.run() is None
    assert not any(side.syns for side in world.sides)


@pytest.mark.parametrize(("one", "other"), [(CONE, CONE), (RANDOM, variant(CONE, filtering="none"))])
def test_what_single_dials_can_do_is_done_before_a_plan_begins(one: NatKind, other: NatKind) -> None:
    world = World((one, other), 1)
    met = world.run()
    assert met is not None
    assert met < 0.3
    assert not any(side.syns for side in world.sides)


def test_the_same_seed_gives_the_same_dials() -> None:
    runs = [World((RANDOM, CONE), 7) for _ in range(2)]
    for world in runs:
        world.run()
    assert runs[0].met == runs[1].met
    for mine, other in zip(runs[0].sides, runs[1].sides, strict=True):
        assert mine.dialled == other.dialled


# -- the plans themselves ---------------------------------------------------------------------------------------------

SPARE = (21000, 22000)
PEER = Endpoint(ip_address("198.18.2.1"), 30000)
CHANGING = NatSummary(mapping="port-dependent", ports="changed")
STEADY = NatSummary(mapping="endpoint-independent", ports="preserving")

MAPPINGS = st.sampled_from(get_args(Mapping))
PORTS = st.sampled_from(["unknown", "preserving", "changed", "sequential", "block", "random"])
NUMBER = st.integers(min_value=0, max_value=65535)
NATS = st.builds(
    NatSummary, mapping=MAPPINGS, ports=PORTS, step=st.integers(-64, 64), latest=NUMBER, low=NUMBER, high=NUMBER
)
HOSTS = st.sampled_from(["198.18.2.1", "198.18.2.2", "10.0.0.1", "127.0.0.1", "169.254.1.1", "2001:4860::1"])
ENDPOINTS = st.lists(st.builds(Endpoint, HOSTS.map(ip_address), st.integers(1, 65535)), max_size=8).map(tuple)


@given(NATS, NATS, ENDPOINTS, st.integers())
def test_no_plan_leaves_the_observed_address_or_dials_a_service(
    mine: NatSummary, theirs: NatSummary, observed: tuple[Endpoint, ...], seed: int
) -> None:
    made = plan(Situation(mine, theirs, observed, spare=SPARE), 20000, random.Random(seed).random)
    if made is None:
        return
    known = {one.port for one in observed}
    assert made.phrase
    for volley in made.volleys:
        assert volley.host in {"198.18.2.1", "198.18.2.2"} & {str(one.host) for one in observed}
        assert volley.ends <= LASTS_S
        assert all(MIN_PORT <= port <= 65535 for port in volley.ports)
        assert not (set(volley.ports) - known) & DENIED_PORTS
        assert volley.most <= Budget().syns
        if volley.source == 20000:
            # From the punch port a port is dialled once, and candidates are dialled as such.
            assert len(set(volley.ports)) == len(volley.ports)
            assert not set(volley.ports) & known


@given(st.integers(), NATS)
def test_plans_follow_from_the_draw_alone(seed: int, theirs: NatSummary) -> None:
    both = [plan(Situation(STEADY, theirs, (PEER,)), 20000, random.Random(seed).random) for _ in range(2)]
    assert both[0] == both[1]


def test_a_known_band_is_walked_first() -> None:
    theirs = NatSummary(mapping="port-dependent", ports="random", low=9000, high=9999)
    made = plan(Situation(STEADY, theirs, (PEER,)), 20000, random.Random(1).random)
    assert made is not None
    (walk,) = made.volleys
    inside = [9000 <= port <= 9999 for port in walk.ports]
    width = 1000 - len(DENIED_PORTS & set(range(9000, 10000)))
    assert all(inside[:width])
    assert not any(inside[width:])
    assert len(set(walk.ports)) == len(walk.ports) == Budget().syns


def test_a_block_is_not_emptied() -> None:
    mine = NatSummary(mapping="port-dependent", ports="block", low=20480, high=20480 + 255)
    made = plan(Situation(mine, STEADY, (PEER,)), 20000, random.Random(1).random)
    assert made is not None
    assert sum(volley.most for volley in made.volleys) == 96


@pytest.mark.parametrize("size", [64, 256, 512])
def test_two_blocks_are_not_emptied(size: int) -> None:
    """Who maps by address takes a port for each of its own, whatever it dials; who maps by port, one for each dial."""
    by_port = NatSummary(mapping="port-dependent", ports="block", low=20480, high=20480 + size - 1)
    nats = (by_port, structs.replace(by_port, mapping="address-dependent"))
    for mine, theirs in itertools.product(nats, repeat=2):
        made = plan(Situation(mine, theirs, (PEER,)), 20000, random.Random(1).random)
        assert (made is None) == (mine is theirs is by_port)
        if made is not None and mine is by_port:
            assert sum(volley.most for volley in made.volleys) == size * 3 // 8
        elif made is not None:
            assert len({volley.source for volley in made.volleys}) == len(made.volleys) <= 8
            assert {volley.source for volley in made.volleys} != {"fresh"}
            assert sum(len(volley.ports) for volley in made.volleys) <= 2400


def test_both_halves_of_every_pair_exist() -> None:
    nats = {
        "cone": STEADY,
        "random": CHANGING,
        "sequential": NatSummary(mapping="port-dependent", ports="sequential", step=2, latest=40000),
        "unknown": NatSummary(),
    }
    assert {name: kind(nat) for name, nat in nats.items()} == {name: name for name in nats}
    halves = Counter(
        frozenset((one, other))
        for (one, mine), (other, theirs) in itertools.product(nats.items(), repeat=2)
        if plan(Situation(mine, theirs, (PEER,)), 20000, random.Random(1).random) is not None
    )
    assert halves == {
        frozenset(("cone", "random")): 2,
        frozenset(("cone", "sequential")): 2,
        frozenset(("sequential",)): 1,
    }


SERIAL = NatSummary(mapping="port-dependent", ports="sequential", step=2, latest=40000)
ORDERS = st.lists(st.sampled_from(["single", "ahead", "walk", "meet", "fly", ""]), max_size=8).map(tuple)


@given(NATS, NATS, ORDERS)
def test_an_order_chooses_among_the_ways_that_fit_and_changes_nothing_else(
    one: NatSummary, other: NatSummary, order: tuple[str, ...]
) -> None:
    situations = [
        Situation(*nats, (PEER,), order=order, spare=spare)
        for nats, spare in (((one, other), SPARE), ((other, one), SPARE[::-1]))
    ]
    mine, theirs = (plan(situation, 20000, random.Random(1).random) for situation in situations)
    fit = ways(kind(one), kind(other))[1:]
    assert (mine is None) == (theirs is None)
    if fit not in {(BLOCKS,), (SECOND,)}:
        assert (mine is None) == (not fit)
    if mine is None or theirs is None:
        return
    named = [way for way in order if way in fit]
    assert mine.way == theirs.way == (named or fit)[0]
    # The same plan as of a server that knows only this way.
    alone = Situation(one, other, (PEER,), order=(mine.way,), spare=SPARE)
    assert mine == plan(alone, 20000, random.Random(1).random)
    for volley in mine.volleys:
        assert volley.host == str(PEER.host)
        assert volley.most <= Budget().syns
        assert volley.ends <= LASTS_S


def test_a_plan_begins_at_once_only_if_the_server_puts_it_before_single_dials() -> None:
    def head(*order: str, other: NatSummary = SERIAL) -> float:
        return head_start(Situation(STEADY, other, (PEER,), order=order))

    assert head() == head("single", "walk") == head("walk") == head("fly", "single") == HEAD_START
    assert head("walk", "single") == head("fly", "walk", "single") == 0.0
    assert head("ahead", "walk", "single") == 0.0
    assert head("walk", "single", other=STEADY) == HEAD_START


def test_where_too_much_comes_between_a_walk_does_what_aiming_ahead_does_not() -> None:
    """What a server learns of such a network is worth something: the ports that come next are gone too soon."""
    crowded = variant(SEQUENTIAL, busy=1500.0)

    def met(*order: str) -> int:
        def chosen(situation: Situation, port: int, draw: Draw) -> Plan | None:
            return plan(replace(situation, order=order), port, draw)

        worlds = [World((crowded, CONE), seed, planner=chosen) for seed in range(20)]
        found = sum(world.run() is not None for world in worlds)
        for world in worlds:
            within_budget(world)
        return found

    aimed, walked = met(), met("walk", "ahead")
    print(f"aimed ahead: {aimed} of 20, walked: {walked} of 20")
    assert walked >= 18 > 5 >= aimed


def test_a_sequential_nat_without_its_latest_port_counts_as_random() -> None:
    assert kind(NatSummary(mapping="port-dependent", ports="sequential", step=1)) == "random"
    assert kind(NatSummary(mapping="port-dependent", ports="preserving")) == "cone"


def test_two_sequential_sides_aim_at_one_port_each() -> None:
    theirs = NatSummary(mapping="port-dependent", ports="sequential", step=2, latest=40000)
    made = plan(Situation(theirs, theirs, (PEER,)), 20000, random.Random(1).random)
    assert made is not None
    assert [set(volley.ports) for volley in made.volleys] == [{40030}, {40094}]
    assert [len(volley.ports) for volley in made.volleys] == [16, 32]


def test_a_peer_with_several_addresses_or_none_in_public_gets_no_plan() -> None:
    assert target([PEER, Endpoint(PEER.host, 30001)]) == PEER
    assert target([PEER, Endpoint(ip_address("198.18.2.2"), 30000)]) is None
    assert target([Endpoint(ip_address("192.168.1.1"), 30000)]) is None
    assert target([Endpoint(ip_address("127.0.0.1"), 30000)]) is None
    assert target([Endpoint(PEER.host, 443)]) is None
    assert target([]) is None
    pooled = (PEER, Endpoint(ip_address("198.18.2.2"), 30000))
    for mine, theirs in ((CHANGING, STEADY), (STEADY, CHANGING)):
        assert plan(Situation(mine, theirs, (PEER,), seen=(PEER,)), 20000, random.Random(1).random) is not None
        assert plan(Situation(mine, theirs, pooled), 20000, random.Random(1).random) is None
        assert plan(Situation(mine, theirs, (PEER,), seen=pooled), 20000, random.Random(1).random) is None


def test_news_are_wanted_of_the_ports_that_come_next() -> None:
    sequential = NatSummary(mapping="port-dependent", ports="sequential", step=1, latest=40000)
    assert wants_news(Situation(STEADY, sequential, (PEER,)))
    assert wants_news(Situation(sequential, sequential, (PEER,)))
    assert not wants_news(Situation(sequential, STEADY, (PEER,)))
    assert not wants_news(Situation(NatSummary(), sequential, (PEER,)))


def test_one_plan_for_a_peer_in_ten_minutes_and_one_at_a_time() -> None:
    ledger = Ledger()
    assert ledger.take(b"bob", 0.0)
    assert not ledger.take(b"carol", LASTS_S - 0.1)
    assert ledger.take(b"carol", LASTS_S)
    assert not ledger.take(b"bob", QUIET_S - 1)
    assert ledger.take(b"bob", QUIET_S)


def test_what_led_to_a_path_may_be_repeated_once() -> None:
    ledger = Ledger()
    assert ledger.take(b"bob", 0.0)
    ledger.succeeded(b"carol")
    assert not ledger.take(b"bob", LASTS_S)
    ledger.succeeded(b"bob")
    assert ledger.take(b"bob", LASTS_S)
    ledger.succeeded(b"bob")
    assert not ledger.take(b"bob", QUIET_S - 1)
    assert ledger.take(b"bob", LASTS_S + QUIET_S)


def test_a_server_with_many_keys_does_not_get_many_plans() -> None:
    ledger = Ledger()
    times = [number * LASTS_S for number in range(int(QUIET_S / LASTS_S))]
    assert sum(ledger.take(number.to_bytes(4, "big"), now) for number, now in enumerate(times)) == MOST_PLANS
