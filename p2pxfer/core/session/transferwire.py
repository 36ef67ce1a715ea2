"""What a sender and a receiver say about one transfer on a path, and the layout of a chunk.

Transcript of one path (``>`` initiator to responder), within the peer protocol (:mod:`p2pxfer.core.session.wire`)::

    > Offer          < Refuse | Accept    the first page of the file list comes with the offer
    > Page*          < Listed*            what the receiver holds of a page's files already
    > Holes* Data*   < Part* Ack*         chunks of files whose page was answered, while more pages come
    > LeftOut*                            files that cannot be read as they were listed
    > Final          < FinalAck           the same root hash at both ends

Every path carries this dialogue for itself over the one set of chunks that the session's paths share, so a path may
appear or die at any moment: what one dialogue left undone, the next one takes up from the set of missing chunks.
"""

from __future__ import annotations

import struct
from typing import Annotated

from msgspec import Meta, Struct

from p2pxfer.core.codec import Message, Number, Size
from p2pxfer.core.framing import Frame, frame_header
from p2pxfer.core.messages import Bytes16, Bytes32, Text
from p2pxfer.core.session.leftwire import LeftFiles
from p2pxfer.errors import FrameError

MAX_CHUNK = 4 * 1024 * 1024
MAX_PAGE = 32 * 1024
"""Largest chunk, and largest page of a file list, bytes."""


class Offer(Message, frozen=True):
    """A transfer with the first page of its file list; ``more`` pages follow.

    ``files``, ``size`` and ``holes`` are those of the whole list, or, while the sender is ``counting``, of what it has
    seen so far.  ``holes`` of its ``size`` bytes lie in chunks that are not sent; ``delta``: older versions are wanted.
    ``instance`` is drawn anew for each attempt to send: what an earlier one still has under way replaces nothing.
    """

    handle: Number
    transfer: Bytes32
    files: Number
    size: Size
    page: Annotated[bytes, Meta(max_length=MAX_PAGE)]
    more: bool = False
    counting: bool = False
    holes: Size = 0
    delta: bool = False
    instance: Annotated[bytes, Meta(max_length=16)] = b""


class Tally(Message, frozen=True):
    """What :class:`Offer` said of the whole list, as the sender knows it by now."""

    handle: Number
    files: Number
    size: Size
    counting: bool = False
    holes: Size = 0


class WantPage(Message, frozen=True):
    """The receiver does not know this page: it, and all behind it, are to come with their bytes."""

    handle: Number
    page: Number


class Page(Message, frozen=True):
    """A page of the file list; without ``data`` the receiver is believed to know it.

    ``digest`` is SHA-256 of the list up to its end; ``more`` pages follow.
    """

    handle: Number
    page: Number
    digest: Bytes32
    data: Annotated[bytes, Meta(max_length=MAX_PAGE)] = b""
    more: bool = False


class Have(Message, frozen=True):
    """Chunks that the receiver holds: half-open ranges of numbers and BLAKE3 over their hashes in order."""

    ranges: Annotated[list[tuple[Size, Size]], Meta(max_length=1024)]
    digest: Bytes32


class Accept(Message, frozen=True):
    """The receiver wants the transfer and may know ``pages`` pages of its list, ``have_bytes`` of the files in these.

    ``instance`` is drawn anew by each receiving process: another one than before means that what was acknowledged
    but not in any ``Have`` is lost.  ``rate`` is the most bytes a second that it wants to get, 0 for no limit.  With
    ``older`` it tells of older versions behind each page.
    """

    handle: Number
    instance: Bytes16
    pages: Annotated[int, Meta(ge=1, le=2**32 - 1)] = 1
    have_bytes: Size = 0
    rate: Size = 0
    older: bool = False


class Listed(Message, frozen=True):
    """The receiver knows this page and holds ``have`` of its files; ``last`` ends the claims of this page."""

    handle: Number
    page: Number
    have: Annotated[list[Have], Meta(max_length=256)] = []
    last: bool = True


class Refuse(Message, frozen=True):
    """The receiver does not want the transfer, or cannot take it."""

    handle: Number
    word: Annotated[str, Meta(max_length=32)]
    message: Text


class Ack(Message, frozen=True):
    """Chunks that were verified and written, by number: (first, behind last)."""

    handle: Number
    chunks: Annotated[list[tuple[Size, Size]], Meta(max_length=2048)]


class Holes(Message, frozen=True):
    """Chunks of sparse files that hold zeros and are not sent: (file, first, behind last).

    Without a chunk in it, a range says that the file is sparse.
    """

    handle: Number
    chunks: Annotated[list[tuple[Number, Number, Number]], Meta(max_length=1024)]


class Final(Message, frozen=True):
    """Every page was answered and every chunk acknowledged of what is not left out here; the sender's root hash."""

    handle: Number
    root: Bytes32


class FinalAck(Message, frozen=True):
    """Published and durable at the receiver; its root hash, and which files are left out of what was published."""

    handle: Number
    root: Bytes32
    left: LeftFiles = []


TRANSFER_ROWS: list[tuple[int, type[Message]]] = [
    (32, Offer), (33, WantPage), (34, Page), (35, Accept), (36, Refuse), (37, Ack), (38, Final), (39, FinalAck),
    (40, Holes), (41, Listed), (42, Tally),
]  # fmt: skip
"""Kinds of these messages in the peer protocol."""
DATA_KIND = 64
"""Kind of a chunk frame, whose body is a :class:`Chunk` header and the payload."""
_CHUNK = struct.Struct(">III32s")
CHUNK_HEADER_SIZE = _CHUNK.size


class Chunk(Struct, frozen=True):
    """A chunk as it travels: address, BLAKE3 hash (32 bytes), payload; ``found``: the hash of what came, if made."""

    handle: int
    file: int
    index: int
    hash: bytes
    payload: memoryview
    found: bytes | None = None


def chunk_prefix(handle: int, file: int, index: int, digest: bytes, size: int) -> bytes:
    """Frame header and chunk header for a payload of ``size`` bytes that is written behind it."""
    return frame_header(DATA_KIND, CHUNK_HEADER_SIZE + size) + _CHUNK.pack(handle, file, index, digest)


def decode_chunk(frame: Frame) -> Chunk:
    """The chunk in a frame of kind :data:`DATA_KIND`; the payload shares the frame's memory.

    Raises:
        FrameError: the frame is too short to be a chunk.
    """
    if len(frame.body) <= CHUNK_HEADER_SIZE:
        raise FrameError("a chunk without payload")
    handle, file, index, digest = _CHUNK.unpack_from(frame.body)
    return Chunk(handle, file, index, digest, memoryview(frame.body)[CHUNK_HEADER_SIZE:], frame.hash)
