"""What is wrong where a private file or directory cannot be made: the disk, or how the machine is set up."""

from __future__ import annotations

import errno
from typing import Final

from p2pxfer.errors import ConfigError, DiskError, NoSpace

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAILED: Final = frozenset({errno.EIO, errno.ESTALE})


def unwritten(error: OSError, what: str) -> ConfigError | DiskError:
    """``error`` as a sentence about ``what`` failed: a disk that is full or failed is no wrong configuration."""
    text = f"{what}: {error.strerror or error}"
    if error.errno in _FULL:
        return NoSpace(f"{text}; make room and run the command again")
    return DiskError(text) if error.errno in _FAILED else ConfigError(text)
