"""What is on its way from the disk to a path: a chunk, or a bundle of small files."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from p2pxfer.core.session.bundlewire import DIGEST, bundle_prefix
from p2pxfer.core.session.deltawire import Op, patch_prefix, patch_size
from p2pxfer.core.session.restwire import rest_prefix
from p2pxfer.core.session.transferwire import chunk_prefix
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.delta import Blocks
from p2pxfer.core.transfer.rests import Rests
from p2pxfer.errors import P2pxferError

HANDLE = 1
"""One transfer a session: its handle."""


class Lost(Struct, frozen=True):
    """A file that could not be read, and which chunks of it were to be."""

    file: int
    error: P2pxferError
    chunks: list[ChunkAddress]


class Loaded(Struct, frozen=True):
    """A chunk that was read and hashed: as it is, or with ``ops`` as a patch to the version with these blocks.

    With more than one hash in ``digests`` it is a bundle of files, of which ``address`` is the first chunk.  The first
    ``offset`` bytes of a chunk are not sent: the receiver has them.
    """

    address: ChunkAddress
    digests: bytes
    size: int
    ops: list[Op] | None
    parts: Sequence[bytes | memoryview]
    older: Blocks | None
    offset: int = 0

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return len(self.digests) // DIGEST

    @property
    def last(self) -> int:
        """The last file."""
        return self.address[0] + self.count - 1

    def rest(self, rests: Rests, path: int) -> Loaded:
        """What of it goes out on ``path``: all, or what follows the part that the receiver told there."""
        offset = rests.take(path, self.address, self.digests) if self.ops is None and self.count == 1 else 0
        return replace(self, offset=offset) if offset else self

    @property
    def wire_size(self) -> int:
        """What the other end counts for it: payload, or a patch without the header of its frame; bytes."""
        return self.size - self.offset if self.ops is None else patch_size(self.ops)

    def frame(self) -> list[bytes | memoryview]:
        """What goes out."""
        (file, index), digest = self.address, self.digests
        if self.count > 1:
            return [bundle_prefix(HANDLE, file, digest, self.size), *self.parts]
        if self.ops is not None:
            return [patch_prefix(HANDLE, file, index, digest, self.ops), *self.parts]
        if self.offset:
            part = memoryview(self.parts[0])[self.offset :]
            return [rest_prefix(HANDLE, file, index, digest, self.offset, len(part)), part]
        return [chunk_prefix(HANDLE, file, index, digest, self.size), *self.parts]
