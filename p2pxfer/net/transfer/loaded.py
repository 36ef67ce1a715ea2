"""A chunk on its way from the disk to a path."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from p2pxfer.core.session.deltawire import Op, patch_prefix
from p2pxfer.core.session.wire import chunk_prefix
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.delta import Blocks

HANDLE = 1
"""One transfer a session: its handle."""


class Loaded(Struct, frozen=True):
    """A chunk that was read and hashed: as it is, or with ``ops`` as a patch to the version with these blocks."""

    address: ChunkAddress
    digest: bytes
    size: int
    ops: list[Op] | None
    parts: Sequence[bytes | memoryview]
    older: Blocks | None

    def frame(self) -> list[bytes | memoryview]:
        """What goes out."""
        (file, index), digest = self.address, self.digest
        if self.ops is not None:
            return [patch_prefix(HANDLE, file, index, digest, self.ops), *self.parts]
        return [chunk_prefix(HANDLE, file, index, digest, self.size), *self.parts]
