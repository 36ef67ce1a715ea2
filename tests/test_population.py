"""The population simulation: the modelled boxes, known closed forms, the same seed, and the page that is committed."""

from __future__ import annotations

import itertools
import math
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from p2pxfer.core.traversal.dials import Plan, Volley
from p2pxfer.core.traversal.strategies import Draw, Situation
from scripts.poplib import __main__ as population
from scripts.poplib.knowledge import discovered, summary
from scripts.poplib.mixes import CASES, MIXES, SHARES, SOURCES, Case, Drawer, draw_pair, label
from scripts.poplib.nats import OPEN, RST_BURST, RST_RATE, Mapping, Nat, NatKind
from scripts.poplib.runs import Outcome, by_labels, digest, figures, simulate
from scripts.poplib.side import MAPPED_PORT, Machine
from scripts.poplib.world import World

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "population.rst"
CONE = NatKind()
RANDOM = NatKind("port-dependent", "random")
SEQUENTIAL = NatKind("port-dependent", "sequential")
FIREWALL = NatKind("none")
CONES = [
    NatKind(ports=ports, filtering=filtering)
    for ports in ("preserving", "random")
    for filtering in ("none", "address", "port")
]
PEER = ("198.18.2.1", 20001)


def nat(kind: NatKind, seed: int = 1) -> Nat:
    return Nat(kind, "198.18.1.1", random.Random(seed))


def met(one: NatKind | Machine, other: NatKind | Machine, seeds: int = 20, **options: Any) -> int:
    """How many of so many pairs meet."""
    worlds = [World((one, other), seed, known=discovered, **options) for seed in range(seeds)]
    return sum(world.run() is not None for world in worlds)


# -- the boxes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapping", "same"),
    [
        ("none", "all"),
        ("endpoint-independent", "all"),
        ("address-dependent", "address"),
        ("port-dependent", "none"),
        ("connection-dependent", "none"),
    ],
)
def test_what_a_mapping_depends_on(mapping: Mapping, same: str) -> None:
    box = nat(NatKind(mapping, "preserving" if mapping == "none" else "random"))
    first = box.out(20000, PEER, 0.0)
    assert box.out(20000, PEER, 0.0) == first
    assert (box.out(20000, (PEER[0], 1), 0.0) == first) is (same != "none")
    assert (box.out(20000, ("198.18.3.1", 1), 0.0) == first) is (same == "all")


def test_only_a_mapping_of_connections_forgets_what_was_closed() -> None:
    mappings: tuple[Mapping, Mapping] = ("port-dependent", "connection-dependent")
    for mapping, kept in zip(mappings, (True, False), strict=True):
        box = nat(NatKind(mapping, "random"))
        first = box.out(20000, PEER, 0.0)
        assert box.closed(20000, PEER) == first
        assert (box.out(20000, PEER, 0.0) == first) is kept


@pytest.mark.parametrize(("filtering", "entered"), [("none", (1, 1, 1)), ("address", (1, 1, 0)), ("port", (1, 0, 0))])
def test_whom_a_filter_lets_in(filtering: Literal["none", "address", "port"], entered: tuple[int, ...]) -> None:
    mappings: tuple[Mapping, Mapping] = ("endpoint-independent", "port-dependent")
    for mapping in mappings:
        box = nat(NatKind(mapping, filtering=filtering))
        outside = box.out(20000, PEER, 0.0)
        assert outside is not None
        sources = (PEER, (PEER[0], 1), ("198.18.3.1", 1))
        assert [box.lets_in(outside, source) for source in sources] == [20000 if passes else None for passes in entered]


def test_without_simultaneous_open_the_dialled_endpoint_is_the_one_that_may_not_enter() -> None:
    box = nat(NatKind(filtering="address", unsolicited="rst", simo=False))
    outside = box.out(20000, PEER, 0.0)
    assert outside is not None
    assert box.lets_in(outside, PEER) is None
    assert box.answer(outside, PEER, 0.0) == "drop"
    assert box.lets_in(outside, (PEER[0], 1)) == 20000


def test_a_limited_answer_runs_dry_and_comes_again() -> None:
    box = nat(NatKind(unsolicited="rst-limited"))
    to = ("198.18.1.1", 5)
    assert [box.answer(to, PEER, 0.0) for _ in range(int(RST_BURST) + 2)].count("rst") == RST_BURST
    assert [box.answer(to, PEER, 1.0) for _ in range(int(RST_RATE) + 2)].count("rst") == RST_RATE


def test_a_block_has_only_its_ports_and_lends_each_once_to_a_destination() -> None:
    box = nat(NatKind("port-dependent", "random", low=2048, high=2048 + 15))
    given = [box.out(20000 + number, PEER, 0.0) for number in range(40)]
    ports = [place[1] for place in given if place is not None]
    assert len(set(ports)) == len(ports) > 12
    assert set(ports) <= set(range(2048, 2064))
    assert None in given


def test_a_sequence_has_its_step_and_the_connections_of_others_in_it() -> None:
    quiet = nat(NatKind("port-dependent", "sequential", step=2))
    ports = [place[1] for number in range(5) if (place := quiet.out(number, PEER, 0.0))]
    assert [after - before for before, after in itertools.pairwise(ports)] == [2] * 4
    busy = nat(NatKind("port-dependent", "sequential", busy=20.0))
    first, last = busy.out(1, PEER, 0.0), busy.out(2, PEER, 100.0)
    assert first is not None
    assert last is not None
    assert last[1] - first[1] == pytest.approx(2000, abs=200)


def test_a_pool_gives_a_mapping_any_of_its_addresses() -> None:
    box = nat(NatKind("port-dependent", "random", addresses=4))
    hosts = {place[0] for number in range(40) if (place := box.out(number, PEER, 0.0))}
    assert hosts == set(box.hosts)
    assert len(hosts) == 4


def test_a_mapped_port_lets_anybody_in() -> None:
    box = nat(NatKind())
    outside = box.open_port(20000, MAPPED_PORT)
    assert box.lets_in(outside, ("198.18.3.1", 1)) == 20000


CHANGING = [
    NatKind("address-dependent", "random"),
    NatKind("connection-dependent", "random"),
    NatKind("connection-dependent", "sequential"),
    NatKind("port-dependent", "first-preserved"),
]


@pytest.mark.parametrize("kind", [CONE, RANDOM, SEQUENTIAL, FIREWALL, OPEN, *CONES, *CHANGING])
def test_discovery_finds_what_the_box_does(kind: NatKind) -> None:
    for seed in range(20):
        side = World((kind, CONE), seed).sides[0]
        found, true = discovered(side), summary(side)
        assert found.mapping == true.mapping
        if kind.mapping != "none":
            assert (found.ports, found.step) == (true.ports, true.step)


def test_of_two_boxes_the_stricter_one_counts() -> None:
    chain = Machine((NatKind(filtering="none"), RANDOM))
    side = World((chain, CONE), 1).sides[0]
    assert discovered(side).mapping == "port-dependent"
    assert met(chain, FIREWALL, 10, single=True) == 0
    assert met(Machine((NatKind(filtering="none"), NatKind(filtering="none"))), RANDOM, 10, single=True) == 10
    assert met(Machine((NatKind(filtering="port"), NatKind(filtering="none"))), RANDOM, 10, single=True) == 0
    assert met(Machine((NatKind(filtering="none"), NatKind(filtering="port"))), RANDOM, 10, single=True) == 0


# -- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", CONES)
@pytest.mark.parametrize("other", [*CONES, FIREWALL, OPEN])
def test_one_dial_connects_two_cones_always(one: NatKind, other: NatKind) -> None:
    assert met(one, other, 5, single=True) == 5


def test_one_dial_finds_no_port_that_was_drawn() -> None:
    assert met(RANDOM, CONE, 50, single=True) == 0
    assert met(SEQUENTIAL, CONE, 50, single=True) == 0
    # A filter that looks at addresses only, or none at all, needs no luck.
    assert met(RANDOM, NatKind(filtering="address"), 50, single=True) == 50
    assert met(RANDOM, OPEN, 50, single=True) == 50


def test_two_nats_that_draw_at_random_end_on_the_relay() -> None:
    worlds = [World((RANDOM, RANDOM), seed, known=discovered) for seed in range(20)]
    assert [world.run() for world in worlds] == [None] * 20
    assert not any(side.syns for world in worlds for side in world.sides)


@pytest.mark.parametrize(("holes", "guesses"), [(32, 64), (64, 64), (96, 128)])
def test_one_burst_meets_as_the_birthday_formula_says(holes: int, guesses: int) -> None:
    low, high = 20480, 24575
    block = NatKind("port-dependent", "random", low=low, high=high)

    def burst(situation: Situation, port: int, draw: Draw) -> Plan:
        # The cone is dialled by the NAT that draws, from so many ports, and dials so many of them.
        (host,) = {str(one.host) for one in situation.observed}
        if situation.mine.mapping == "port-dependent":
            aims: tuple[int, ...] = (situation.observed[0].port,) * holes
            return Plan("", (Volley("fresh", host, aims, math.inf, holes, 5.0, "leave", holes),))
        taken = {one.port for one in situation.observed}
        free = [each for each in range(low, high + 1) if each not in taken]
        aims = tuple(random.Random(draw()).sample(free, guesses))
        return Plan("", (Volley(port, host, aims, math.inf, guesses, 5.0, "leave", guesses),))

    runs = 250
    found = met(block, CONE, runs, planner=burst) / runs
    # One more hole and up to four more guesses are the dials of the candidates.
    expected = 1 - math.exp(-(holes + 1) * guesses / (high - low + 1))
    assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / runs))


def test_an_answer_of_the_far_nat_costs_one_dial_its_connection_only_where_it_comes_too_early() -> None:
    rst = NatKind(unsolicited="rst")
    late = {"delay": 0.02, "skew": 0.1}
    assert met(CONE, rst, 50, **late, single=True) == 0
    assert met(CONE, rst, 50, **late) == 50
    assert met(CONE, rst, 50, delay=0.02, skew=0.01, single=True) == 50


@pytest.mark.parametrize("skew", [0.1, 0.2, 0.4])
def test_after_icmp_no_pause_leaves_the_peers_syn_to_the_listener(skew: float) -> None:
    """With the pauses that suit RST, 50 to 95 of these 200 failed: a SYN that comes into one holds the four-tuple."""
    icmp = NatKind(unsolicited="icmp")
    assert met(icmp, icmp, 100, delay=0.02, skew=skew) == 100
    assert met(CONE, icmp, 100, delay=0.02, skew=skew) == 100


def test_simultaneous_open_is_needed_on_one_side() -> None:
    without = NatKind(simo=False)
    assert met(without, CONE) == 20
    assert met(without, without) == 0


def test_mapped_ports_and_ipv6_are_ways_of_their_own() -> None:
    hopeless = Machine((RANDOM,))
    assert met(hopeless, Machine((RANDOM,), mapped=True), single=True) == 20
    both = Machine((RANDOM,), ipv6=FIREWALL)
    assert met(both, both, single=True) == 20
    assert met(both, hopeless, 5) == 0


def test_a_walk_that_comes_to_a_mapped_port_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    without = NatKind("port-dependent", "random", low=MAPPED_PORT - 30, high=MAPPED_PORT + 30, simo=False)
    worlds = [World((Machine((without,), mapped=True), CONE), seed, known=discovered) for seed in range(3)]
    for world in worlds:
        # Single dials have no answer for as long as the walk goes on.
        for side in world.sides:
            monkeypatch.setattr(side.nats[-1], "lets_in", lambda *_: None)
        assert world.run() is None
        walked = [dial for _, dial in world.sides[1].dialled if dial.serial and dial.port != MAPPED_PORT]
        assert len(walked) > 1000


# -- populations ------------------------------------------------------------------------------------------------------


def test_every_share_has_a_source_and_lies_between_its_ends() -> None:
    for name, share in SHARES.items():
        assert share.source in SOURCES or share.source == "assumed"
        assert min(share.hard, share.easy) <= share.central <= max(share.hard, share.easy), name
        assert name == "carrier_busy" or 0 <= min(share.hard, share.easy) <= max(share.hard, share.easy) <= 1


def test_machines_are_drawn_as_the_shares_say() -> None:
    (mobile,) = (mix for mix in MIXES if mix.name == "mobile")
    pairs = [draw_pair(mobile, "central", random.Random(seed), more=True) for seed in range(2000)]
    machines = [machine for pair in pairs for machine in pair.machines]
    dependent = sum(machine.boxes[0].mapping not in ("none", "endpoint-independent") for machine in machines)
    assert dependent / len(machines) == pytest.approx(0.9 * 0.40, abs=0.03)
    assert sum(machine.ipv6 is not None for machine in machines) / len(machines) == pytest.approx(0.46, abs=0.03)
    assert not any(machine.mapped for machine in machines)
    assert {label(machine) for machine in machines} == {"cone", "random", "sequential", "pooled"}
    # No side of a triangle is longer than the two others, so SYNs cross unless something else delays one.
    assert sum(abs(pair.skew) < pair.delay for pair in pairs) / len(pairs) > 0.95


@pytest.mark.parametrize("case", CASES)
def test_every_mix_can_be_drawn(case: Case) -> None:
    for mix in MIXES:
        drawer = Drawer(case, random.Random(1))
        assert mix.one(drawer).kinds
        assert mix.other(drawer).kinds


def test_the_same_seed_gives_the_same_page_and_another_one_another(tmp_path: Path) -> None:
    pages = []
    for number, seed in enumerate((1, 1, 2)):
        assert population.main(["--pairs", "56", "--seed", str(seed), "--out", str(tmp_path / str(number))]) == 0
        pages.append((tmp_path / str(number)).read_bytes())
    assert pages[0] == pages[1] != pages[2].replace(b"--seed 2", b"--seed 1")
    program = [sys.executable, "-m", "scripts.poplib", "--pairs", "56", "--jobs", "2"]
    subprocess.run([*program, "--out", tmp_path / "parallel"], cwd=ROOT, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "parallel").read_bytes() == pages[0]


def test_figures_of_outcomes() -> None:
    outcomes = [Outcome(("cone", "cone"), number / 10, 2) for number in range(1, 10)]
    outcomes.append(Outcome(("random", "cone"), None, 4000))
    found = figures(outcomes)
    assert (found.pairs, found.connected, found.median, found.p90) == (10, 9, 0.5, 0.9)
    assert (found.syns_median, found.syns_p90) == (2, 2)
    low, high = found.interval
    assert (round(low, 3), round(high, 3)) == (0.596, 0.982)
    assert list(by_labels(outcomes)) == [("cone", "cone"), ("cone", "random")]


# -- the page ---------------------------------------------------------------------------------------------------------


def shares_on_the_page(title: str) -> dict[str, tuple[float, float]]:
    """Mix -> the shares that connect with p2pxfer and with one dial, of the central case."""
    text = PAGE.read_text().split(f"\n{title}\n====")[1]
    names = "|".join(re.escape(mix.name) for mix in MIXES)
    interval = r"[\d.]+ to [\d.]+"
    rows = re.findall(rf"^({names}) +\d+ +([\d.]+) +{interval} +{interval} +([\d.]+) ", text, re.MULTILINE)
    return {name: (float(ladder), float(single)) for name, ladder, single in rows[: len(MIXES)]}


def test_the_page_is_of_many_pairs_and_of_these_rules() -> None:
    made = re.search(
        r"``scripts/population --pairs (\d+) --seed (\d+)``.*?rules\s+``(\w+)``", PAGE.read_text(), re.DOTALL
    )
    assert made is not None
    assert int(made[1]) >= 100_000
    assert made[3] == digest(), "the rules changed: run scripts/population"


def test_the_page_says_what_the_simulation_does() -> None:
    made = re.search(r"--seed (\d+)", PAGE.read_text())
    assert made is not None
    pairs = 60
    for title, more in (("Directly connected", False), ("With mapped ports and IPv6", True)):
        stated = shares_on_the_page(title)
        assert list(stated) == [mix.name for mix in MIXES]
        for mix in MIXES:
            found = simulate(mix, "central", pairs, int(made[1]), more=more)
            for share, outcomes in zip(stated[mix.name], (found.ladder, found.single), strict=True):
                spread = math.sqrt(share / 100 * (1 - share / 100) / pairs)
                assert figures(outcomes).share == pytest.approx(share / 100, abs=4 * spread + 0.02), mix.name
