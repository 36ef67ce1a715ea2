"""What a receiver receives into, as its user sees it: a place for transfers and streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.journal import Agreed, Claim
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.net.transfer.oldversions import OldVersions

Pieces = list[bytes | bytearray | memoryview]


class Received(Struct, frozen=True):
    """The end of a transfer that was published, or of a stream: its hash, names and size in bytes.

    ``left``: paths of the files that the sender left out.
    """

    root: bytes
    names: tuple[str, ...]
    size: int
    left: tuple[str, ...] = ()


def received(manifest: Manifest, agreed: Agreed, names: Sequence[str]) -> Received:
    """The end of a transfer of ``manifest``, which was published under these names."""
    left = [manifest.files[file] for file in agreed.left]
    size = manifest.total_bytes - sum(entry.size for entry in left)
    return Received(agreed.root, tuple(names), size, tuple(entry.path for entry in left))


class Sink(Protocol):
    """Where a stream goes.  Every method blocks; all run in one thread."""

    def write(self, pieces: Pieces) -> int:
        """Take these, in order; returns their size.

        Raises:
            P2pxferError: it cannot.
        """

    def finish(self, digest: bytes) -> tuple[bytes, list[str]]:
        """Everything came, and the sender says that its hash is ``digest``; the hash, and the names it has got.

        Raises:
            P2pxferError: that is not so, or it cannot be kept.
        """

    def discard(self) -> None:
        """Let go of it: not everything came."""


class Storage(Protocol):
    """Where the chunks of one transfer go; :class:`~p2pxfer.net.staging.staging.Staging` says what each method
    does."""

    where: str
    """The private directory of the transfer; empty where it has none."""
    owner: bytes
    """The digest of the identity that receives; see :mod:`p2pxfer.net.staging.owning`."""
    published_root: bytes | None
    published_names: list[str]
    agreed: Agreed | None

    @property
    def have(self) -> Mapping[ChunkAddress, bytes]:
        """What is here for certain."""

    @property
    def begun(self) -> bool:
        """Whether an earlier run has published some of it."""

    def write_chunk(
        self, file: int, index: int, payload: memoryview, digest: bytes, found: bytes | None = None
    ) -> None:
        """Verify a chunk and write it; ``found`` is the payload's hash where it is known."""

    def write_bundle(self, bundle: Bundle) -> None:
        """Verify small files and write them."""

    def write_hole(self, file: int, first: int, stop: int) -> list[Claim]:
        """Have chunks be zero."""

    def announce(self, announced: Announced) -> None:
        """The sender has seen more of what it sends."""

    def sync(self, claims: Iterable[Claim], pages: Iterable[int]) -> None:
        """Make what was written durable, in its order, and pages that were added to the manifest."""

    def finish(self, root: bytes, now: float, left: Sequence[int] = ()) -> list[str]:
        """Publish everything but what is left out."""

    def discard(self) -> None:
        """Remove what was kept, and close."""

    def close(self) -> None:
        """Let go of everything."""


class Place(Protocol):
    """What a receiver receives into.

    The methods that open something block, and so does the first call of any; see also :meth:`check`.
    """

    @property
    def shown(self) -> str:
        """What it is called in a question."""

    def check(self, manifest: Manifest, page: int) -> None:
        """Look at a page of the manifest, at the first one before anybody is asked and before anything is created.

        For the first page it may block, for the others not.

        Raises:
            P2pxferError: this is not taken here.
        """

    def open(self, sender: bytes, manifest: Manifest, announced: Announced, relisted: bool) -> Storage:
        """Take a transfer up; see :meth:`~p2pxfer.net.staging.staging.Staging.open`."""

    def older(self, sender: bytes, manifest: Manifest, asked: bool) -> OldVersions | None:
        """Where older versions of the files may lie; ``asked``: the sender may learn of those that others made."""

    def check_stream(self, name: str) -> None:
        """The same as :meth:`check` for a stream of this name, which is one path component."""

    def open_stream(self, name: str) -> Sink:
        """Take a stream up."""
