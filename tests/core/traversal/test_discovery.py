"""What is said of NATs whose behaviour the test knows: tables of clear cases, and generated NATs of every kind."""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import ip_address
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.addresses import Endpoint, parse_endpoint
from p2pxfer.core.messages import SERVER, NatSummary, Report
from p2pxfer.core.traversal.discovery import (
    DEPENDENT,
    HIGH,
    LOW,
    MAX_BLOCK,
    MIN_SAMPLES,
    ORDER,
    PROBES,
    Allocation,
    Mapping,
    Probe,
    View,
    allocation_of,
    band,
    binding_ports,
    filtering_of,
    mapping_of,
    one_family,
    renewed,
    sequence_step,
)

OUTSIDE = "198.18.1.1"
BASE = 23_000
SEEDS = st.integers(0, 2**32)


def probes(ports: list[int], host: str = OUTSIDE, base: int = BASE) -> list[Probe]:
    """``ports`` in the order in which they were given, from local ports as real probes have them."""
    locals_ = [*ORDER, *range(PROBES, len(ports))]
    return [Probe(base + n, Endpoint(ip_address(host), port)) for n, port in zip(locals_, ports, strict=False)]


def judge(ports: list[int]) -> Allocation:
    return allocation_of(probes(ports))


def in_order(choose: Callable[[int], int]) -> Allocation:
    """Of a NAT that gives ``choose(local port)``, dialled from the ports and in the order of real probes."""
    return allocation_of([Probe(BASE + n, Endpoint(ip_address(OUTSIDE), choose(BASE + n))) for n in ORDER])


# -- tables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ports", "expected", "step"),
    [
        ([BASE + n for n in ORDER], "preserving", 0),
        ([*(BASE + n for n in ORDER[:6]), 50_001, 50_002], "preserving", 0),  # two were taken
        (list(range(40_000, 40_008)), "sequential", 1),
        (list(range(40_000, 40_016, 2)), "sequential", 2),
        (list(range(40_008, 40_000, -1)), "sequential", -1),
        ([40_000, 40_001, 40_004, 40_005, 40_006, 40_008, 40_009, 40_010], "sequential", 1),
        ([41_998, 41_999, 40_000, 40_001, 40_002, 40_003, 40_004, 40_005], "sequential", 1),  # began anew
        ([40_000, 40_004, 40_008, 40_016, 40_020, 40_024, 40_028, 40_032], "sequential", 4),
        ([40_000, 40_002, 40_001, 40_003, 40_004, 40_006, 40_005, 40_007], "unknown", 0),  # out of order
        ([40_000, 40_100, 40_200, 40_300, 40_400, 40_500, 40_600, 40_700], "block", 0),  # no step is that long
        ([3_000, 9_000, 15_000, 28_000, 35_000, 41_000, 52_000, 60_000], "random", 0),  # ascends by chance
        ([40_000, 40_001, 40_002, 40_003, 40_004], "unknown", 0),  # too few
        ([], "unknown", 0),
        ([40_000] * 8, "unknown", 0),
    ],
)
def test_clear_cases(ports: list[int], expected: str, step: int) -> None:
    found = judge(ports)
    assert (found.ports, found.step) == (expected, step)
    assert found.latest == (ports[-1] if expected == "sequential" else 0)


@pytest.mark.parametrize("offset", [-20_000, -64, -1, 1, 2, 64, 1_000, 40_000])
def test_a_constant_between_inside_and_outside_is_no_sequence(offset: int) -> None:
    found = in_order(lambda port: port + offset)
    assert (found.ports, found.step, found.latest, found.low, found.high) == ("offset", 0, 0, 0, 0)


def test_an_offset_is_seen_although_two_ports_were_taken() -> None:
    taken = {BASE + 3: 60_001, BASE + 4: 60_002}
    assert in_order(lambda port: taken.get(port, port + 1_000)).ports == "offset"
    taken[BASE + 5] = 60_003
    assert in_order(lambda port: taken.get(port, port + 1_000)).ports == "random"


@pytest.mark.parametrize("step", [-2, -1, 1, 2, 3, 5, 8, 64])
def test_a_counter_is_no_constant(step: int) -> None:
    """Whatever its step: the local ports of probes do not ascend in the order in which they are dialled."""
    take = counter(40_000, step, 1024, 65535)
    found = in_order(lambda port: take())
    assert (found.ports, found.step) == ("sequential", step)
    assert sorted(ORDER) == list(range(PROBES))


def test_several_outside_addresses_are_named_and_the_commonest_is_judged() -> None:
    found = allocation_of(
        [*probes(list(range(40_000, 40_006))), *probes([1_500, 60_000], "198.18.1.2", BASE + 6)],
        [parse_endpoint("198.18.1.3:2000")],
    )
    assert (found.ports, found.step) == ("sequential", 1)
    assert [str(host) for host in found.addresses] == ["198.18.1.3", "198.18.1.1", "198.18.1.2"]
    mixed = allocation_of([*probes(list(range(40_000, 40_004))), *probes(list(range(9_000, 9_004)), "198.18.1.2")])
    assert (mixed.ports, len(mixed.addresses)) == ("unknown", 2)


def test_a_fresh_probe_moves_a_sequence_on_and_nothing_else() -> None:
    fresh = probes([40_100])[0]
    assert judge(list(range(40_000, 40_008))).after(fresh).latest == 40_100
    random_ports = judge([3_000, 19_000, 15_000, 8_000, 35_000, 61_000, 52_000, 60_000])
    assert random_ports.after(fresh) == random_ports


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([30_000 + 64 * n for n in range(8)], (29_935, 30_513)),  # a seventh of the spread more on either side
        ([2_100, 2_150, 2_300], (1_999, 2_401)),
        ([1_030, 9_000], (1_024, 16_971)),
        ([60_000, 65_000], (54_999, 65_535)),
        ([32_768, 32_800, 33_020, 33_021], (32_768, 33_023)),  # fills an aligned block of 256
        ([5_000], (5_000, 5_000)),
        ([80, 443, 500], (80, 711)),  # seen, though nobody should draw from there
    ],
)
def test_bands(ports: list[int], expected: tuple[int, int]) -> None:
    assert band(ports) == expected


@pytest.mark.parametrize(
    ("views", "own", "mapping", "ports"),
    [
        ([], [], "unknown", "unknown"),
        ([("198.18.1.1:20001", "198.18.0.10:1")], [], "unknown", "preserving"),
        ([("198.18.1.1:20001", "198.18.0.10:1")] * 2, [], "endpoint-independent", "preserving"),
        ([("198.18.1.1:20001", "198.18.0.10:1")] * 2, ["198.18.1.1"], "none", "preserving"),
        (
            [("198.18.1.1:7000", "198.18.0.10:1"), ("198.18.1.1:7001", "198.18.0.10:2")],
            [],
            "port-dependent",
            "changed",
        ),
        (
            [("198.18.1.1:7000", "198.18.0.10:1"), ("198.18.1.2:7000", "198.18.0.11:1")],
            [],
            "address-dependent",
            "changed",
        ),
        (
            [("198.18.1.1:20001", "198.18.0.10:1"), ("[2a00::1]:20001", "[2a00::9]:1")],
            [],
            "unknown",
            "preserving",
        ),
    ],
)
def test_mappings(views: list[tuple[str, str]], own: list[str], mapping: str, ports: str) -> None:
    seen = one_family([View(parse_endpoint(a), parse_endpoint(b)) for a, b in views])
    assert mapping_of(seen, {ip_address(host) for host in own}) == mapping
    assert binding_ports(seen, 20_001) == ports


@pytest.mark.parametrize(
    ("at_once", "expected"),
    [
        ([True, True, True], True),
        ([True, False, True], True),  # a SYN was lost
        ([True, None, True], True),
        ([False, False, False], False),
        ([False, None, False], False),
        ([False, True, False], None),
        ([None, None, True], None),
        ([None, None, False], None),
        ([None] * 3, None),
        ([], None),
    ],
)
def test_connections_that_are_made_twice(at_once: list[bool | None], expected: bool | None) -> None:
    assert renewed(at_once) is expected
    found = Allocation("random", low=1024, high=65535, renewed=expected)
    changed = {mapping: found.refined(mapping) for mapping in get_args(Mapping) if found.refined(mapping) != mapping}
    assert changed == ({"port-dependent": "connection-dependent"} if expected else {})
    assert found.refined("port-dependent") in DEPENDENT


@pytest.mark.parametrize(
    ("same", "other", "filtering", "known"),
    [
        (True, True, "endpoint-independent", True),
        (False, True, "endpoint-independent", True),
        (True, False, "address-dependent", True),
        (False, False, "port-dependent", True),
        (False, None, "port-dependent", True),
        (True, None, "unknown", False),
        (None, None, "unknown", False),
        (None, False, "unknown", False),
    ],
)
def test_filtering(same: bool | None, other: bool | None, filtering: str, known: bool) -> None:
    found, why = filtering_of(same, other)
    assert (found, not why) == (filtering, known)


# -- generated NATs -------------------------------------------------------------------------------------------------


def counter(start: int, step: int, low: int, high: int) -> Callable[[], int]:
    """The next outside port of a sequential NAT."""
    state = [start]

    def take() -> int:
        port = state[0]
        state[0] = low + (port + step - low) % (high - low + 1)
        return port

    return take


def draw(seed: int, low: int, high: int, count: int = PROBES) -> list[int]:
    return random.Random(seed).sample(range(low, high + 1), count)


@settings(max_examples=300, deadline=None)
@given(
    start=st.integers(0, 1999),
    step=st.sampled_from([1, 1, 1, 2, 4, -1]),
    others=st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=7, max_size=7),
)
def test_sequential_nats_with_other_traffic(start: int, step: int, others: list[int]) -> None:
    """Other hosts take ports of the same counter: where most gaps stay single the step is found, never a wrong one."""
    take = counter(40_000 + start, step, 40_000, 41_999)
    ports = [take()]
    for between in others:
        for _ in range(between):
            take()
        ports.append(take())
    found = judge(ports)
    undisturbed = sum(between == 0 for between in others)
    wrapped = max(ports) - min(ports) > 1_000
    if undisturbed >= 4 and not wrapped:
        assert (found.ports, found.step, found.latest) == ("sequential", step, ports[-1])
    elif found.ports == "sequential":
        assert found.step % step == 0
        assert found.step * step > 0
    else:
        # The way back at the end of the range may have been hidden by a disturbed gap.
        assert wrapped or undisturbed < 4


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_random_ports_of_the_whole_range(seed: int) -> None:
    found = judge(draw(seed, LOW, HIGH))
    assert found.ports == "random"
    assert LOW <= found.low <= found.high <= HIGH


@settings(max_examples=300, deadline=None)
@given(SEEDS, st.sampled_from([64, 256, 512]), st.integers(0, 120))
def test_blocks(seed: int, size: int, place: int) -> None:
    low = 1024 + 512 * place
    found = judge(draw(seed, low, low + size - 1))
    assert found.ports in ("block", "unknown")
    assert size == 64 or found.ports == "block"
    if found.ports == "block":
        assert found.high - found.low < 2 * size
        assert found.low <= low + size // 2 + size // 3
        assert found.high >= low + size // 8


def test_how_often_chance_misleads() -> None:
    """Twenty thousand NATs of each size with a fixed seed: none is called sequential, the estimate holds on average."""
    source = random.Random(7)
    for size in (64, 256, 512, 16_384, HIGH - LOW + 1):
        widths = []
        for _ in range(20_000):
            low = source.randint(LOW, HIGH - size + 1)
            ports = source.sample(range(low, low + size), PROBES)
            assert sequence_step(ports) == 0, ports
            first, last = band(ports)
            widths.append(min(last - first + 1, 4 * size))
        assert 0.8 < sum(widths) / len(widths) / size < 1.2, size


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 65535), st.sampled_from(["198.18.1.1", "198.18.1.2", "2a00::1"])), max_size=20),
    st.lists(st.integers(1, 65535), max_size=4),
)
def test_any_samples_give_something_that_can_be_sent(seen: list[tuple[int, str]], before: list[int]) -> None:
    given_probes = [Probe(BASE + n, Endpoint(ip_address(host), port)) for n, (port, host) in enumerate(seen)]
    found = allocation_of(given_probes, [Endpoint(ip_address(OUTSIDE), port) for port in before])
    summary = found.summary("port-dependent")
    frame = SERVER.encode(Report(summary))
    assert len(frame) < 256
    assert (found.low == 0) == (found.ports not in ("block", "random"))
    assert (found.step == 0) == (found.ports != "sequential")
    assert found.low <= found.high
    if found.ports == "block":
        assert found.high - found.low <= MAX_BLOCK
    if len(seen) < MIN_SAMPLES:
        assert found.ports == "unknown"
    assert isinstance(summary, NatSummary)
