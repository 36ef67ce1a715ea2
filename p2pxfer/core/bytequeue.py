"""Bytes that wait to be cut into pieces: small ones are joined, large ones are not copied."""

from __future__ import annotations

from collections import deque


class ByteQueue:
    """A queue of bytes; what is put in must not change afterwards."""

    __slots__ = ("_blocks", "_size")

    def __init__(self) -> None:
        self._blocks: deque[memoryview] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, data: bytes | memoryview) -> None:
        """Put bytes at the end."""
        if data:
            self._blocks.append(memoryview(data))
            self._size += len(data)

    def take(self, limit: int) -> bytes | memoryview:
        """Take at most ``limit`` bytes from the front, as many as there are."""
        taken: list[memoryview] = []
        left = limit
        while left and self._blocks:
            block = self._blocks.popleft()
            if len(block) > left:
                self._blocks.appendleft(block[left:])
                block = block[:left]
            taken.append(block)
            left -= len(block)
        self._size -= limit - left
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self._size = 0
