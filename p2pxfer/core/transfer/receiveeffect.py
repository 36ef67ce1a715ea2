"""What :class:`~p2pxfer.core.transfer.receiver.ReceiverCore` asks of its caller."""

from __future__ import annotations

from msgspec import Struct

from p2pxfer.core.session.deltawire import WantBasis
from p2pxfer.core.transfer.inflow import Incoming
from p2pxfer.core.transfer.journal import Agreed
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.sendeffect import Send


class Announced(Struct, frozen=True):
    """What the sender says of the whole list: files, bytes, and how many of these are told as holes.

    While it is ``counting`` these are what it has seen so far.
    """

    files: int
    bytes: int
    holes: int
    counting: bool


class Decide(Struct, frozen=True):
    """Ask the user and open the disk side, then call :meth:`~p2pxfer.core.transfer.receiver.ReceiverCore.accepted` or
    :meth:`~p2pxfer.core.transfer.receiver.ReceiverCore.refused`.

    The disk side may add the pages to the manifest that an earlier run left.  ``delta``: the sender asks for older
    versions of its files.
    """

    manifest: Manifest
    delta: bool


class Listed(Struct, frozen=True):
    """This page was added to the manifest: keep it before anything of its files."""

    page: int


class Relist(Struct, frozen=True):
    """The list is another one from page ``keep`` on: forget what is there of those files, hold back what comes, then
    call :meth:`~p2pxfer.core.transfer.receiver.ReceiverCore.relisted`; the paths in ``others`` are to end.
    """

    keep: int
    others: tuple[int, ...]


class Store(Struct, frozen=True):
    """Verify and write this chunk or bundle, then call :meth:`~p2pxfer.core.transfer.receiver.ReceiverCore.stored` or
    :meth:`~p2pxfer.core.transfer.receiver.ReceiverCore.damaged`.

    For one that cannot be made of its patch, or that was ``joined`` of a part and its rest and does not match its hash,
    call :meth:`~p2pxfer.core.transfer.receiver.ReceiverCore.lacking`.
    """

    path: int
    chunk: Incoming
    joined: bool = False


class TellBasis(Struct, frozen=True):
    """The sender wants the hashes of an older version's blocks, on a path on which chunks are welcome."""

    path: int
    want: WantBasis


class StoreHole(Struct, frozen=True):
    """Have these chunks of a sparse file be zero, then call
    :meth:`~p2pxfer.core.transfer.receiver.ReceiverCore.stored_hole`."""

    path: int
    file: int
    first: int
    stop: int


class Publish(Struct, frozen=True):
    """Everything is here that is ``agreed``: publish that and nothing else, make it durable, then call
    :meth:`~p2pxfer.core.transfer.receiver.ReceiverCore.published_all`.
    """

    agreed: Agreed


ReceiverEffect = Send | Announced | Decide | Listed | Relist | Store | StoreHole | TellBasis | Publish
