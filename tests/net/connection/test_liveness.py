"""When a path is given up: silence, unanswered packets, and not for a disk that is behind."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from p2pxfer.errors import P2pxferError
from p2pxfer.net.connection.liveness import PATH, SURE_S, Liveness, PacketsLost


class FakePath:
    """A path that answers pings after ``delay`` seconds, or not at all."""

    def __init__(self, delay: float | None) -> None:
        self.clock = Clock()
        self.delay = delay
        self.silence = 0.0
        self.pings: list[int] = []
        self.failures: list[P2pxferError] = []
        self.liveness = Liveness(self.clock, self)

    def ping(self, number: int) -> None:
        self.pings.append(number)
        if self.delay is not None:
            self.clock.callLater(self.delay, self._answer, number)

    def _answer(self, number: int) -> None:
        self.liveness.byte()
        self.liveness.pong(number)

    def silent_for(self) -> float:
        return self.silence

    def fail(self, error: P2pxferError) -> None:
        self.failures.append(error)
        self.liveness.stop()

    def run(self, seconds: float) -> None:
        self.clock.pump([PATH.look / 2] * round(2 * seconds / PATH.look))


def test_pings_go_out_and_the_shortest_round_trip_counts() -> None:
    path = FakePath(0.5)
    path.liveness.start()
    path.run(3 * PATH.ping)
    path.delay = 0.25
    path.run(PATH.ping)
    path.delay = 1.0
    path.run(3 * PATH.dead)
    assert path.failures == []
    assert path.pings == list(range(len(path.pings)))
    assert len(path.pings) >= 3 * PATH.dead / PATH.ping
    assert path.liveness.rtt == pytest.approx(0.25, abs=PATH.look)


def test_silence_ends_a_path_and_its_calls() -> None:
    path = FakePath(None)
    path.liveness.start()
    path.run(PATH.dead)
    assert path.failures == []
    path.run(2 * PATH.ping)
    (error,) = path.failures
    assert not isinstance(error, PacketsLost)
    assert path.clock.getDelayedCalls() == []


def test_silence_says_nothing_while_this_side_does_not_read() -> None:
    path = FakePath(None)
    path.liveness.start()
    path.liveness.reading(False)
    path.run(5 * PATH.dead)
    assert path.failures == []
    path.liveness.reading(True)
    path.run(PATH.dead)
    assert path.failures == []
    path.run(2 * PATH.ping)
    assert len(path.failures) == 1


def test_unanswered_packets_end_a_path_at_once_even_while_it_is_held() -> None:
    path = FakePath(0.1)
    path.liveness.start()
    path.liveness.reading(False)
    path.silence = PATH.unanswered
    path.run(1.0)
    assert path.failures == []
    path.silence = PATH.unanswered + 0.1
    path.run(2 * PATH.look)
    (error,) = path.failures
    assert isinstance(error, PacketsLost)


def test_a_time_out_that_is_answered_soon_ends_nothing() -> None:
    """On a quiet path the last acknowledgement is old before anything is missing."""
    path = FakePath(0.1)
    path.liveness.start()
    for _ in range(10):
        path.silence = 5.0
        path.run(SURE_S - PATH.look)
        path.silence = 0.0
        path.run(1.0)
    assert path.failures == []


def test_a_late_pong_to_an_earlier_ping_is_no_measurement() -> None:
    path = FakePath(None)
    path.liveness.start()
    path.run(PATH.ping)
    path.liveness.pong(path.pings[0])
    path.liveness.pong(77)
    assert path.liveness.rtt is None
    path.liveness.stop()


@pytest.mark.parametrize("delay", [0.1, None])
def test_f36_who_was_stopped_asks_once_more_before_it_judges(delay: float | None) -> None:
    """A machine that slept has heard nothing for long, which says nothing of the other end."""
    path = FakePath(0.1)
    path.liveness.start()
    path.run(3.5 * PATH.ping)
    path.delay = delay
    path.clock.advance(600.0)
    assert path.failures == []
    path.run(2 * PATH.ping)
    assert len(path.failures) == (delay is None)
    path.liveness.stop()


def test_f36_whoever_is_late_with_every_ping_judges_all_the_same() -> None:
    path = FakePath(None)
    path.liveness.start()
    for _ in range(round(PATH.dead / PATH.ping)):
        path.clock.advance(2 * PATH.ping)
    assert len(path.failures) == 1


def test_how_long_nothing_came_is_known_while_this_side_reads() -> None:
    path = FakePath(None)
    path.clock.advance(5)
    path.liveness.byte()
    path.clock.advance(1.5)
    assert path.liveness.quiet_for == 1.5
    path.liveness.reading(False)
    assert path.liveness.quiet_for == 0.0
