"""Shows other programs that nobody brings a transfer just now, though a process has it in hand.

Law: it is a lock and nothing that is written, so what it says ends with the process at the latest.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from p2pxfer.net.disk import OPEN_DIRECTORY, OPEN_INNER_DIRECTORY
from p2pxfer.net.private.privatedir import HeldLocks
from p2pxfer.net.staging.strays import TREE


class WaitMark:
    """The mark of the transfer whose private directory is ``place``; blocking, and for one thread."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._held = -1

    def show(self, waiting: bool) -> None:
        """Set it, or take it away; where the system refuses, nothing is shown."""
        if not waiting:
            held, self._held = self._held, -1
            if held >= 0:
                os.close(held)
        elif self._held < 0:
            with suppress(OSError):
                self._held = os.open(os.path.join(self._place, TREE), OPEN_DIRECTORY)  # noqa: PTH118  # as text
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_marked(place: int, locks: HeldLocks) -> bool:
    """Whether the mark of the private directory ``place``, a descriptor, is set."""
    try:
        fd = os.open(TREE, OPEN_INNER_DIRECTORY, dir_fd=place)
    except OSError:
        return False
    try:
        return locks.is_held(fd)
    finally:
        os.close(fd)
