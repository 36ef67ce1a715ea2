"""How much the channels of a session may hold: a window begins small and grows where it is what holds a writer up.

Laws of this file:

1. All windows of one direction stay within the total, and each of as many channels as there may be gets the smallest.
2. No window grows beyond its share, by more than it was, or by more than half of what is free: those that come later
   find room too.

When one grows is said by :mod:`p2pxfer.core.session.channel`.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct


class Limits(Struct, frozen=True):
    """How much one side of a session holds, for each direction: ``channels`` at once, ``total`` bytes for all.

    Every channel can have a window of ``smallest`` bytes, begins with ``first`` where there is room, and gets no more
    than a ``share``-th of the rest beside the smallest one.
    """

    channels: int = 128
    smallest: int = 128 * 1024
    first: int = 512 * 1024
    total: int = 80 * 1024 * 1024
    share: int = 4

    @property
    def largest(self) -> int:
        """What a window may grow to."""
        return self.smallest + (self.total - self.smallest * self.channels) // self.share

    def begin(self, windows: Collection[int]) -> int:
        """The window of one more channel beside those that there are."""
        return min(max(self.first, self.smallest), self.smallest + self._free(windows) // self.share)

    def growth(self, window: int, windows: Collection[int]) -> int:
        """By how much ``window``, which is one of ``windows``, may grow."""
        return max(0, min(window, self.largest - window, self._free(windows) // 2))

    def _free(self, windows: Collection[int]) -> int:
        """What is left when everybody who may still come has the smallest."""
        return self.total - sum(windows) - self.smallest * (self.channels - len(windows))
