"""Memory for chunks that is used again: a fresh mebibyte costs more in page faults than the copy into it."""

from __future__ import annotations

KEPT_BYTES = 16 * 1024 * 1024
"""Most memory that waits to be used again."""
SMALLEST = 32 * 1024
"""What is smaller costs no page faults of its own, and hundreds of thousands of it would have to be looked through."""


class BufferPool:
    """Hands out writable views of exactly the size asked for and takes them back."""

    def __init__(self, kept: int = KEPT_BYTES, smallest: int = SMALLEST) -> None:
        self._kept = kept
        self._smallest = smallest
        self._free: list[bytearray] = []
        self._free_bytes = 0

    def take(self, size: int) -> memoryview:
        """A view of ``size`` bytes; what it holds is left over from an earlier use.

        What came back last is taken first: the more memory takes turns, the less of it is in the processor's caches.
        """
        for place in reversed(range(len(self._free))):
            buffer = self._free[place]
            if size <= len(buffer) <= 2 * size:
                del self._free[place]
                self._free_bytes -= len(buffer)
                return memoryview(buffer)[:size]
        return memoryview(bytearray(size))

    def give(self, view: memoryview) -> None:
        """Take back the memory under ``view``, which nobody may use afterwards."""
        buffer = view.obj
        view.release()
        if isinstance(buffer, bytearray) and self._smallest <= len(buffer) <= self._kept - self._free_bytes:
            self._free.append(buffer)
            self._free_bytes += len(buffer)
