"""How much one peer may have this machine remember, over all its transfers and paths together: file lists, and parts.

The list of a transfer counts as long as the transfer is remembered, be it over or not.
"""

from __future__ import annotations

from typing import Final

from p2pxfer.core.transfer.manifest import MAX_MANIFEST
from p2pxfer.core.transfer.parts import PartsRoom
from p2pxfer.errors import LimitReached

MOST: Final = MAX_MANIFEST + 1024 * 1024
"""Bytes of lists: the longest one, and small ones beside it."""


class ListBudget:
    """The lists of one peer's transfers."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._taken: dict[object, int] = {}
        self.parts = PartsRoom()
        """The parts of chunks."""

    def take(self, who: object, size: int) -> None:
        """``who`` remembers ``size`` bytes in all now.

        Raises:
            LimitReached: together they would be too many; nothing changes.
        """
        if sum(self._taken.values()) - self._taken.get(who, 0) + size > self._most:
            raise LimitReached(f"the file lists of one sender's transfers have {self._most} bytes together at most")
        self._taken[who] = size

    def give_back(self, who: object) -> None:
        """``who`` remembers nothing any more."""
        self._taken.pop(who, None)
