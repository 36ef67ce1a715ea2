"""A lock that one process has, for as long as it lives: whoever uses a state directory alone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def hold(path: Path) -> int:
    """A descriptor of the lock file ``path``, private and made on first use; the lock is held while it is open.

    A process that this one forks holds it too.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file cannot be used.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
