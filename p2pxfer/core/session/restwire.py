"""The message and the frame by which a chunk goes on where a cut path left off.

Transcript of two paths, within the dialogue of a transfer (:mod:`p2pxfer.core.session.transferwire`)::

    > Chunk                the path ends in the middle of it
    < Part < Listed        on the next path: so much of that chunk, with that hash, is here
    > Rest                 what follows that, if the chunk still has that hash
    < Ack | Lack           Lack: nothing came of it, send the chunk whole
"""

from __future__ import annotations

import struct
from typing import Final

from p2pxfer.core.codec import Message, Number
from p2pxfer.core.framing import Frame, frame_header
from p2pxfer.core.messages import Bytes32
from p2pxfer.errors import FrameError


class Part(Message, frozen=True):
    """The first ``size`` octets of a chunk, whose BLAKE3 hash is said to be ``hash``, are at the receiver."""

    handle: Number
    file: Number
    index: Number
    hash: Bytes32
    size: Number


REST_ROWS: Final[list[tuple[int, type[Message]]]] = [(43, Part)]
"""Kinds of these messages in the peer protocol."""
REST_KIND: Final = 68
"""Kind of a frame with the rest of a chunk."""
_HEADER = struct.Struct(">III32sI")
REST_HEADER_SIZE: Final = _HEADER.size


class Rest(Message, frozen=True):
    """A chunk from octet ``offset`` on; no map, see :func:`rest_prefix`.  ``hash`` is that of the whole chunk."""

    handle: int
    file: int
    index: int
    hash: bytes
    offset: int
    payload: memoryview

    @property
    def length(self) -> int:
        """Octets of the whole chunk."""
        return self.offset + len(self.payload)


def rest_prefix(handle: int, file: int, index: int, digest: bytes, offset: int, size: int) -> bytes:
    """Frame header and rest header for a payload of ``size`` octets that is written behind it."""
    return frame_header(REST_KIND, REST_HEADER_SIZE + size) + _HEADER.pack(handle, file, index, digest, offset)


def decode_rest(frame: Frame) -> Rest:
    """The rest in a frame of kind :data:`REST_KIND`; its payload shares the frame's memory.

    Raises:
        FrameError: there is no payload, or nothing before it.
    """
    body = memoryview(frame.body)
    if len(body) <= REST_HEADER_SIZE:
        raise FrameError("the rest of a chunk without payload")
    handle, file, index, digest, offset = _HEADER.unpack_from(body)
    if not offset:
        raise FrameError("the rest of a chunk that begins where the chunk does")
    return Rest(handle, file, index, digest, offset, body[REST_HEADER_SIZE:])
