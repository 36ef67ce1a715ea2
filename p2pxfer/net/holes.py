"""Holes of sparse files on the disk: found without reading, and left where they were."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from p2pxfer.core.transfer.geometry import chunk_count, chunk_size
from p2pxfer.core.transfer.pathrules import STAGING_PREFIX
from p2pxfer.core.transfer.ranges import Range
from p2pxfer.net.disk import OPEN_INNER_FILE, write_all

_BLOCK_OF_STAT: Final = 512
_GRAIN: Final = 4096
"""Smallest hole that is made, bytes."""
_ZEROS: Final = bytes(1024 * 1024)


def may_be_sparse(status: os.stat_result) -> bool:
    """Whether the file takes less of the disk than it holds."""
    return stat.S_ISREG(status.st_mode) and status.st_blocks * _BLOCK_OF_STAT < status.st_size


def find_holes(fd: int, size: int) -> list[Range]:
    """Ranges of chunks of a file of ``size`` bytes in which no data lies.  Raises ``OSError``."""
    each = chunk_size(size)
    found: list[Range] = []
    at = 0
    while at < size:
        data = _seek(fd, at, os.SEEK_DATA, size)
        first = -(-at // each)
        stop = chunk_count(size) if data == size else data // each
        if first < stop:
            found.append((first, stop))
        at = size if data == size else _seek(fd, data, os.SEEK_HOLE, size)
    return found


def _seek(fd: int, at: int, whence: int, size: int) -> int:
    """Where data, or a hole, begins from ``at`` on; ``size`` if nowhere."""
    try:
        return min(os.lseek(fd, at, whence), size)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        if error.errno == errno.EINVAL:  # a file system without holes
            return at if whence == os.SEEK_DATA else size
        raise


def keeps_holes(directory: int) -> bool:
    """Whether a file in the directory of this descriptor takes no space where nothing was written; raises ``OSError``.

    exFAT and its like have none.  It is tried, for no call tells.
    """
    fd = _nameless(directory)
    try:
        os.ftruncate(fd, len(_ZEROS))
        return may_be_sparse(os.fstat(fd))
    finally:
        os.close(fd)


def _nameless(directory: int) -> int:
    """A new file that is gone when it is closed."""
    try:
        return os.open(".", os.O_RDWR | os.O_TMPFILE, 0o600, dir_fd=directory)
    except OSError:
        pass  # the file system does not know how, or says why below
    name = f"{STAGING_PREFIX}try-{os.urandom(16).hex()}"
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | OPEN_INNER_FILE, 0o600, dir_fd=directory)
    os.unlink(name, dir_fd=directory)
    return fd


def leave_hole(fd: int, start: int, stop: int) -> None:
    """Have the file be zero from ``start`` to ``stop`` and reach as far, without writing where nothing lies.

    Raises ``OSError``.
    """
    size = os.fstat(fd).st_size
    if size < stop:
        os.ftruncate(fd, stop)
    # What is new is zero, although a file system without holes takes it for data.
    old = min(size, stop)
    at = _seek(fd, start, os.SEEK_DATA, old)
    while at < old:
        end = min(_seek(fd, at, os.SEEK_HOLE, old), at + len(_ZEROS), old)
        write_all(fd, memoryview(_ZEROS)[: end - at], at)
        at = _seek(fd, end, os.SEEK_DATA, old)


def write_around_holes(fd: int, data: memoryview, offset: int) -> None:
    """Write ``data`` at ``offset``, leaving holes where it is zero for whole blocks.  Raises ``OSError``."""
    at = 0
    while at < len(data):
        zero = _is_zero(data[at : at + _GRAIN])
        end = at + _GRAIN
        while end < len(data) and _is_zero(data[end : end + _GRAIN]) == zero:
            end += _GRAIN
        end = min(end, len(data))
        if zero:
            leave_hole(fd, offset + at, offset + end)
        else:
            write_all(fd, data[at:end], offset + at)
        at = end


def _is_zero(block: memoryview) -> bool:
    return block == memoryview(_ZEROS)[: len(block)]
