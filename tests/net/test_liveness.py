"""When a path is given up: silence, unanswered packets, and not for a disk that is behind."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from p2pxfer.errors import P2pxferError
from p2pxfer.net.liveness import DEAD_S, LOOK_S, PING_S, SURE_S, UNANSWERED_S, Liveness, PacketsLost


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
        self.clock.pump([LOOK_S / 2] * round(2 * seconds / LOOK_S))


def test_pings_go_out_and_the_shortest_round_trip_counts() -> None:
    path = FakePath(0.5)
    path.liveness.start()
    path.run(3 * PING_S)
    path.delay = 0.25
    path.run(PING_S)
    path.delay = 1.0
    path.run(3 * DEAD_S)
    assert path.failures == []
    assert path.pings == list(range(len(path.pings)))
    assert len(path.pings) >= 3 * DEAD_S / PING_S
    assert path.liveness.rtt == pytest.approx(0.25, abs=LOOK_S)


def test_silence_ends_a_path_and_its_calls() -> None:
    path = FakePath(None)
    path.liveness.start()
    path.run(DEAD_S)
    assert path.failures == []
    path.run(2 * PING_S)
    (error,) = path.failures
    assert not isinstance(error, PacketsLost)
    assert path.clock.getDelayedCalls() == []


def test_silence_says_nothing_while_this_side_does_not_read() -> None:
    path = FakePath(None)
    path.liveness.start()
    path.liveness.reading(False)
    path.run(5 * DEAD_S)
    assert path.failures == []
    path.liveness.reading(True)
    path.run(DEAD_S)
    assert path.failures == []
    path.run(2 * PING_S)
    assert len(path.failures) == 1


def test_unanswered_packets_end_a_path_at_once_even_while_it_is_held() -> None:
    path = FakePath(0.1)
    path.liveness.start()
    path.liveness.reading(False)
    path.silence = UNANSWERED_S
    path.run(1.0)
    assert path.failures == []
    path.silence = UNANSWERED_S + 0.1
    path.run(2 * LOOK_S)
    (error,) = path.failures
    assert isinstance(error, PacketsLost)


def test_a_time_out_that_is_answered_soon_ends_nothing() -> None:
    """On a quiet path the last acknowledgement is old before anything is missing."""
    path = FakePath(0.1)
    path.liveness.start()
    for _ in range(10):
        path.silence = 5.0
        path.run(SURE_S - LOOK_S)
        path.silence = 0.0
        path.run(1.0)
    assert path.failures == []


def test_a_late_pong_to_an_earlier_ping_is_no_measurement() -> None:
    path = FakePath(None)
    path.liveness.start()
    path.run(PING_S)
    path.liveness.pong(path.pings[0])
    path.liveness.pong(77)
    assert path.liveness.rtt is None
    path.liveness.stop()
