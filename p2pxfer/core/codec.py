"""Typed messages in frames: a catalogue of rows ``(kind, message type, largest body)``, everything else derived.

A body is a MessagePack map.  Unknown fields are ignored, so that a later version may add some; wrong types, missing
fields and values outside their bounds are refused, and so are unknown kinds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from p2pxfer.core.framing import CONTROL_CAP, Frame, encode_frame
from p2pxfer.errors import FrameError

Number = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of every control message."""


M = TypeVar("M", bound=Message)


class Catalogue(Generic[M]):
    """The messages of one protocol, by kind and by type."""

    def __init__(self, rows: Iterable[tuple[int, type[M]]], cap: int = CONTROL_CAP) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._kinds: dict[type[Any], int] = {}
        self._decoders: dict[int, msgspec.msgpack.Decoder[M]] = {}
        self._cap = cap
        for kind, cls in rows:
            if kind in self._decoders or cls in self._kinds:
                raise ValueError(f"kind {kind} or {cls.__name__} stands twice in the catalogue")
            self._kinds[cls] = kind
            self._decoders[kind] = msgspec.msgpack.Decoder(cls)

    def caps(self, types: Iterable[type[Any]] | None = None, cap: int | None = None) -> dict[int, int]:
        """Caps for a :class:`~p2pxfer.core.framing.FrameDecoder`: of ``types`` only, or of every message."""
        chosen = self._kinds.values() if types is None else [self._kinds[t] for t in types]
        return dict.fromkeys(chosen, self._cap if cap is None else cap)

    def kind_of(self, cls: type[Any]) -> int:
        """The kind of a message type."""
        return self._kinds[cls]

    def encode(self, message: M) -> bytes:
        """``message`` as one whole frame.

        Raises:
            ValueError: the message is larger than the other end may accept; a fault of the caller.
        """
        body = self._encoder.encode(message)
        if len(body) > self._cap:
            raise ValueError(f"{type(message).__name__} needs {len(body)} bytes; the cap is {self._cap}")
        return encode_frame(self._kinds[type(message)], body)

    def decode(self, frame: Frame) -> M:
        """The message in ``frame``.

        Raises:
            FrameError: unknown kind, malformed body, wrong type or value out of bounds.
        """
        decoder = self._decoders.get(frame.kind)
        if decoder is None:
            raise FrameError(f"a message of kind {frame.kind} is unknown")
        try:
            return decoder.decode(frame.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(f"a message of kind {frame.kind} is malformed") from error
