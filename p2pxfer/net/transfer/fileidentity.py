"""What tells one state of a file on this disk from every other one, and the numbers that are kept of it."""

from __future__ import annotations

import os
from array import array
from typing import Final

from msgspec import Struct


class FileIdentity(Struct, frozen=True):
    """What tells one state of one file from every other."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def is_of(self, status: os.stat_result) -> bool:
        """Whether a stat result shows this very state.

        The time of status counts too, though links and modes change it: whoever rewrites a file can set the other back.
        """
        return (
            self.mtime_ns == status.st_mtime_ns
            and self.ctime_ns == status.st_ctime_ns
            and self.size == status.st_size
            and self.ino == status.st_ino
            and self.dev == status.st_dev
        )

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """The identity in a stat result."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def numbers(self) -> tuple[int, ...]:
        """As :data:`FIELDS` signed numbers of 64 bits; the first two are unsigned ones."""
        return (_signed(self.dev), _signed(self.ino), self.size, self.mtime_ns, self.ctime_ns)

    @classmethod
    def from_numbers(cls, numbers: array[int]) -> FileIdentity:
        """What :meth:`numbers` gave."""
        dev, ino, size, mtime_ns, ctime_ns = numbers
        return cls(dev % 2**64, ino % 2**64, size, mtime_ns, ctime_ns)


FIELDS: Final = 5
"""Numbers in an identity."""


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
