"""The messages by which only what differs from an older version is sent, and the layout of a patch.

Transcript of one path, within the dialogue of a transfer (:mod:`p2pxfer.core.session.transferwire`)::

    < Accept with older         the receiver tells for each page of the list of what it has older versions
    < Listed Older              of these files of the page
    > WantBasis  < Basis*       the hashes of its blocks
    > Patch      < Ack | Lack   a chunk made of pieces of the older version and new bytes; Lack: send it whole
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

from p2pxfer.core.codec import Message, Number
from p2pxfer.core.framing import Frame, frame_header
from p2pxfer.core.session.bundlewire import BUNDLE_KIND, decode_bundle
from p2pxfer.core.session.channelwire import PIECE_KIND, decode_piece
from p2pxfer.core.session.restwire import REST_KIND, decode_rest
from p2pxfer.errors import FrameError

BLOCK_HASH = 8
"""Octets of a block's hash: enough to find a block, since what is made of it is verified as a whole."""
HASHES_PER_MESSAGE = 4096
BASIS_FILES = 2048
"""Most files of a page of which older versions are used."""
MAX_OPS = 8192
"""Most operations of a patch: four times what a chunk of 4 MiB needs that consists of the smallest blocks."""
LITERAL = 2**32 - 1
"""In the place of a block's number: the next octets of the patch itself."""


class Older(Message, frozen=True):
    """Of these files on a page of the list there are older versions at the receiver."""

    handle: Number
    page: Number
    files: Annotated[list[Number], Meta(max_length=BASIS_FILES)] = []


class WantBasis(Message, frozen=True):
    """Tell the hashes of the blocks of the older version of ``file``."""

    handle: Number
    file: Number


class Basis(Message, frozen=True):
    """Hashes of the blocks of the older version of ``file``, cut with this average size, in order.

    ``last`` ends them.
    """

    handle: Number
    file: Number
    average: Number
    hashes: Annotated[bytes, Meta(max_length=HASHES_PER_MESSAGE * BLOCK_HASH)] = b""
    last: bool = True


class Lack(Message, frozen=True):
    """Chunks that could not be made of a patch or a rest, and are to be sent whole: (file, first, behind last)."""

    handle: Number
    chunks: Annotated[list[tuple[Number, Number, Number]], Meta(max_length=1024)]


DELTA_ROWS: list[tuple[int, type[Message]]] = [(44, Older), (45, WantBasis), (46, Basis), (47, Lack)]
"""Kinds of these messages in the peer protocol."""
PATCH_KIND = 66
"""Kind of a frame with a patch."""
_HEADER = struct.Struct(">III32sI")
PATCH_HEADER_SIZE = _HEADER.size
_OP = struct.Struct(">III")
OP_SIZE = _OP.size

Op = tuple[int, int, int]
"""Block of the older version, or :data:`LITERAL`; octets to skip from its begin; octets to copy, over blocks if need
be."""


class Patch(Message, frozen=True):
    """A chunk by what it consists of; no map, see :func:`patch_prefix`.

    ``hash`` is that of the whole chunk, ``length`` its octets; ``literals`` are what the operations do not copy, in
    order.
    """

    handle: int
    file: int
    index: int
    hash: bytes
    ops: tuple[Op, ...]
    literals: memoryview
    length: int

    @property
    def wire_size(self) -> int:
        """Octets that travelled in place of the chunk."""
        return PATCH_HEADER_SIZE + OP_SIZE * len(self.ops) + len(self.literals)


def patch_size(ops: list[Op]) -> int:
    """Octets of the body of a patch."""
    return PATCH_HEADER_SIZE + OP_SIZE * len(ops) + sum(op[2] for op in ops if op[0] == LITERAL)


def patch_prefix(handle: int, file: int, index: int, digest: bytes, ops: list[Op]) -> bytes:
    """Frame header, patch header and operations; the literals are written behind it."""
    head = frame_header(PATCH_KIND, patch_size(ops)) + _HEADER.pack(handle, file, index, digest, len(ops))
    return head + b"".join(_OP.pack(*op) for op in ops)


def decode_patch(frame: Frame) -> Patch:
    """The patch in a frame of kind :data:`PATCH_KIND`; its literals share the frame's memory.

    Raises:
        FrameError: its parts do not fit together.
    """
    body = memoryview(frame.body)
    if len(body) < PATCH_HEADER_SIZE:
        raise FrameError("a patch without a header")
    handle, file, index, digest, count = _HEADER.unpack_from(body)
    end = PATCH_HEADER_SIZE + OP_SIZE * count
    if not 0 < count <= MAX_OPS or end > len(body):
        raise FrameError("a patch without its operations, or with too many")
    ops = tuple(_OP.iter_unpack(body[PATCH_HEADER_SIZE:end]))
    literals = body[end:]
    if sum(op[2] for op in ops if op[0] == LITERAL) != len(literals) or not all(op[2] for op in ops):
        raise FrameError("the parts of a patch do not fit together")
    return Patch(handle, file, index, digest, ops, literals, sum(op[2] for op in ops))


MAPLESS: dict[int, Callable[[Frame], Message]] = {
    PIECE_KIND: decode_piece,
    PATCH_KIND: decode_patch,
    BUNDLE_KIND: decode_bundle,
    REST_KIND: decode_rest,
}
"""Who reads the frames whose body is no map, apart from chunks."""
