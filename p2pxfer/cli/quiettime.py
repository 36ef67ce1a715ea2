"""The time in which nothing comes, of which ``--timeout`` names the longest.

Laws of this file:

1. The time in which something is under way does not count, however slow it is.
2. It begins anew with the end of what was under way, and is looked at until :meth:`QuietTime.stop`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

LOOK_S = 0.25
"""How often it is looked whether something is under way, seconds."""


class QuietTime:
    """Calls ``passed`` when it was quiet for ``longest`` seconds, and again while it stays so; never without a longest.

    ``busy`` tells whether something is under way.
    """

    def __init__(
        self, clock: IReactorTime, longest: float | None, busy: Callable[[], bool], passed: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._longest = longest
        self._busy = busy
        self._passed = passed
        self._since = 0.0
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def start(self) -> None:
        """It is quiet now."""
        self.begin()
        if self._longest is not None:
            self._looking.start(min(LOOK_S, self._longest))

    def begin(self) -> None:
        """What was under way has ended."""
        self._since = self._clock.seconds()

    def stop(self) -> None:
        """Look no more."""
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> None:
        assert self._longest is not None
        if self._busy():
            self.begin()
        elif self._clock.seconds() - self._since >= self._longest:
            self._passed()
