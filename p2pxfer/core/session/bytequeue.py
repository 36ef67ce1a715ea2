"""Bytes that wait to be cut into pieces: small ones are joined, large ones are not copied."""

from __future__ import annotations

from collections import deque
from typing import Final

SMALL: Final = 4096
"""What is shorter, in bytes, is copied: kept by itself it costs many times what it holds."""
JOINED: Final = 65_536
"""So long, in bytes, what was joined grows at least before something new is begun."""


class ByteQueue:
    """A queue of bytes; what is put in must not change afterwards."""

    __slots__ = ("_blocks", "_size")

    def __init__(self) -> None:
        self._blocks: deque[memoryview | bytearray] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, data: bytes | memoryview) -> None:
        """Put bytes at the end."""
        if not data:
            return
        self._size += len(data)
        last = self._blocks[-1] if self._blocks else None
        if len(data) >= SMALL:
            self._blocks.append(memoryview(data))
        elif isinstance(last, bytearray) and len(last) < JOINED:
            last += data
        else:
            self._blocks.append(bytearray(data))

    def take(self, limit: int) -> bytes | memoryview:
        """Take at most ``limit`` bytes from the front, as many as there are."""
        taken: list[memoryview] = []
        left = limit
        while left and self._blocks:
            block = memoryview(self._blocks.popleft())  # nothing is joined to it any more
            if len(block) > left:
                self._blocks.appendleft(block[left:])
                block = block[:left]
            taken.append(block)
            left -= len(block)
        self._size -= limit - left
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def own(self) -> None:
        """Copy what is inside: its memory may change from now on."""
        self._blocks = deque(block if isinstance(block, bytearray) else bytearray(block) for block in self._blocks)

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self._size = 0
