"""Standard input and output as threads read and write them, in blocks that are worth a wake-up.

Laws of this file:

1. A read waits for something, then takes what is there already, up to its memory; it never waits for more.
2. Memory that was read into is used again when the peer has received what was in it, so a long stream costs no page
   faults.  A path that was left may still hold it and send what is in it now; the peer has that frame and drops it by
   its number (:mod:`p2pxfer.core.session.delivery`, law 3).
3. What waits to be written takes little more memory than it has bytes, however small the pieces are that it came in.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
from collections import deque
from collections.abc import MutableSequence, Sequence
from contextlib import suppress
from typing import Final

READ: Final = 1024 * 1024
"""Most bytes read at once."""
MOST_VIEWS: Final = 256
"""Most pieces written by one call; the system's limit is 1024."""
SMALL: Final = 4096
"""Pieces below this are joined while they wait to be written."""
_JOINED: Final = 64 * 1024
"""Nothing more is added to what has grown so large."""
_KEPT: Final = 8
"""Blocks that wait to be used again."""


def make_roomy(number: int) -> None:
    """Let a pipe hold as much as is read at once, where the system allows it: with 64 KiB its ends wait all the
    time.  One that holds more already is left alone."""
    if stat.S_ISFIFO(os.fstat(number).st_mode):
        # More than a user may have is refused, as is anything on a pipe of somebody else.
        with suppress(OSError):
            if fcntl.fcntl(number, fcntl.F_GETPIPE_SZ) < READ:
                fcntl.fcntl(number, fcntl.F_SETPIPE_SZ, READ)


def read_block(source: int, memory: memoryview) -> int:
    """Wait for bytes and take those that are there, as many as ``memory`` holds; 0 at the end.  ``OSError`` as of
    ``read``.

    Only a pipe is asked for more behind the first bytes: it tells its end as often as it is asked.  A terminal tells
    it once, and a socket tells once that it was reset.
    """
    size = at = os.readv(source, [memory])
    if not size or at == len(memory) or not stat.S_ISFIFO(os.fstat(source).st_mode):
        return at
    poll = select.poll()
    poll.register(source, select.POLLIN)
    while size and at < len(memory) and poll.poll(0):
        try:
            size = os.readv(source, [memory[at:]])
        except BlockingIOError:  # somebody else reads from it, too
            break
        at += size
    return at


class ReadBlocks:
    """The memory that one stream is read into."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self._lent: deque[tuple[int, bytearray]] = deque()
        self._at = 0

    def take(self, size: int) -> memoryview:
        """Memory for ``size`` bytes, :data:`READ` at most."""
        return memoryview(self._free.pop() if self._free else bytearray(READ))[:size]

    def read(self, memory: memoryview, size: int) -> bytes | memoryview:
        """``size`` bytes were read into ``memory``; returns them, to be kept until :meth:`received` says so.

        Few are copied: what they are in holds much more.
        """
        block = memory.obj
        assert isinstance(block, bytearray)
        self._at += size
        if 2 * size < READ:
            self._give(block)
            return bytes(memory[:size])
        self._lent.append((self._at, block))
        return memory[:size]

    def received(self, waiting: int) -> None:
        """The peer has everything but the last ``waiting`` bytes."""
        while self._lent and self._lent[0][0] <= self._at - waiting:
            self._give(self._lent.popleft()[1])

    def _give(self, block: bytearray) -> None:
        if len(self._free) < _KEPT:
            self._free.append(block)


def keep(waiting: MutableSequence[bytes | bytearray | memoryview], piece: bytes | bytearray | memoryview) -> None:
    """Let ``piece`` wait to be written behind the others: as a view if it is large; small ones are joined, because what
    holds a single byte takes hundreds."""
    last = waiting[-1] if waiting else None
    if len(piece) >= SMALL:
        waiting.append(memoryview(piece))
    elif isinstance(last, bytearray) and len(last) < _JOINED:
        last += piece
    else:
        waiting.append(bytearray(piece))


def write_whole(target: int, data: bytes | bytearray | memoryview) -> int:
    """Write all of ``data``, however long that takes; returns its size."""
    return write_all(target, [memoryview(data)])


def write_all(target: int, views: Sequence[memoryview]) -> int:
    """Write all of them, however long that takes; returns their size."""
    left = deque(views)
    size = sum(len(view) for view in views)
    while left:
        written = os.writev(target, [left[place] for place in range(min(len(left), MOST_VIEWS))])
        while left and written >= len(left[0]):
            written -= len(left.popleft())
        if written:
            left[0] = left[0][written:]
    return size


def close_output(target: int) -> None:
    """Let whoever reads see the end; the number stays taken, so that nothing else gets it.

    A socket may be open under other numbers too, as where it is the input as well, so its direction is shut by itself.
    """
    if stat.S_ISSOCK(os.fstat(target).st_mode):
        # One that the other end has reset is closed already.
        with socket.socket(fileno=os.dup(target)) as other, suppress(OSError):
            other.shutdown(socket.SHUT_WR)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, target)
    os.close(nothing)
