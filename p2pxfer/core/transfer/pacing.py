"""A limit on bytes a second, driven by the caller's clock.

Law: over any time of T seconds no more than rate * (T + BURST_S) bytes and one piece are let through, and as long as
there is something to send no less than rate * T minus one piece.
"""

from __future__ import annotations

import math
from typing import Final

BURST_S: Final = 0.1
"""How much may go at once after a pause, in seconds of the rate."""


class Pace:
    """Lets a piece of any size through while the account is not in debt, and waits until the debt is paid.

    ``rate`` in bytes a second, 0 for no limit; ``now`` in seconds, monotonic.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._own = self._rate = rate or math.inf
        self._level = 0.0
        self._seen = now

    def peer_wants(self, rate: float) -> None:
        """The other side wants at most ``rate`` bytes a second, whatever it wanted before; 0 for no limit."""
        self._rate = min(self._own, rate or math.inf)

    def wait(self, now: float) -> float:
        """Seconds until the next piece may go; 0 if it may go now."""
        if math.isinf(self._rate):
            return 0.0
        earned = self._level + max(0.0, now - self._seen) * self._rate
        self._level = min(earned, self._rate * BURST_S)
        self._seen = max(self._seen, now)
        return max(0.0, -self._level / self._rate)

    def spend(self, size: int) -> None:
        """A piece of ``size`` bytes went."""
        if not math.isinf(self._rate):
            self._level -= size
