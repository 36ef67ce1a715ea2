"""How often the progress of a transfer is told."""

from __future__ import annotations

from twisted.internet.task import Clock

from p2pxfer.cli.ticker import INTERVAL_S, QUIET_S, Ticker
from p2pxfer.status import Event, Progress


class Transfer:
    """A transfer under way."""

    def __init__(self) -> None:
        self.size = 0
        self.path = "none"
        self.told: list[Event] = []
        self.clock = Clock()
        self.ticker = Ticker(self.clock, lambda: (self.size, 1000, self.path), self.told.append)
        self.ticker.start()

    def pass_time(self, seconds: float, each: int = 0) -> int:
        """Let time pass while ``each`` bytes come in every interval; how many reports there were."""
        before = len(self.told)
        for _ in range(round(seconds / INTERVAL_S)):
            self.size += each
            self.clock.advance(INTERVAL_S)
        return len(self.told) - before


def test_while_something_comes_it_is_told_several_times_a_second() -> None:
    transfer = Transfer()
    assert transfer.pass_time(4.0, each=7) == 20


def test_while_nothing_happens_little_is_told() -> None:
    transfer = Transfer()
    assert transfer.pass_time(10 * QUIET_S) <= 11
    transfer.path = "relay"
    assert transfer.pass_time(1.0) == 1


def test_a_rate_that_fades_is_told_until_it_is_nothing() -> None:
    transfer = Transfer()
    transfer.pass_time(2.0, each=100_000)
    transfer.pass_time(60.0)
    assert transfer.told[-1].rate == 0  # type: ignore[union-attr]  # progress
    assert transfer.pass_time(10 * QUIET_S) <= 11


def test_what_an_earlier_run_left_is_no_part_of_the_rate() -> None:
    transfer = Transfer()
    transfer.pass_time(INTERVAL_S)
    transfer.size = 900
    transfer.ticker.known(900)
    transfer.pass_time(2.0, each=2)
    last = transfer.told[-1]
    assert isinstance(last, Progress)
    assert (last.bytes, last.rate) == (920, 10)


def test_the_end_is_always_told_and_nothing_after_it() -> None:
    transfer = Transfer()
    transfer.pass_time(1.0)
    before = len(transfer.told)
    transfer.ticker.stop()
    assert len(transfer.told) == before + 1
    assert transfer.pass_time(20.0) == 0
    assert not transfer.clock.getDelayedCalls()
