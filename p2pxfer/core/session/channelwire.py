"""The messages that carry byte channels between two peers, and the layout of a piece of data.

Transcript of one path (both sides speak at once)::

    > Attach  < Attach                    who I am, and how many numbered frames I have received so far
    > Open    < Opened | Reset            a channel to a service, with the first credit
    > Piece*  < Receipt* Credit*          data; what arrived; what more is welcome
    > End     < End                       no more data in this direction
    > Reset                               the channel is given up in both directions

Open, Opened, Credit, End, Reset and Piece are *numbered*: each side counts its own from 0, over all channels and all
paths of a session.  See :mod:`p2pxfer.core.session.channels`.
"""

from __future__ import annotations

import struct
from typing import Annotated

from msgspec import Meta

from p2pxfer.core.codec import Message, Number, Size
from p2pxfer.core.framing import Frame, frame_header
from p2pxfer.core.messages import Bytes16, Text
from p2pxfer.errors import FrameError

MAX_PIECE = 128 * 1024
"""Largest piece of data, bytes."""

Service = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}\Z")]
"""What a channel leads to: 1 to 32 characters, so that it may be shown and logged as it is."""


class Attach(Message, frozen=True):
    """This path may carry the channels of the session between ``instance`` and ``peer``.

    ``instance`` is drawn by the sender of the message for each session; ``peer`` is that of the other side, empty
    while it is not known; ``received`` is how many numbered frames have come from it.
    """

    instance: Bytes16
    peer: Annotated[bytes, Meta(max_length=16)] = b""
    received: Size = 0


class Receipt(Message, frozen=True):
    """All numbered frames below ``received`` have come."""

    received: Size


class Open(Message, frozen=True):
    """A channel to ``service``; ``credit`` bytes of data are welcome on it.

    ``about`` is what that service has to know before it answers, empty for most.
    """

    number: Size
    channel: Number
    service: Service
    credit: Number
    about: Annotated[str, Meta(max_length=255)] = ""


class Opened(Message, frozen=True):
    """The channel stands; ``credit`` bytes of data are welcome on it, at most ``rate`` a second, 0 for no limit."""

    number: Size
    channel: Number
    credit: Number
    rate: Size = 0


class Credit(Message, frozen=True):
    """``more`` bytes that came were dealt with, so as many more are welcome, and ``wider`` bytes beyond those."""

    number: Size
    channel: Number
    more: Number
    wider: Number = 0


class End(Message, frozen=True):
    """No data follows in this direction; ``digest`` is the hash of all of it where the service demands one."""

    number: Size
    channel: Number
    digest: Annotated[bytes, Meta(max_length=32)] = b""


class Reset(Message, frozen=True):
    """The channel is refused or given up, in both directions; what is under way is dropped."""

    number: Size
    channel: Number
    word: Annotated[str, Meta(max_length=32)]
    message: Text


class Compare(Message, frozen=True):
    """This side shows its user the words of this connection (:mod:`p2pxfer.core.contact.compare`); so should the other
    one."""


CHANNEL_ROWS: list[tuple[int, type[Message]]] = [
    (48, Attach),
    (49, Receipt),
    (50, Open),
    (51, Opened),
    (52, Credit),
    (53, End),
    (54, Reset),
]
"""Kinds of these messages in the peer protocol."""
SESSION_ROWS: list[tuple[int, type[Message]]] = [*CHANNEL_ROWS, (55, Compare)]
"""The same with what a session of channels says beside them."""
PIECE_KIND = 65
"""Kind of a frame of data, whose body is a :class:`Piece` header and the payload."""
_PIECE = struct.Struct(">QI")
PIECE_HEADER_SIZE = _PIECE.size


class Piece(Message, frozen=True):
    """Data of a channel; the one message that is no map, see :func:`piece_prefix`."""

    number: int
    channel: int
    payload: bytes | bytearray | memoryview


Numbered = Open | Opened | Credit | End | Reset | Piece
ChannelMessage = Attach | Receipt | Open | Opened | Credit | End | Reset | Piece


def piece_prefix(piece: Piece) -> bytes:
    """Frame header and piece header; the payload is written behind it."""
    head = frame_header(PIECE_KIND, PIECE_HEADER_SIZE + len(piece.payload))
    return head + _PIECE.pack(piece.number, piece.channel)


def decode_piece(frame: Frame) -> Piece:
    """The piece in a frame of kind :data:`PIECE_KIND`; the payload shares the frame's memory.

    Raises:
        FrameError: the frame is too short to be a piece.
    """
    if len(frame.body) <= PIECE_HEADER_SIZE:
        raise FrameError("a piece without payload")
    number, channel = _PIECE.unpack_from(frame.body)
    return Piece(number, channel, memoryview(frame.body)[PIECE_HEADER_SIZE:])
