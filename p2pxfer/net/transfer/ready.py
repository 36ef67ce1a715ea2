"""What was read ahead and waits for a path that has room.

Law: at most :data:`AHEAD_BYTES` are between disk and socket, what is being read included, so memory is bounded whatever
the files are and how many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from p2pxfer.core.session.transferwire import MAX_CHUNK
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.sender import SenderCore
from p2pxfer.net.transfer.loaded import Loaded, Lost

AHEAD_BYTES = 16 * 1024 * 1024
"""Most bytes between disk and socket, with what remembers them."""
CHUNK_COST = 256
"""What a chunk between disk and socket takes beside its payload, about; of the smallest files it is nearly all."""


class Ready:
    """Chunks that ``core`` gave out to be read: those that are read, in order, and the room of those that are not."""

    def __init__(self, core: SenderCore) -> None:
        self._core = core
        self._waiting: deque[Loaded] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether another chunk may be read."""
        return self._bytes + MAX_CHUNK <= AHEAD_BYTES

    @property
    def first(self) -> Loaded:
        """The next one; there has to be one."""
        return self._waiting[0]

    def reading(self, chunks: Iterable[ChunkAddress]) -> None:
        """These are being read."""
        self._bytes += sum(self._core.length(address) + CHUNK_COST for address in chunks)

    def came(self, loaded: list[Loaded]) -> None:
        """These were read."""
        for each in loaded:
            self._core.chunk_read(each.address, each.digests)
        self._waiting.extend(loaded)

    def lost(self, lost: Lost) -> None:
        """These cannot be read."""
        for address in lost.chunks:
            self._bytes -= self._core.length(address) + CHUNK_COST
            self._core.drop_chunk(address)

    def take_for(self, path: int) -> Loaded:
        """Take out the next one for a path, one that was begun there first."""
        begun, told = self._core.rests.on(path), self._core.is_told
        places = (n for n, ready in enumerate(self._waiting) if ready.address in begun and told(ready.last))
        return self._take(next(places, 0) if begun else 0)

    def make_room(self) -> None:
        """Something is to be read once more, and goes first: drop what comes last."""
        while self._waiting and not self.has_room:
            last = self._take(len(self._waiting) - 1)
            self._core.drop_chunk(last.address, last.count)

    def _take(self, place: int) -> Loaded:
        loaded = self._waiting[place]
        del self._waiting[place]
        self._bytes -= loaded.size + CHUNK_COST * loaded.count
        return loaded

    def clear(self) -> None:
        """Nothing is sent any more."""
        self._waiting.clear()
