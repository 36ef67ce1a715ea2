"""The layout of a bundle: small files of one chunk each that follow one another in the list, in one frame.

A file of 4 KiB in a frame of its own costs both ends more for the frame than for its content.  In a bundle the files
are told by the first one and their number, so there is no length and no name in it that could be at odds with the list.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from p2pxfer.core.codec import Message
from p2pxfer.core.framing import Frame, frame_header
from p2pxfer.errors import FrameError

BUNDLE_KIND: Final = 67
"""Kind of a frame with a bundle."""
MAX_BUNDLE_FILES: Final = 64
MAX_BUNDLE: Final = 128 * 1024
"""Most files of a bundle, and most octets of their contents."""
DIGEST: Final = 32
_HEADER = struct.Struct(">IIH")
BUNDLE_HEADER_SIZE: Final = _HEADER.size
BUNDLE_CAP: Final = BUNDLE_HEADER_SIZE + MAX_BUNDLE_FILES * DIGEST + MAX_BUNDLE
"""Largest body of such a frame, octets."""


class Bundle(Message, frozen=True):
    """The contents of ``count`` files from ``file`` on; no map, see :func:`bundle_prefix`.

    ``hashes`` are those of the files, 32 octets each; ``payload`` is what they hold, one behind the other.
    """

    handle: int
    file: int
    hashes: bytes
    payload: memoryview

    @property
    def count(self) -> int:
        """How many files there are."""
        return len(self.hashes) // DIGEST

    def digests(self) -> Iterator[bytes]:
        """The hash of each file."""
        return (self.hashes[at : at + DIGEST] for at in range(0, len(self.hashes), DIGEST))


def bundle_prefix(handle: int, file: int, hashes: bytes, size: int) -> bytes:
    """Frame header, bundle header and hashes for contents of ``size`` octets, which are written behind it."""
    head = frame_header(BUNDLE_KIND, BUNDLE_HEADER_SIZE + len(hashes) + size)
    return head + _HEADER.pack(handle, file, len(hashes) // DIGEST) + hashes


def decode_bundle(frame: Frame) -> Bundle:
    """The bundle in a frame of kind :data:`BUNDLE_KIND`; its payload shares the frame's memory.

    Raises:
        FrameError: too few or too many files, or not an octet for each.
    """
    body = memoryview(frame.body)
    if len(body) < BUNDLE_HEADER_SIZE:
        raise FrameError("a bundle without a header")
    handle, file, count = _HEADER.unpack_from(body)
    end = BUNDLE_HEADER_SIZE + DIGEST * count
    if not 2 <= count <= MAX_BUNDLE_FILES or not count <= len(body) - end <= MAX_BUNDLE:
        raise FrameError("a bundle of too few or too many files, or octets")
    return Bundle(handle, file, bytes(body[BUNDLE_HEADER_SIZE:end]), body[end:])
