"""What :class:`~p2pxfer.core.receiver.ReceiverCore` asks of its caller."""

from __future__ import annotations

from msgspec import Struct

from p2pxfer.core.manifest import Manifest
from p2pxfer.core.sendeffect import Send
from p2pxfer.core.wire import Chunk


class Decide(Struct, frozen=True):
    """Ask the user and open the disk side, then call :meth:`ReceiverCore.accepted` or :meth:`ReceiverCore.refused`."""

    manifest: Manifest
    holes: int
    """Bytes that will not be sent, as the sender says."""


class Store(Struct, frozen=True):
    """Verify and write this chunk, then call :meth:`ReceiverCore.stored` or :meth:`ReceiverCore.damaged`."""

    path: int
    chunk: Chunk


class StoreHole(Struct, frozen=True):
    """Have these chunks of a sparse file be zero, then call :meth:`ReceiverCore.stored_hole`."""

    path: int
    file: int
    first: int
    stop: int


class Publish(Struct, frozen=True):
    """Everything is here and ``root`` is agreed: publish, make durable, then call :meth:`ReceiverCore.published`."""

    root: bytes


ReceiverEffect = Send | Decide | Store | StoreHole | Publish
