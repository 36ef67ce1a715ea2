"""How long to wait before trying again: growing pauses with full jitter, so that many clients spread out."""

from __future__ import annotations

from collections.abc import Callable

FIRST_S = 0.5
FACTOR = 1.5
LONGEST_S = 30.0


class Backoff:
    """Pauses in seconds; ``draw`` returns a uniform number in [0, 1)."""

    def __init__(self, draw: Callable[[], float], longest: float = LONGEST_S) -> None:
        self._draw = draw
        self._longest = longest
        self._ceiling = FIRST_S

    def reset(self) -> None:
        """Something worked: start again with short pauses."""
        self._ceiling = FIRST_S

    def next(self) -> float:
        """The next pause: uniform between a tenth of the ceiling and the ceiling, which grows."""
        pause = self._ceiling * (0.1 + 0.9 * self._draw())
        self._ceiling = min(self._longest, self._ceiling * FACTOR)
        return pause
