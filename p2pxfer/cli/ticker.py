"""Reports the progress of a transfer a few times a second."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from p2pxfer.status import Event, Progress

INTERVAL_S = 0.2
QUIET_S = 5.0
"""How often it is reported that nothing has changed, seconds."""
_SMOOTHING = 0.3


class Ticker:
    """Calls ``tell`` with a progress event while it runs; ``measure`` returns (bytes so far, total, path)."""

    def __init__(
        self, clock: IReactorTime, measure: Callable[[], tuple[int, int | None, str]], tell: Callable[[Event], None]
    ) -> None:
        self._measure = measure
        self._tell = tell
        self._clock = clock
        self._last = (clock.seconds(), measure()[0])
        self._rate = 0.0
        self._told: Progress | None = None
        self._told_at = 0.0
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to report."""
        self._loop.start(INTERVAL_S, now=False)

    def known(self, size: int) -> None:
        """So many bytes were there before: they count and are no part of the rate."""
        then, before = self._last
        self._last = (then, max(before, size))

    def stop(self) -> None:
        """Report once more and stop."""
        if self._loop.running:
            self._loop.stop()
            self.tick()

    def tick(self) -> None:
        """Report now."""
        self._report(self._progress())

    def _look(self) -> None:
        """Report what is new."""
        progress = self._progress()
        if progress != self._told or self._clock.seconds() - self._told_at >= QUIET_S:
            self._report(progress)

    def _report(self, progress: Progress) -> None:
        self._told, self._told_at = progress, self._clock.seconds()
        self._tell(progress)

    def _progress(self) -> Progress:
        size, total, path = self._measure()
        then, before = self._last
        now = self._clock.seconds()
        if now > then:
            rate = max(0.0, (size - before) / (now - then))
            self._rate = rate if self._rate == 0.0 else (1 - _SMOOTHING) * self._rate + _SMOOTHING * rate
            self._last = (now, size)
        return Progress(bytes=size, total=total, rate=round(self._rate), path=path)
