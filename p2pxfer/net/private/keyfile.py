"""The file with a machine's key, and how a directory with one is known: whoever has the key is that machine."""

from __future__ import annotations

import os
from typing import Final

from p2pxfer.net.disk import OPEN_INNER_FILE

KEY_FILE: Final = "identity.pem"
_BEGIN: Final = b"-----BEGIN PRIVATE KEY-----"
_OTHERS: Final = 0o077


def is_private(directory: int) -> bool:
    """Whether the directory behind a descriptor is one that no other user may enter, with a key in it."""
    if os.fstat(directory).st_mode & _OTHERS:
        return False
    try:
        fd = os.open(KEY_FILE, os.O_RDONLY | OPEN_INNER_FILE, dir_fd=directory)
    except OSError:
        return False
    try:
        return os.pread(fd, len(_BEGIN), 0) == _BEGIN
    except OSError:
        return False
    finally:
        os.close(fd)
