"""How long to wait before trying again: growing pauses with full jitter, so that many clients spread out."""

from __future__ import annotations

from collections.abc import Callable

FIRST_S = 0.5
FACTOR = 1.5
LONGEST_S = 30.0
STEADY_S = 10.0
"""What stood for longer than this worked: the next loss is answered with short pauses again, seconds."""


class Backoff:
    """Pauses in seconds; ``draw`` returns a uniform number in [0, 1)."""

    def __init__(self, draw: Callable[[], float], longest: float = LONGEST_S) -> None:
        self._draw = draw
        self._longest = longest
        self._ceiling = FIRST_S
        self._since: float | None = None

    def reset(self) -> None:
        """Something worked: start again with short pauses."""
        self._ceiling = FIRST_S

    def stands(self, now: float) -> None:
        """What is tried has come about; the first time since :meth:`ended` counts."""
        if self._since is None:
            self._since = now

    def ended(self, now: float) -> None:
        """It ended, or never came about, however long that took; short pauses follow if it stood for a while."""
        if self._since is not None and now - self._since > STEADY_S:
            self.reset()
        self._since = None

    def next(self) -> float:
        """The next pause: uniform between a tenth of the ceiling and the ceiling, which grows."""
        pause = self._ceiling * (0.1 + 0.9 * self._draw())
        self._ceiling = min(self._longest, self._ceiling * FACTOR)
        return pause
