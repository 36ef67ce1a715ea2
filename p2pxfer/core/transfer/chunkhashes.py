"""The known hashes of a chunk table as a read-only mapping, without a second copy of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.errors import ChunkRefused


class ChunkHashes(Mapping[ChunkAddress, bytes]):
    """(file index, chunk index) -> BLAKE3 hash for each chunk in ``table.known``, in order; follows the table."""

    def __init__(self, table: ChunkTable) -> None:
        self._table = table

    @property
    def table(self) -> ChunkTable:
        """Where they are."""
        return self._table

    def __getitem__(self, address: ChunkAddress) -> bytes:
        try:
            number = self._table.number(address)
        except ChunkRefused:
            raise KeyError(address) from None
        if number not in self._table.known:
            raise KeyError(address)
        return self._table.hash(number)

    def __iter__(self) -> Iterator[ChunkAddress]:
        for start, stop in self._table.known:
            for number in range(start, stop):
                yield self._table.address(number)

    def __len__(self) -> int:
        return self._table.known.total
