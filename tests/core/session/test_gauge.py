"""What connections deliver together, look by look."""

from __future__ import annotations

import pytest

from p2pxfer.core.session.gauge import Gauge
from p2pxfer.core.session.lines import LEAST_TRIP_S, RATE_S, WARM, Line, longest_usual, window_s
from tests.moments import for_now

TRIP = 0.08
WINDOW = window_s(TRIP)


def line(acked: int, *, trip: float = TRIP, full: bool = True) -> Line:
    return Line(acked, acked // 1000, 0, trip, full)


def looking(gauge: Gauge, *looks: tuple[float, dict[int, Line]]) -> list[bool]:
    return [gauge.look(lines, at) for at, lines in looks]


def test_a_window_tells_what_each_connection_delivered_in_it() -> None:
    gauge = Gauge(0.0)
    looking(gauge, (0.0, {1: line(WARM + 1), 2: line(WARM + 1)}))
    assert gauge.delivered(0.0) is None
    looking(gauge, (WINDOW, {1: line(WARM + 1001), 2: line(WARM + 3001)}))
    delivered = gauge.delivered(WINDOW)
    assert delivered is not None
    assert delivered.rate == 4000 / WINDOW
    assert (delivered.of(1), delivered.of(2), delivered.of(None)) == (1000 / WINDOW, 3000 / WINDOW, 0.0)
    looking(gauge, (1.5 * WINDOW, {1: line(WARM + 9001), 2: line(WARM + 9001)}))
    assert gauge.delivered(1.5 * WINDOW) is None, "the next window has begun"


def test_a_window_in_which_one_stood_still_tells_nothing() -> None:
    gauge = Gauge(0.0)
    looking(gauge, (0.0, {1: line(WARM + 1), 2: line(WARM + 1)}))
    looking(gauge, (WINDOW, {1: line(WARM + 1001), 2: line(WARM + 1)}))
    assert gauge.delivered(WINDOW) is None
    looking(gauge, (2 * WINDOW, {1: line(WARM + 2001), 2: line(WARM + 1001)}))
    assert gauge.delivered(2 * WINDOW) is not None, "and the next one may"


def test_the_shortest_round_trip_is_of_a_connection_that_carried_enough() -> None:
    gauge = Gauge(0.0)
    looking(gauge, (0.0, {1: line(WARM, trip=0.01)}))
    assert gauge.least == 0.0
    looking(gauge, (0.2, {1: line(WARM + 1, trip=0.05)}), (0.4, {1: line(WARM + 2, trip=0.09)}))
    assert gauge.least == 0.05


@pytest.mark.parametrize(
    ("lines", "limit"),
    [
        ({}, False),
        ({1: line(WARM + 1)}, True),
        ({1: line(WARM + 1), 2: line(WARM + 1, full=False)}, False),
        ({1: line(WARM + 1, trip=LEAST_TRIP_S / 2)}, False),
        ({1: line(WARM)}, False),
    ],
    ids=["none", "full", "one is not full", "a short trip", "a trip that is not known"],
)
def test_connections_are_the_limit_where_all_are_full_and_the_trip_is_long(lines: dict[int, Line], limit: bool) -> None:
    assert looking(Gauge(0.0), (0.0, lines)) == [limit]


def test_packets_queue_while_any_round_trip_is_long_and_until_the_smoothed_one_is_not() -> None:
    gauge = Gauge(0.0)
    looking(gauge, (0.0, {1: line(WARM + 1)}))
    assert not for_now(gauge.queues)
    long = longest_usual(TRIP) * 1.5
    looking(gauge, *((0.2 * n, {1: line(WARM + n, trip=long)}) for n in range(1, 30)))
    assert for_now(gauge.queues)
    looking(gauge, (6.0, {1: line(WARM + 100)}))
    assert for_now(gauge.queues), "what queues comes and goes"
    looking(gauge, *((6.0 + 0.2 * n, {1: line(WARM + 100 + n)}) for n in range(1, 30)))
    assert not for_now(gauge.queues)


def test_what_was_delivered_lately_is_forgotten_with_the_first_look_that_is_not_full() -> None:
    gauge = Gauge(0.0)
    looking(gauge, (0.0, {1: line(WARM + 1)}), (RATE_S, {1: line(WARM + 1001)}))
    assert for_now(gauge.lately.known)
    assert gauge.lately.rate == pytest.approx(1000 / RATE_S)
    looking(gauge, (2 * RATE_S, {1: line(WARM + 2001, full=False)}))
    assert not for_now(gauge.lately.known)
