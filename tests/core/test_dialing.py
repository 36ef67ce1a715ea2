from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.dialing import EAGER, MAX_CANDIDATES, MAX_DIALS, Candidate, DialSchedule

A = Candidate("server-reflexive", "198.18.1.1", 20000)
B = Candidate("host", "10.0.0.1", 20001)


def schedule(*candidates: Candidate, seed: int = 1, until: float = 1e9) -> DialSchedule:
    return DialSchedule(candidates, 0.0, until, random.Random(seed).random)


def test_every_candidate_is_dialled_at_once_and_then_left_alone() -> None:
    """A dial without an answer is not repeated: the kernel repeats its SYN (law 2)."""
    plan = schedule(A, B)
    assert plan.due(0.0) == [A, B]
    assert plan.due(100.0) == []
    assert plan.wake() is None


def test_a_failed_dial_is_repeated_within_fifty_milliseconds() -> None:
    plan = schedule(A)
    plan.due(0.0)
    plan.failed(A, 1.0)
    wake = plan.wake()
    assert wake is not None
    assert 1.0 <= wake < 1.05
    assert plan.due(wake) == [A]


@given(st.integers())
def test_the_pauses_are_random_and_never_longer_than_the_law_says(seed: int) -> None:
    plan = schedule(A, seed=seed)
    now = 0.0
    pauses = []
    plan.due(now)
    for _ in range(MAX_DIALS):
        plan.failed(A, now)
        wake = plan.wake()
        if wake is None:
            break
        pauses.append(wake - now)
        now = wake
        assert plan.due(now) == [A]
    assert plan.dials() == MAX_DIALS
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
            while now < 5 and plan.due(now):
                mine.append((now, now + rtt))
                plan.failed(A, now + rtt)
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
    plan.failed(A, 0.999)
    plan.failed(A, 2.0)
    assert plan.wake() is None
    assert plan.due(2.0) == []


@given(st.lists(st.integers(min_value=1, max_value=65535), max_size=300))
def test_candidates_are_bounded_and_dialled_once_each(ports: list[int]) -> None:
    """A26, A27: three hundred candidates, and the same one a hundred times."""
    plan = schedule(*(Candidate("host", "10.0.0.1", port) for port in ports))
    first = plan.due(0.0)
    assert len(first) <= MAX_CANDIDATES
    assert len(set(first)) == len(first)
