"""Length-prefixed frames: ``u32 length | u8 kind | body``, big endian, where ``length`` counts kind and body.

Laws of this file:

1. Nothing is buffered before its size was checked: an illegal length is refused after four bytes, an illegal kind
   or a length over the cap of its kind after five.
2. Any segmentation of the same bytes gives the same frames.
3. Every payload byte is copied once, into the frame it belongs to.
4. Of a frame that is hashed every byte is hashed once, in order, when it is in its place for good; what gets a hash was
   hashed to its end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping

from blake3 import blake3
from msgspec import Struct

from p2pxfer.errors import FrameError

_HEADER = struct.Struct(">IB")
HEADER_SIZE = _HEADER.size
HASHED = 64 * 1024
"""Bodies of fewer bytes are not hashed as they come: they are in the processor's cache later, too."""
PRE_AUTH_CAP = 4 * 1024
"""Largest body before the other end is authenticated, bytes."""
CONTROL_CAP = 64 * 1024
"""Largest body of a control message afterwards, bytes."""


class Frame(Struct, frozen=True):
    """One whole frame; the body belongs to the receiver of the frame."""

    kind: int
    body: bytes | bytearray | memoryview
    hash: bytes | None = None
    """BLAKE3 of the body behind its head, if that was made while it came; nobody changes the body afterwards."""


def frame_header(kind: int, body_size: int) -> bytes:
    """The five bytes that come before a body of ``body_size`` bytes."""
    return _HEADER.pack(body_size + 1, kind)


def encode_frame(kind: int, body: bytes) -> bytes:
    """One frame as bytes."""
    return _HEADER.pack(len(body) + 1, kind) + body


class FrameDecoder:
    """Turns any segmentation of a byte stream into frames.

    ``caps`` maps each legal kind to the largest body it may have, in bytes.  It may be replaced at any time through
    :meth:`allow`, for instance when the other end has been authenticated; a frame whose header was read before keeps
    the caps of that moment.  ``allocate(kind, size)`` gives the memory for a body of exactly ``size`` bytes.

    Large bodies of the kinds in ``heads`` are hashed while they come, without so many octets at their beginning: later
    they would have left the processor's cache.
    """

    def __init__(
        self,
        caps: Mapping[int, int],
        allocate: Callable[[int, int], bytearray | memoryview] | None = None,
        heads: Mapping[int, int] | None = None,
    ) -> None:
        self._allocate = allocate or _fresh
        self._heads = heads or {}
        self._hasher: blake3 | None = None
        self._hashed = 0
        self._caps = dict(caps)
        self._longest = max(self._caps.values(), default=0)
        self._head = b""
        self._kind = 0
        self._body: bytearray | memoryview | None = None
        self._filled = 0
        self.unread = 0
        """While a frame is handled: bytes of the current piece that lie behind it."""

    def allow(self, caps: Mapping[int, int]) -> None:
        """Replace the legal kinds and their caps."""
        self._caps = dict(caps)
        self._longest = max(self._caps.values(), default=0)

    @property
    def idle(self) -> bool:
        """True between frames: ending the stream here cuts nothing."""
        return self._body is None and not self._head

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that ``data`` completes.

        The caps are read anew for each frame, so the consumer may call :meth:`allow` between two frames of one call.

        Raises:
            FrameError: a length of zero, a length over its cap, or an unknown kind.
        """
        position = 0
        size = len(data)
        view = memoryview(data)
        while position < size or self._complete():
            if self._body is None:
                position = self._read_header(view, position)
                if self._body is None:
                    return
            take = min(len(self._body) - self._filled, size - position)
            self._body[self._filled : self._filled + take] = view[position : position + take]
            self._filled += take
            position += take
            if not self._complete():
                return
            frame = Frame(self._kind, self._body, self._hash())
            self._body = None
            self.unread = size - position
            yield frame

    def memory(self) -> memoryview | None:
        """The rest of the body that is being received, for a caller that can put the next bytes there itself."""
        return None if self._body is None else memoryview(self._body)[self._filled :]

    @property
    def begun(self) -> tuple[int, memoryview, int] | None:
        """Of a frame that did not come whole yet: its kind, the memory of its body, and how much of that has come."""
        return None if self._body is None else (self._kind, memoryview(self._body), self._filled)

    def filled(self, size: int) -> Iterable[Frame]:
        """``size`` bytes were put at the start of :meth:`memory`; the frame if that completes it."""
        self._filled += size
        self._hash_on()
        return self.feed(b"") if self._complete() else ()

    def _hash_on(self) -> None:
        if self._hasher is not None and self._body is not None and self._filled > self._hashed:
            self._hasher.update(memoryview(self._body)[self._hashed : self._filled])
            self._hashed = self._filled

    def _hash(self) -> bytes | None:
        """The hash of a body that is complete."""
        self._hash_on()
        hasher, self._hasher = self._hasher, None
        return None if hasher is None else hasher.digest()

    def _complete(self) -> bool:
        return self._body is not None and self._filled == len(self._body)

    def _read_header(self, view: memoryview, position: int) -> int:
        """Read what there is of a header from ``position``; returns the position behind it."""
        take = HEADER_SIZE - len(self._head)
        self._head += bytes(view[position : position + take])
        position = min(position + take, len(view))
        if len(self._head) >= 4:
            length = int.from_bytes(self._head[:4], "big")
            if not 1 <= length <= self._longest + 1:
                raise FrameError(f"a frame announces {length} bytes; at most {self._longest + 1} are allowed here")
        if len(self._head) == HEADER_SIZE:
            length, kind = _HEADER.unpack(self._head)
            cap = self._caps.get(kind)
            if cap is None:
                raise FrameError(f"a frame of kind {kind} is not allowed here")
            if length - 1 > cap:
                raise FrameError(f"a frame of kind {kind} announces {length - 1} bytes; at most {cap} are allowed")
            self._head = b""
            self._kind = kind
            self._body = self._allocate(kind, length - 1)
            self._filled = 0
            self._hashed = self._heads.get(kind, 0)
            self._hasher = blake3() if kind in self._heads and length > HASHED else None
        return position


def _fresh(kind: int, size: int) -> bytearray:
    return bytearray(size)
