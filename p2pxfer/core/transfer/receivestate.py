"""Where a receiving transfer stands, and the dialogue on each of its paths."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct, field

from p2pxfer.core.transfer.listing import Heard


class Phase(Enum):
    """Of a transfer."""

    NEW = "nothing was offered"
    DECIDING = "the user decides"
    RECEIVING = "chunks are welcome"
    PUBLISHING = "the files are being published"
    PUBLISHED = "the files are published"
    REFUSED = "the transfer was refused"


class Talk(Enum):
    """Of the dialogue on one path."""

    OFFERED = "the offer stands"
    OPEN = "chunks are welcome"
    FINAL = "the sender is done"


class Path(Struct):
    """A path and what waits for it.

    ``acks``: numbers of chunks to be acknowledged; ``told``: chunks that were said to be holes; ``heard`` of the list.
    """

    handle: int
    talk: Talk
    acks: list[int]
    told: int = 0
    heard: Heard = field(default_factory=Heard)
