"""The cap on the kernel's pace, against lines that deliver what the test says."""

from __future__ import annotations

from collections.abc import Iterable

from p2pxfer.core.session.lines import LEAST_TRIP_S, Line
from p2pxfer.core.session.pacecap import ANEW_S, HEADROOM, PaceCap

LOOK_S = 0.2
MB = 1_000_000


class Model:
    """One connection that delivers a rate for a while; for a ``share`` of that it is the line that is waited for."""

    def __init__(self, trip: float = 0.08, shortest: float = 0.0) -> None:
        self.cap = PaceCap()
        self.trip = trip
        self.shortest = shortest
        self.now = 50.0
        self.acked = 0.0
        self.at_work: float | None = 3.0
        self.caps: list[tuple[float, int]] = []

    def run(self, rate: float, seconds: float, *, full: bool = True, share: float = 1.0) -> None:
        for _ in range(round(seconds / LOOK_S)):
            self.now += LOOK_S
            self.acked += rate * LOOK_S
            self.at_work = None if self.at_work is None else self.at_work + share * LOOK_S
            line = Line(int(self.acked), 0, 0, self.trip, full, self.shortest, self.at_work)
            cap = self.cap.look(line, self.now)
            if cap is not None:
                self.caps.append((self.now, cap))

    @property
    def last(self) -> float:
        return self.caps[-1][1] / HEADROOM


def nearly(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= 0.01 * wanted


def rates(caps: Iterable[tuple[float, int]]) -> list[int]:
    return [cap for _, cap in caps]


def test_a_beginning_is_not_held_up_and_what_stopped_growing_is_capped() -> None:
    model = Model()
    for rate in (1, 2, 4, 8, 16):
        model.run(rate * MB, 0.6)
    assert model.caps == []
    model.run(16 * MB, 2)
    assert nearly(model.last, 16 * MB)
    assert len(model.caps) == 1


def test_the_cap_follows_a_line_that_gets_faster() -> None:
    """The kernel sends no faster than the cap, so that is what each window can grow by."""
    model = Model()
    model.run(MB, 3)
    rate = MB
    for _ in range(25):
        rate = int(min(20 * MB, model.caps[-1][1]))
        model.run(rate, 0.6)
    assert rate == 20 * MB
    model.run(rate, 2)
    assert nearly(model.last, 20 * MB)


def test_the_cap_never_sinks() -> None:
    model = Model()
    model.run(10 * MB, 3)
    before = rates(model.caps)
    model.run(MB, 10)
    model.run(0, 30)
    assert rates(model.caps) == before
    model.run(10 * MB, 3)
    assert rates(model.caps) == before


def test_time_without_anything_to_send_does_not_count() -> None:
    model = Model()
    for _ in range(10):
        model.run(MB, 0.4)
        model.run(0, 5, full=False)
    assert model.caps == []
    model.run(MB, 2)
    assert nearly(model.last, MB)


def test_a_short_line_is_left_alone() -> None:
    model = Model(trip=LEAST_TRIP_S / 2)
    model.run(MB, 30)
    assert model.caps == []
    model.trip = LEAST_TRIP_S
    model.run(MB, 3)
    assert len(model.caps) == 1


def test_a_pause_makes_no_window_look_slow_or_fast() -> None:
    """What came in one burst after a pause is measured over the time that it took with the pause."""
    model = Model()
    model.run(4 * MB, 3)
    before = rates(model.caps)
    model.now += ANEW_S - 1
    model.run(4 * MB, 3)
    assert rates(model.caps) == before


def test_what_did_not_carry_for_a_while_begins_anew_without_a_cap() -> None:
    """Its line was mended meanwhile; step by step it would take long to come so far."""
    model = Model()
    model.run(MB, 3)
    assert nearly(model.last, MB)
    model.now += ANEW_S + 1
    model.run(20 * MB, 0.4)
    assert model.caps[-1][1] == 0
    model.run(20 * MB, 3)
    assert nearly(model.last, 20 * MB)
    assert [cap for _, cap in model.caps].count(0) == 1


def test_time_in_which_the_other_end_takes_nothing_does_not_count() -> None:
    """Its disk is behind, at the very beginning: the line has not become slow."""
    model = Model()
    model.run(23_000, 7, share=0.02)
    assert model.caps == []
    for rate in (1, 2, 4, 8):
        model.run(rate * MB, 0.6)
    assert model.caps == []
    model.run(8 * MB, 2)
    assert nearly(model.last, 8 * MB)


def test_what_the_headroom_makes_good_still_counts() -> None:
    model = Model()
    model.run(0.9 * MB, 3, share=0.9)
    assert model.caps[-1][1] >= MB


def test_what_was_delivered_in_part_of_a_window_raises_the_cap() -> None:
    model = Model()
    model.run(MB, 3)
    model.run(2 * MB, 3, share=0.5)
    assert nearly(model.last, 2 * MB)


def test_a_kernel_that_does_not_tell_who_was_waited_for_is_believed() -> None:
    model = Model()
    model.at_work = None
    model.run(MB, 3)
    assert nearly(model.last, MB)


def test_a_line_is_as_long_as_its_shortest_round_trip() -> None:
    """What waits for a processor, or for a window to open, makes a short line no longer."""
    model = Model(trip=2 * LEAST_TRIP_S, shortest=LEAST_TRIP_S / 100)
    model.run(MB, 30)
    assert model.caps == []


def test_a_cap_is_lifted_where_the_line_turns_out_to_be_short() -> None:
    """Nothing would raise it any more."""
    model = Model(trip=2 * LEAST_TRIP_S)
    model.run(MB, 3)
    assert nearly(model.last, MB)
    model.trip = LEAST_TRIP_S / 2
    model.run(MB, 3)
    assert model.caps[-1][1] == 0
    assert len(model.caps) == 2
