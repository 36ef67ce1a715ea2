"""How long nothing may come: only the time counts in which nothing is under way."""

from __future__ import annotations

from twisted.internet.task import Clock

from p2pxfer.cli.quiettime import LOOK_S, QuietTime


class Line:
    """What may be busy, and how often its time had passed."""

    def __init__(self, longest: float | None) -> None:
        self.clock = Clock()
        self.busy = False
        self.passed = 0
        self.quiet = QuietTime(self.clock, longest, lambda: self.busy, self._pass)

    def _pass(self) -> None:
        self.passed += 1
        self.quiet.stop()

    def wait(self, seconds: float) -> None:
        self.clock.pump([LOOK_S] * round(seconds / LOOK_S))


def test_it_passes_when_nothing_came() -> None:
    line = Line(2.0)
    line.quiet.start()
    line.wait(1.75)
    assert line.passed == 0
    line.wait(0.25)
    assert line.passed == 1
    assert not line.clock.getDelayedCalls()


def test_the_time_of_what_is_under_way_does_not_count() -> None:
    line = Line(2.0)
    line.quiet.start()
    line.wait(1)
    line.busy = True
    line.wait(100)
    line.busy = False
    line.wait(1.75)
    assert line.passed == 0
    line.wait(0.25)
    assert line.passed == 1


def test_what_came_and_went_between_two_looks_counts_too() -> None:
    line = Line(2.0)
    line.quiet.start()
    line.wait(1)
    line.quiet.begin()
    line.wait(1.75)
    assert line.passed == 0
    line.wait(0.25)
    assert line.passed == 1


def test_without_a_longest_nobody_looks() -> None:
    line = Line(None)
    line.quiet.start()
    assert not line.clock.getDelayedCalls()
    line.quiet.begin()
    line.quiet.stop()


def test_a_time_shorter_than_a_look_is_looked_at_in_time() -> None:
    line = Line(0.1)
    line.quiet.start()
    line.clock.advance(0.1)
    assert line.passed == 1
