"""What a sender's core asks for; a message to be sent is what the receiver's core asks for too."""

from __future__ import annotations

from msgspec import Struct

from p2pxfer.core.codec import Message
from p2pxfer.core.transfer.chunktable import ChunkAddress


class Send(Struct, frozen=True):
    """Send ``message`` on ``path``."""

    path: int
    message: Message


class HashChunks(Struct, frozen=True):
    """Read and hash these chunks again: ``SenderCore.chunk_read`` for each, then ``SenderCore.hashed``."""

    addresses: tuple[ChunkAddress, ...]


class AcceptedByPeer(Struct, frozen=True):
    """The receiver accepted, holding ``have_bytes`` already; told once for each receiving process.

    It wants at most ``rate`` bytes a second, 0 for no limit; with ``older`` it tells of older versions of the files.
    """

    have_bytes: int
    rate: int = 0
    older: bool = False


class Finished(Struct, frozen=True):
    """The receiver holds and published everything but the files in ``left``."""

    root: bytes
    left: tuple[int, ...] = ()


class NothingLeft(Struct, frozen=True):
    """All files, or too many, would be left out: end with the error of the first one."""


SenderEffect = Send | HashChunks | AcceptedByPeer | Finished | NothingLeft
