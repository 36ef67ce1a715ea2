from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.traversal.dialing import EAGER, ICMP_GAP_S, MAX_CANDIDATES, MAX_DIALS, REPEATS, DialSchedule
from p2pxfer.core.traversal.dials import Budget, Candidate, Dial, Plan, Volley

PORT = 23456
A = Candidate("server-reflexive", "198.18.1.1", 20000)
B = Candidate("host", "10.0.0.1", 20001)
DIAL_A = Dial(PORT, A.host, A.port)
DIAL_B = Dial(PORT, B.host, B.port)


def schedule(*candidates: Candidate, seed: int = 1, until: float = 1e9, budget: Budget | None = None) -> DialSchedule:
    return DialSchedule(candidates, PORT, 0.0, until, random.Random(seed).random, budget)


def test_every_candidate_is_dialled_at_once_and_then_left_alone() -> None:
    """A dial without an answer is not repeated: the kernel repeats its SYN (law 2)."""
    plan = schedule(A, B)
    assert plan.due(0.0).dial == [DIAL_A, DIAL_B]
    assert plan.due(100.0).dial == []
    assert plan.wake() is None


def test_a_candidate_that_comes_later_is_dialled_once_and_at_once() -> None:
    plan = schedule(A)
    plan.due(0.0)
    late = Candidate("server-reflexive", "2a00::1", 20000, "2a00::2")
    plan.offer([late, A, B, late], 1.0)
    assert plan.wake() == 1.0
    assert plan.due(1.0).dial == [Dial(PORT, late.host, late.port, local="2a00::2"), DIAL_B]
    plan.offer([Candidate("host", "10.0.0.1", port) for port in range(30000, 30100)], 2.0)
    assert len(plan.due(2.0).dial) == MAX_CANDIDATES - 3


def test_when_a_path_stands_only_what_is_of_use_beside_it_is_dialled() -> None:
    """No volley goes on, nothing else is dialled again, and what becomes known later counts only at those hosts."""
    plan = schedule(A, B)
    plan.add(Plan("", (Volley("fresh", A.host, tuple(range(30000, 30100)), 100.0, 100, 10.0, "leave", 100),)), 0.0)
    made = set(plan.due(0.5).dial)
    assert {DIAL_A, DIAL_B} < made
    dials = plan.dials
    assert plan.keep_to({B.host}) == made - {DIAL_B}
    assert plan.dials == dials
    assert plan.wake() is None
    plan.failed(DIAL_A, 1.0)
    plan.failed(DIAL_B, 1.0)
    assert plan.due(1.0).dial == [DIAL_B]
    late = [Candidate("host", host, 20002) for host in (A.host, B.host)]
    plan.offer(late, 2.0)
    assert plan.due(2.0).dial == [Dial(PORT, B.host, 20002)]


def test_the_first_failure_is_answered_at_once() -> None:
    plan = schedule(A)
    plan.due(0.0)
    plan.failed(DIAL_A, 1.0)
    assert plan.wake() == 1.0
    assert plan.due(1.0).dial == [DIAL_A]
    plan.failed(DIAL_A, 2.0)
    assert (plan.wake() or 0.0) > 2.0


def test_a_failed_dial_is_repeated_within_fifty_milliseconds() -> None:
    plan = schedule(A)
    plan.due(0.0)
    plan.failed(DIAL_A, 1.0)
    wake = plan.wake()
    assert wake is not None
    assert 1.0 <= wake < 1.05
    assert plan.due(wake).dial == [DIAL_A]


def test_after_an_icmp_error_nothing_is_waited_for_each_time() -> None:
    plan = schedule(A)
    now = 0.0
    for _ in range(EAGER - 1):
        assert plan.due(now).dial == [DIAL_A]
        now += 0.04
        plan.failed(DIAL_A, now, icmp=True)
        assert plan.wake() == now
    plan.due(now)
    plan.failed(DIAL_A, now, icmp=True)
    assert (plan.wake() or 0.0) >= now + 0.1


def test_icmp_errors_that_come_at_once_do_not_make_a_storm() -> None:
    plan = schedule(A)
    plan.due(0.0)
    plan.failed(DIAL_A, 0.001, icmp=True)
    assert plan.due(0.001).dial == [DIAL_A]
    plan.failed(DIAL_A, 0.002, icmp=True)
    assert plan.wake() == pytest.approx(0.001 + ICMP_GAP_S)


@given(st.integers())
def test_the_pauses_are_random_and_never_longer_than_the_law_says(seed: int) -> None:
    plan = schedule(A, seed=seed)
    now = 0.0
    pauses = []
    plan.due(now)
    for _ in range(MAX_DIALS):
        plan.failed(DIAL_A, now)
        wake = plan.wake()
        if wake is None:
            break
        pauses.append(wake - now)
        now = wake
        assert plan.due(now).dial == [DIAL_A]
    assert plan.dials == MAX_DIALS
    assert plan.wake() is None
    eager, patient = pauses[: EAGER - 1], pauses[EAGER - 1 :]
    assert all(0 <= pause < 0.0501 for pause in eager)
    assert all(0.0999 <= pause < 0.2001 for pause in patient)
    assert len({round(pause, 6) for pause in eager}) > len(eager) // 2


def test_two_sides_that_refuse_meet_although_both_dial_at_random() -> None:
    """Law 3 in a model: a SYN lives in the near NAT until the far one refuses it, one round trip later."""
    rtt = 0.04
    for seed in range(40):
        sides = [schedule(A, seed=seed), schedule(A, seed=1000 + seed)]
        skew = (seed % 10) * 0.05
        windows: list[list[tuple[float, float]]] = []
        for plan, start in zip(sides, (0.0, skew), strict=True):
            now = start
            mine = []
            while now < 5 and plan.due(now).dial:
                mine.append((now, now + rtt))
                plan.failed(DIAL_A, now + rtt)
                now = plan.wake() or 5.0
            windows.append(mine)
        # They meet when each SYN reaches the other NAT while that one still holds its own entry.
        met = any(
            a0 <= b0 + rtt / 2 <= a1 and b0 <= a0 + rtt / 2 <= b1 for a0, a1 in windows[0] for b0, b1 in windows[1]
        )
        assert met, seed


def test_nothing_is_dialled_after_the_deadline() -> None:
    plan = schedule(A, until=1.0)
    plan.due(0.0)
    plan.failed(DIAL_A, 0.999)
    plan.failed(DIAL_A, 2.0)
    assert plan.wake() is None
    assert plan.due(2.0).dial == []


@given(st.lists(st.integers(min_value=1, max_value=65535), max_size=300))
def test_candidates_are_bounded_and_dialled_once_each(ports: list[int]) -> None:
    """A26, A27: three hundred candidates, and the same one a hundred times."""
    plan = schedule(*(Candidate("host", "10.0.0.1", port) for port in ports))
    first = plan.due(0.0).dial
    assert len(first) <= MAX_CANDIDATES
    assert len(set(first)) == len(first)


# -- volleys ----------------------------------------------------------------------------------------------------------


def volley(**changes: Any) -> Volley:
    given = {
        "source": PORT, "host": A.host, "ports": tuple(range(30000, 34000)), "pace": 600.0, "window": 512, "ends": 8.0,
        "after_error": "leave", "most": 4000, "keep": 0.4, "rolls": 3.0,
    }  # fmt: skip
    return Volley(**{**given, **changes})


@dataclass
class Run:
    """What a schedule did with one plan: times of dials, most pending at once, SYNs with the kernel's repetitions."""

    dialled: list[tuple[float, Dial]] = field(default_factory=list)
    dropped: list[tuple[float, Dial]] = field(default_factory=list)
    pending: dict[Dial, float] = field(default_factory=dict)
    most: int = 0
    syns: int = 0

    def end(self, dial: Dial, now: float) -> None:
        began = self.pending.pop(dial)
        self.syns += sum(began + repeat <= now for repeat in REPEATS)


def run(plan: DialSchedule, fails: Callable[[Dial, int], float | None], until: float = 10.0) -> Run:
    """Drive ``plan``; ``fails(dial, number)`` says after how long a dial fails, if it does."""
    result, now = Run(), 0.0
    failures: list[tuple[float, int, Dial]] = []
    while now < until:
        while failures and failures[0][0] <= now:
            _, _, dial = heapq.heappop(failures)
            if dial in result.pending:
                result.end(dial, now)
                plan.failed(dial, now)
        orders = plan.due(now)
        for dial in orders.drop:
            result.end(dial, now)
            result.dropped.append((now, dial))
        for dial in orders.dial:
            assert dial not in result.pending, "a pending four-tuple is dialled again"
            result.pending[dial] = now
            result.dialled.append((now, dial))
            result.syns += 1
            after = fails(dial, len(result.dialled))
            if after is not None:
                heapq.heappush(failures, (now + after, len(result.dialled), dial))
        result.most = max(result.most, len(result.pending))
        times = [until, *(at for at, _, _ in failures[:1])]
        wake = plan.wake()
        now = max(min([*times, *([] if wake is None else [wake])]), now + 1e-6)
    for dial in list(result.pending):
        result.end(dial, now)
    return result


def never(dial: Dial, number: int) -> None:
    """No dial is ever answered."""


def test_a_walk_rolls_over_its_window_and_then_keeps_its_holes() -> None:
    plan = schedule()
    plan.add(Plan("", (volley(),)), 0.0)
    result = run(plan, never)
    in_three_seconds = [dial for when, dial in result.dialled if when < 3.0]
    assert 1700 <= len(in_three_seconds) <= 1800
    assert result.most == 512
    assert not [when for when, _ in result.dropped if 3.0 <= when < 7.0]
    started = {dial: when for when, dial in result.dialled}
    assert all(when - started[dial] >= 0.4 for when, dial in result.dropped)
    assert [dial.port for _, dial in result.dialled] == list(range(30000, 30000 + len(result.dialled)))
    assert not plan.pending


def test_a_dial_is_not_dropped_before_its_time_however_long_the_walk_waits() -> None:
    plan = schedule()
    plan.add(Plan("", (volley(window=10, keep=0.5),)), 0.0)
    result = run(plan, never, until=2.9)
    # Ten each half second.
    assert 50 <= len(result.dialled) <= 60


def test_what_failed_is_drawn_again_from_another_fresh_port() -> None:
    plan = schedule()
    hold = volley(source="fresh", ports=(30000,) * 8, window=8, after_error="redraw", most=20)
    plan.add(Plan("", (hold,)), 0.0)
    result = run(plan, lambda dial, number: 0.08)
    assert len(result.dialled) == len({dial.serial for _, dial in result.dialled}) == 20
    assert {(dial.source, dial.port) for _, dial in result.dialled} == {("fresh", 30000)}
    assert result.most == 8


def test_what_failed_is_dialled_again_on_the_same_four_tuple() -> None:
    plan = schedule()
    plan.add(Plan("", (volley(ports=(30000, 30001), after_error="redial"),)), 0.0)
    result = run(plan, lambda dial, number: 0.08)
    counts = Counter(dial for _, dial in result.dialled)
    assert len(counts) == 2
    assert all(40 < count <= MAX_DIALS for count in counts.values())


def test_a_connection_is_not_counted_as_pending() -> None:
    plan = schedule()
    plan.add(Plan("", (volley(ports=(30000,)),)), 0.0)
    (dial,) = plan.due(0.0).dial
    plan.connected(dial)
    assert plan.pending == 0
    assert run(plan, never).dropped == []


def test_a_volley_waits_for_its_start() -> None:
    plan = schedule()
    plan.add(Plan("", (volley(start=2.0, ports=(30000,)),)), 1.0)
    assert plan.due(1.0).dial == []
    assert plan.wake() == 3.0
    assert len(plan.due(3.0).dial) == 1


def test_room_bounds_what_is_pending() -> None:
    plan = schedule()
    plan.room = 40
    plan.add(Plan("", (volley(), volley(source="fresh"))), 0.0)
    assert run(plan, never).most == 40


def test_when_room_shrinks_the_oldest_go() -> None:
    plan = schedule()
    plan.add(Plan("", (volley(pace=math.inf, window=100),)), 0.0)
    begun = plan.due(0.0).dial
    plan.room = 30
    assert plan.wake() == 0.0
    assert plan.due(0.0).drop == begun[:70]
    assert plan.pending == 30


VOLLEYS = st.builds(
    volley,
    source=st.sampled_from([PORT, "fresh"]),
    pace=st.sampled_from([1.0, 250.0, 600.0, math.inf]),
    window=st.integers(1, 600),
    ends=st.floats(0.1, 9.0),
    start=st.floats(0.0, 4.0),
    rolls=st.sampled_from([0.0, 3.0, 100.0]),
    keep=st.floats(0.0, 2.0),
    after_error=st.sampled_from(["leave", "redraw", "redial"]),
    most=st.integers(0, 4000),
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(VOLLEYS, min_size=1, max_size=3),
    st.integers(1, 300),
    st.integers(1, 900),
    st.sampled_from([None, 0.0, 0.02, 0.3]),
    st.integers(),
)
def test_no_plan_exceeds_its_budget(
    volleys: list[Volley], rate: int, syns: int, fails_after: float | None, seed: int
) -> None:
    """Never more in any second than the rate, never more in all, and nothing outside the plan."""
    plan = schedule(seed=seed, budget=Budget(rate, syns))
    plan.add(Plan("", tuple(volleys)), 0.0)
    half = random.Random(seed)
    result = run(plan, lambda dial, number: fails_after if half.random() < 0.5 else None)
    times = [when for when, _ in result.dialled]
    assert all(last - first >= 1.0 for first, last in zip(times, times[rate:], strict=False))
    assert result.syns <= plan.syns <= syns
    assert {dial.host for _, dial in result.dialled} <= {A.host}


@given(st.integers())
def test_the_schedule_follows_from_the_draw_alone(seed: int) -> None:
    runs = []
    for _ in range(2):
        plan = schedule(A, seed=seed)
        plan.add(Plan("", (volley(ports=(30000, 30001, 30002), after_error="redial"),)), 0.0)
        runs.append(run(plan, lambda dial, number: 0.05, until=1.0).dialled)
    assert runs[0] == runs[1]
