"""What is said on the channel of a chat: lines, receipts for them, and that no more lines come.

Transcript, both sides speak at once::

    > Say*   < Got*      a line; it was shown and noted, and must not be sent again
    > Over               the sender has no more lines; it still takes those of the other side

The frames are those of :mod:`p2pxfer.core.framing`, one after the other in the stream of the channel.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from p2pxfer.core.codec import Catalogue, Message, Size
from p2pxfer.core.messages import Bytes16

SERVICE: Final = "chat"
MAX_TEXT: Final = 4000
"""Most characters of one line."""
_CAP: Final = 4 * MAX_TEXT + 64


class Say(Message, frozen=True):
    """A line.  ``id`` is drawn at random once; ``at`` is when it was written, seconds since 1970."""

    id: Bytes16
    text: Annotated[str, Meta(max_length=MAX_TEXT)]
    at: Size


class Got(Message, frozen=True):
    """The line with this id was shown and noted."""

    id: Bytes16


class Over(Message, frozen=True):
    """No more lines come from this side."""


CHAT: Catalogue[Message] = Catalogue([(1, Say), (2, Got), (3, Over)], _CAP)
CHAT_CAPS: Final = {**CHAT.caps([Say]), **CHAT.caps([Got, Over], 64)}
