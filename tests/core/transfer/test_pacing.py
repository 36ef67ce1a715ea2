"""The limit on bytes a second, against its law."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.transfer.pacing import BURST_S, Pace

RATES = st.floats(min_value=1000, max_value=1e9)
PIECES = st.lists(st.integers(min_value=1, max_value=4 << 20), min_size=1, max_size=60)


@settings(deadline=None)
@given(RATES, PIECES, st.lists(st.floats(min_value=0, max_value=30), max_size=60))
def test_never_faster_than_the_rate(rate: float, pieces: list[int], pauses: list[float]) -> None:
    """Whatever else takes time between the pieces."""
    pace, now, gone = Pace(rate, 0.0), 0.0, 0
    starts: list[tuple[float, int]] = []
    for number, piece in enumerate(pieces):
        now += pauses[number] if number < len(pauses) else 0.0
        now += pace.wait(now)
        assert pace.wait(now) <= 1e-6
        starts.append((now, gone))
        pace.spend(piece)
        gone += piece
        for then, before in starts:
            allowed = rate * (now - then + BURST_S) + piece
            assert gone - before <= allowed * (1 + 1e-6) + 1


@settings(deadline=None)
@given(RATES, PIECES)
def test_never_slower_than_the_rate(rate: float, pieces: list[int]) -> None:
    """As long as there is something to send."""
    pace, now = Pace(rate, 5.0), 5.0
    for piece in pieces:
        now += pace.wait(now)
        pace.spend(piece)
    assert now - 5.0 <= sum(pieces[:-1]) / rate * (1 + 1e-6) + 1e-6


def test_no_limit_and_the_lower_of_two() -> None:
    pace = Pace(0, 0.0)
    pace.spend(1 << 40)
    assert pace.wait(0.0) == 0
    pace.peer_wants(0)
    assert pace.wait(0.0) == 0
    pace.peer_wants(1000)
    pace.spend(500)
    assert pace.wait(0.0) == pytest.approx(0.5)
    own = Pace(1000, 0.0)
    own.peer_wants(4000)
    own.spend(500)
    assert own.wait(0.0) == pytest.approx(0.5)


def test_a_receiver_that_comes_back_may_want_more() -> None:
    pace = Pace(8000, 0.0)
    pace.peer_wants(1000)
    pace.peer_wants(4000)
    pace.spend(1000)
    assert pace.wait(0.0) == pytest.approx(0.25)
    pace.peer_wants(0)
    assert pace.wait(0.0) == pytest.approx(0.125)
    free = Pace(0, 0.0)
    free.peer_wants(1000)
    free.spend(5000)
    free.peer_wants(0)
    assert free.wait(0.0) == 0


def test_a_clock_that_stands_or_goes_back_earns_nothing() -> None:
    pace = Pace(1000, 10.0)
    pace.spend(1000)
    assert pace.wait(10.0) == pytest.approx(1.0)
    assert pace.wait(3.0) == pytest.approx(1.0)
    assert pace.wait(10.5) == pytest.approx(0.5)
