"""Locks of files: one that a process has for as long as it lives, and one for the moment of a change."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hold(path: Path) -> int:
    """A descriptor of the lock file ``path``, private and made on first use; the lock is held while it is open.

    A process that this one forks holds it too.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file cannot be used.
    """
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock of the file ``path``, made on first use, and have it inside the block.

    It keeps two processes, or threads, from changing what it stands for between one's reading and its writing; whoever
    has it keeps it for milliseconds.  Raises ``OSError`` at its beginning if the file cannot be used.
    """
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
