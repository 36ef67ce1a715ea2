"""Where the content of an arriving frame goes: what many of come, and large, into memory that is used again."""

from __future__ import annotations

from typing import Final

from p2pxfer.core.buffers import BufferPool
from p2pxfer.core.session.bundlewire import BUNDLE_KIND
from p2pxfer.core.session.channelwire import PIECE_KIND
from p2pxfer.core.session.transferwire import CHUNK_HEADER_SIZE, DATA_KIND

CHUNK_MEMORY = BufferPool()
"""Memory for the chunks and pieces of all paths; whoever is done with one gives its payload back, or forgets it."""
_POOLED = frozenset({DATA_KIND, BUNDLE_KIND, PIECE_KIND})
"""Kinds of frames whose memory comes back when their content is on the disk, or was written."""

HASHED_HEADS: Final = {DATA_KIND: CHUNK_HEADER_SIZE}
"""Of the kinds whose content is hashed while it comes, what is in front of it, octets."""


def body_memory(kind: int, size: int) -> bytearray | memoryview:
    """Memory for the ``size`` bytes of a frame of this kind."""
    return CHUNK_MEMORY.take(size) if kind in _POOLED else bytearray(size)
