"""Standard output as the place that a receiver receives into: one stream, or one file, in order, as it comes.

Laws of this file:

1. It takes one offer in its life, which has to be one file or a stream; every other one is refused.
2. Bytes are written in order and once.  Chunks of a file that come too early, since paths change, wait in a temporary
   file without a name, so that memory stays flat and nobody waits for somebody who waits for him.
3. What was written is verified, and it is not whole before the end says so: whoever reads has to look at the exit code.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Final

from blake3 import blake3

from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.transfer.geometry import chunk_span, zero_hash
from p2pxfer.core.transfer.journal import Agreed, Claim
from p2pxfer.core.transfer.manifest import FILE, Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.core.transfer.streams import check_end
from p2pxfer.errors import ChunkRefused, Damaged, Interrupted, P2pxferError, Refused
from p2pxfer.net.blocking import close_output, write_whole
from p2pxfer.net.disk import disk_error, read_span, write_all
from p2pxfer.net.staging.owning import EVERYBODYS
from p2pxfer.net.transfer.oldversions import OldVersions
from p2pxfer.net.transfer.places import Pieces, Sink, Storage

NAMES: Final = ["standard output"]
"""What is told of where it went."""
_ADVICE: Final = "what was written is not whole"
_ZEROS: Final = bytes(1024 * 1024)


class Outlet:
    """The descriptor ``target``, as a :class:`~p2pxfer.net.transfer.places.Place`."""

    shown = "standard output"

    def __init__(self, target: int) -> None:
        self._target = target
        self._taken = False

    def check(self, manifest: Manifest, page: int) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Place`."""
        if not manifest.complete or len(manifest.entries) != 1 or manifest.entries[0].kind is not FILE:
            raise Refused("standard output takes one file or one stream, no directory and not several files")
        self._take()

    def open(self, sender: bytes, manifest: Manifest, announced: Announced, relisted: bool) -> Storage:
        """See :class:`~p2pxfer.net.transfer.places.Place`."""
        return OutletFile(self._target, manifest, self._untouched)

    def older(self, sender: bytes, manifest: Manifest, asked: bool) -> OldVersions | None:
        """See :class:`~p2pxfer.net.transfer.places.Place`: nothing stays here."""
        return None

    def check_stream(self, name: str) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Place`."""
        self._take()

    def open_stream(self, name: str) -> Sink:
        """See :class:`~p2pxfer.net.transfer.places.Place`."""
        return OutletStream(self._target)

    def _take(self) -> None:
        if self._taken:
            raise Refused("standard output takes one file or one stream, and has got it")
        self._taken = True

    def _untouched(self) -> None:
        """What was to be written was given up before the first byte of it: something else may be."""
        self._taken = False


class OutletStream:
    """A stream, as a :class:`~p2pxfer.net.transfer.places.Sink`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._hash = blake3()

    def write(self, pieces: Pieces) -> int:
        """See :class:`~p2pxfer.net.transfer.places.Sink`."""
        size = 0
        for piece in pieces:
            put(self._target, piece)
            self._hash.update(piece)
            size += len(piece)
        return size

    def finish(self, digest: bytes) -> tuple[bytes, list[str]]:
        """See :class:`~p2pxfer.net.transfer.places.Sink`."""
        own = self._hash.digest()
        check_end(digest, own)
        close_output(self._target)
        return own, list(NAMES)

    def discard(self) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Sink`: what was written cannot be taken back."""


class OutletFile:
    """A file that comes in chunks, as a :class:`~p2pxfer.net.transfer.places.Storage`.

    ``untouched`` is called where it is dropped before anything was written.
    """

    def __init__(self, target: int, manifest: Manifest, untouched: Callable[[], None]) -> None:
        self._untouched = untouched
        self.where = ""
        self.owner = EVERYBODYS
        self.published_root: bytes | None = None
        self.published_names: list[str] = []
        self.agreed: Agreed | None = None
        self._target = target
        self._size = manifest.files[0].size
        self._table = ChunkTable(manifest)
        self._here: dict[int, bytes] = {}
        """Hashes of the chunks that came and are not written yet."""
        self._next = 0
        self._early: IO[bytes] | None = None
        self._broken: P2pxferError | None = None

    @property
    def have(self) -> Mapping[ChunkAddress, bytes]:
        """See :class:`~p2pxfer.net.transfer.places.Storage`: nothing is kept over a run."""
        return {}

    @property
    def begun(self) -> bool:
        """See :class:`~p2pxfer.net.transfer.places.Storage`."""
        return False

    def write_chunk(
        self, file: int, index: int, payload: memoryview, digest: bytes, found: bytes | None = None
    ) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Storage`.

        Raises:
            Interrupted: nobody reads the output any more.
        """
        self._check_usable()
        number = self._table.number((file, index))
        offset, length = chunk_span(self._size, index)
        if len(payload) != length:
            raise ChunkRefused(f"chunk {index} has {len(payload)} bytes instead of {length}")
        if (found or blake3(payload).digest()) != digest:
            raise ChunkRefused(f"chunk {index} does not match its hash")
        try:
            if number == self._next:
                self._put(number, payload, digest)
                self._put_early()
            elif number > self._next:
                self._keep(offset, payload)
                self._here[number] = digest
        except P2pxferError as error:
            self._broken = error
            raise

    def write_bundle(self, bundle: Bundle) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Storage`.

        Raises:
            ChunkRefused: always; there is one file, and a bundle has several.
        """
        raise ChunkRefused(f"{bundle.count} files in a bundle are not part of one file")

    def write_hole(self, file: int, first: int, stop: int) -> list[Claim]:
        """See :class:`~p2pxfer.net.transfer.places.Storage`; there is nothing to be made durable."""
        for index in range(first, stop):
            _, length = chunk_span(self._size, index)
            zeros = memoryview(_ZEROS)[:length] if length <= len(_ZEROS) else memoryview(bytes(length))
            self.write_chunk(file, index, zeros, zero_hash(length))
        return []

    def _put(self, number: int, payload: memoryview | bytes, digest: bytes) -> None:
        put(self._target, payload)
        self._table.set_hash(number, digest)
        self._next = number + 1

    def _keep(self, offset: int, payload: memoryview) -> None:
        try:
            if self._early is None:
                self._early = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # until close
            write_all(self._early.fileno(), payload, offset)
        except OSError as error:
            raise disk_error(error, "keeping what came too early in a temporary file", _ADVICE) from error

    def _put_early(self) -> None:
        """Write what waited for the chunk before it."""
        while self._early is not None and self._next in self._here:
            offset, length = chunk_span(self._size, self._next)
            try:
                payload = read_span(self._early.fileno(), offset, length)
            except OSError as error:
                raise disk_error(error, "reading what came too early from a temporary file", _ADVICE) from error
            digest = self._here.pop(self._next)
            if blake3(payload).digest() != digest:
                raise Damaged("the temporary file of what came too early was changed")
            self._put(self._next, payload, digest)
            if not self._here:
                self._early.truncate(0)

    def announce(self, announced: Announced) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Storage`: nobody knows how much room there is."""

    def sync(self, claims: Iterable[Claim], pages: Iterable[int]) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Storage`: what is written is written."""

    def finish(self, root: bytes, now: float, left: Sequence[int] = ()) -> list[str]:
        """See :class:`~p2pxfer.net.transfer.places.Storage`; there is one file, so none can be ``left`` out.

        Raises:
            Damaged: something is missing, or ``root`` is not that of what was written.
        """
        self._check_usable()
        if left or self._table.known.total != self._table.total or self._table.root() != root:
            raise Damaged("what arrived is not what was sent; the output is not whole")
        close_output(self._target)
        self.published_root, self.published_names = root, list(NAMES)
        return self.published_names

    def discard(self) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Storage`."""
        self.close()
        if not self._next and self._broken is None and self.published_root is None:
            self._untouched()

    def close(self) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Storage`."""
        if self._early is not None:
            self._early.close()
            self._early = None

    def _check_usable(self) -> None:
        if self._broken is not None:
            raise type(self._broken)(self._broken.message)


def put(target: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``, however long that takes.

    Raises:
        Interrupted: nobody reads the output any more.
        DiskError: the system refused it.
    """
    try:
        write_whole(target, data)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise Interrupted("nobody reads the output any more") from error
        failed = disk_error(error, "writing standard output", _ADVICE, "nothing of it is kept")
        failed.word_abroad = Refused.word  # it could not go on
        raise failed from error
