"""What :class:`~p2pxfer.core.receiver.ReceiverCore` asks of its caller."""

from __future__ import annotations

from dataclasses import dataclass

from p2pxfer.core.manifest import Manifest
from p2pxfer.core.sendeffect import Send
from p2pxfer.core.wire import Chunk


@dataclass(frozen=True, slots=True)
class Decide:
    """Ask the user and open the disk side, then call :meth:`ReceiverCore.accepted` or :meth:`ReceiverCore.refused`."""

    manifest: Manifest
    holes: int
    """Bytes that will not be sent, as the sender says."""


@dataclass(frozen=True, slots=True)
class Store:
    """Verify and write this chunk, then call :meth:`ReceiverCore.stored` or :meth:`ReceiverCore.damaged`."""

    path: int
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class StoreHole:
    """Have these chunks of a sparse file be zero, then call :meth:`ReceiverCore.stored_hole`."""

    path: int
    file: int
    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Everything is here and ``root`` is agreed: publish, make durable, then call :meth:`ReceiverCore.published`."""

    root: bytes


ReceiverEffect = Send | Decide | Store | StoreHole | Publish
