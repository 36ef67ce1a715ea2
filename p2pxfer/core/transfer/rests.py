"""Rests of chunks at the sender: of which chunks the receiver has parts, and what was sent as a rest.

Laws of this file:

1. A part counts on the path that told it, for one sending of its chunk, while that is not acknowledged, and only if the
   chunk still has the hash that the part is of.
2. What is remembered is bounded, and who tells more is forgotten first: a chunk whose part is forgotten is sent whole.
3. A chunk is lacked only on the path on which its rest was sent, and as often; on another one it stays under way.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from msgspec import Struct, field

from p2pxfer.core.session.deltawire import Lack
from p2pxfer.core.session.restwire import Part
from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.transfer.ranges import RangeSet
from p2pxfer.errors import ProtocolBreach

MAX_REMEMBERED: Final = 64
"""Most parts of a path, and most rests that were sent on it; a receiver keeps fewer parts by far."""


class _Path(Struct):
    """Hash and size of the parts that were told, and how often the rest of a chunk was sent."""

    parts: dict[ChunkAddress, tuple[bytes, int]] = field(default_factory=dict)
    sent: dict[ChunkAddress, int] = field(default_factory=dict)


class Rests:
    """The rests of chunks in ``table``."""

    def __init__(self, table: ChunkTable) -> None:
        self._table = table
        self._paths: dict[int, _Path] = {}

    def lost(self, path: int) -> None:
        """The path is gone, or another process is at its end."""
        self._paths.pop(path, None)

    def told(self, path: int, part: Part) -> None:
        """The receiver has a part of a chunk, as it says on ``path``.

        Raises:
            ChunkRefused: the chunk is not part of the transfer.
            ProtocolBreach: it is no part of that chunk.
        """
        address = (part.file, part.index)
        self._table.number(address)
        if not 0 < part.size < self._table.length(address):
            raise ProtocolBreach("the receiver has none of a chunk or all of it, and calls that a part")
        parts = self._paths.setdefault(path, _Path()).parts
        parts.pop(address, None)
        parts[address] = part.hash, part.size
        if len(parts) > MAX_REMEMBERED:
            del parts[next(iter(parts))]

    def acknowledged(self, chunks: RangeSet) -> None:
        """The receiver has these chunks: their parts are of no use."""
        for known in self._paths.values():
            for address in [address for address in known.parts if self._table.number(address) in chunks]:
                del known.parts[address]

    def on(self, path: int) -> Collection[ChunkAddress]:
        """The chunks of which a part was told on ``path``."""
        known = self._paths.get(path)
        return known.parts if known is not None else ()

    def take(self, path: int, address: ChunkAddress, digest: bytes) -> int:
        """From which octet on a chunk with this hash goes out on ``path`` now, 0 for all of it."""
        known = self._paths.get(path)
        if known is None or address not in known.parts:
            return 0
        held, size = known.parts.pop(address)
        if held != digest:
            return 0
        # The newest comes last.
        known.sent[address] = known.sent.pop(address, 0) + 1
        if len(known.sent) > MAX_REMEMBERED:
            del known.sent[next(iter(known.sent))]
        return size

    def lacked(self, path: int, lack: Lack) -> tuple[list[ChunkAddress], Lack]:
        """The chunks of which nothing came of a rest, and what is said of others."""
        known = self._paths.get(path)
        if known is None or not known.sent:
            return [], lack
        found: list[ChunkAddress] = []
        others: list[tuple[int, int, int]] = []
        for file, start, stop in lack.chunks:
            address = (file, start)
            if stop - start != 1 or not known.sent.get(address):
                others.append((file, start, stop))
                continue
            known.sent[address] -= 1
            found.append(address)
        return found, Lack(lack.handle, others)
