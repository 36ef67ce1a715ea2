"""When a connection begins anew, against lines that deliver and lose what the test says."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from p2pxfer.core.session.lines import LEAST_TRIP_S, WARM, Line
from p2pxfer.core.session.secondstart import GROWTH, NEAR, SETTLE, WINDOW_TRIPS, SecondStart

LOOK_S = 0.1
MB = 1_000_000
SEGMENT = 1448
TRIP = 0.08
WINDOW_S = 0.4
"""So much between two looks that end a window."""


class Course:
    """One connection that delivers ``rate`` bytes a second and loses a share of its segments."""

    def __init__(self, *, trip: float = TRIP, loss: float = 0.005) -> None:
        self.now = 100.0
        self.rule = SecondStart()
        self.trip = trip
        self.loss = loss
        self.acked = float(WARM)
        self.sent = self.lost = 0.0
        self.anew = 0

    def run(self, rate: float, seconds: float = WINDOW_S, *, full: bool = True, trip: float = 0.0) -> int:
        """Returns how often it was to begin anew meanwhile."""
        before = self.anew
        for _ in range(round(seconds / LOOK_S)):
            self.now += LOOK_S
            self.acked += rate * LOOK_S
            self.sent += rate * LOOK_S / SEGMENT
            self.lost += rate * LOOK_S / SEGMENT * self.loss
            line = Line(int(self.acked), int(self.sent), int(self.lost), trip or self.trip, full)
            self.anew += self.rule.look(line, self.now)
        return self.anew - before

    def begins(self, rates: Iterable[float]) -> None:
        for rate in rates:
            assert not self.run(rate * MB)


def test_what_grows_by_a_quarter_while_packets_get_lost_begins_anew() -> None:
    course = Course()
    course.begins([0.1, 0.6, 3])
    assert course.run(3.5 * MB, 2 * WINDOW_S) == 1


@pytest.mark.parametrize("rates", [[0.1, 0.5, 2.5, 12, 14, 14, 14], [0.2, 0.41, 0.83, 1.7, 3.5, 7.1, 14.5, 15]])
def test_what_grows_and_what_is_near_what_buffers_carry_goes_on(rates: list[float]) -> None:
    assert NEAR < 12 * MB * TRIP
    Course().begins(rates)


def test_without_losses_and_where_a_queue_is_overrun_nothing_begins_anew() -> None:
    for loss in (0.0, 0.2):
        assert Course(loss=loss).run(3 * MB, 20) == 0


def test_while_packets_queue_and_while_it_is_not_full_nothing_begins_anew() -> None:
    course = Course()
    course.begins([3])
    assert course.run(3 * MB, 20, trip=1.5 * TRIP) == 0
    assert course.run(3 * MB, 20, full=False) == 0
    assert course.run(3 * MB, WINDOW_S) == 0, "one window tells of no growth"


@pytest.mark.parametrize("trip", [0.0001, 0.9 * LEAST_TRIP_S])
def test_at_a_short_round_trip_nothing_begins_anew(trip: float) -> None:
    assert Course(trip=trip).run(3 * MB, 20) == 0


def test_what_stands_still_does_not_begin_anew() -> None:
    course = Course()
    course.begins([3])
    assert course.run(0, 20) <= 1


def test_a_line_that_is_full_is_asked_once() -> None:
    course = Course()
    assert course.run(2.5 * MB, 600) == 1


def test_another_beginning_follows_one_that_helped_and_not_at_once() -> None:
    course = Course()
    while not course.run(2 * MB, LOOK_S):
        assert course.now < 110
    assert course.run(4 * MB, (SETTLE - 1) * WINDOW_S) == 0
    assert course.run(4 * MB, 600) == 1


def test_a_window_is_some_round_trips_of_a_longer_line() -> None:
    trip = 0.3
    course = Course(trip=trip)
    rate = 0.1 * MB
    while rate < 1.5 * MB:
        assert course.run(rate, 0.3) == 0
        rate *= GROWTH**0.5
    assert course.run(rate, (WINDOW_TRIPS - 1) * trip) == 0
    assert course.run(rate, 4 * WINDOW_TRIPS * trip) == 1
