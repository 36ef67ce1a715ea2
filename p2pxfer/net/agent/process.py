"""The process at the other end of a local socket: which one it is, and when it has ended.

That a connection is closed says little: a process closes those it has first, and may then wait for its threads.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from p2pxfer.net.private.filelocks import hold

LOOK_S: Final = 0.05
"""How often it is looked where the system does not tell of the end by itself, seconds."""


def peer_of(connection: socket.socket) -> tuple[int, int] | None:
    """The process and the user at the other end, ``None`` where the system does not tell.

    The process is 0 where it has no number here, as of another container.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    size = struct.calcsize("3i")
    process, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(process), int(user)


class OtherEnd:
    """The process that listens where ``connection`` leads, and holds ``lock`` while it serves; until :meth:`close`."""

    def __init__(self, connection: socket.socket, lock: Path) -> None:
        """Know it from now on, so that nobody is taken for it who gets its number when it has ended."""
        self._lock = lock
        self._told = peer_of(connection)
        self._handle: int | None = None
        if self._told is not None and self._told[0] and hasattr(os, "pidfd_open"):
            with suppress(OSError):  # an old kernel, or one that forbids it
                self._handle = os.pidfd_open(self._told[0])

    def ends_by(self, deadline: float, number: int) -> bool:
        """Wait until it has ended, or until ``deadline`` (``time.monotonic``); whether it has.

        ``number`` is what it calls itself.  Where it has no number here its lock is all there is to see.
        """
        if self._handle is not None:
            poll = select.poll()
            poll.register(self._handle, select.POLLIN)
            return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
        process = number if self._told is None else self._told[0]
        while _is_there(process) if process else _is_held(self._lock):
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_S)
        return True

    def close(self) -> None:
        """It is not watched any more."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _is_held(lock: Path) -> bool:
    try:
        os.close(hold(lock))
    except BlockingIOError:
        return True
    return False
