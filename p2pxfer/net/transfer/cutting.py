"""Cuts a file into blocks where its content says so, by FastCDC in its form of 2020.

A library does it at some GB/s and without the interpreter's lock; ``docs/performance.rst`` has what else was tried.
Where it is missing, nothing is compared and files are sent whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from blake3 import blake3
from twisted.logger import Logger

from p2pxfer.core.session.deltawire import BLOCK_HASH

_log = Logger()

READ = 4 * 1024 * 1024
"""Most bytes that are read at once."""


@lru_cache(maxsize=1)
def can_cut() -> bool:
    """Whether :func:`blocks` has what it needs; if not, the log says once what that is."""
    try:
        import pyfastcdc  # noqa: F401  # only where an older version is: importing it costs some milliseconds
    except ImportError as error:
        _log.warn("files are sent whole: pip install pyfastcdc, to send what differs alone ({error})", error=error)
        return False
    return True


class _Reader:
    """A file as the library wants it."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._size = size
        self._at = 0

    def read(self, count: int) -> bytes:
        """The next bytes, empty at the end."""
        data = self._read(self._at, min(count, READ, self._size - self._at))
        self._at += len(data)
        return data


def blocks(read: Callable[[int, int], bytes], size: int, average: int) -> Iterator[tuple[int, bytes]]:
    """Length and hash of each block of the ``size`` bytes that ``read(offset, length)`` gives, in order.

    What ``read`` raises goes through.  Only where :func:`can_cut`.
    """
    from pyfastcdc import FastCDC

    if not size:
        return
    for block in FastCDC(average).cut_stream(_Reader(read, size)):
        yield block.length, blake3(block.data).digest(length=BLOCK_HASH)
