"""The sender's disk: from paths on the command line to a manifest that grows page by page, and chunks of its files.

Law: only bytes of the very file that was scanned are ever handed out: device, inode, size and time of change have to be
the scanned ones before and after each read.  Hashes come while sending.

What is wrong with one file is told as :class:`~p2pxfer.errors.SourceUnreadable`; what else goes wrong is about no file.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import Final

from blake3 import blake3

from p2pxfer.core.transfer.geometry import chunk_span
from p2pxfer.core.transfer.manifest import Entry, Manifest
from p2pxfer.core.transfer.pagewriter import PageWriter
from p2pxfer.core.transfer.ranges import Range
from p2pxfer.core.words.lefttext import what_happened
from p2pxfer.errors import ChunkRefused, DiskError, SourceChanged, SourceUnreadable
from p2pxfer.net.disk import (
    OPEN_DIRECTORY,
    OPEN_INNER_FILE,
    FdCache,
    disk_error,
    read_span,
    shown,
)
from p2pxfer.net.parents import LastParent
from p2pxfer.net.transfer.fileidentity import FIELDS, FileIdentity
from p2pxfer.net.transfer.scan import OPEN_NAMED, Links, Scan, changed, removed

CLOSE_S: Final = 1.0
"""How long closing waits for a search, seconds; a file system that does not answer must not hold up the program."""
OPEN_FILES: Final = 64
_DIRECTORIES: Final = 2
"""What was named, and the directory in it that was used last."""
# The scan could open it, so these tell of something else in its place.
_REPLACED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES})
_OF_NO_FILE: Final = frozenset({
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT,
    errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH,
})  # fmt: skip
"""What a read fails with for lack of what all files need: descriptors, memory, the disk or server where they lie."""


class Source:
    """The files of one transfer; made by :meth:`open` or :meth:`scan`.

    Blocking; :meth:`read_chunk` and :meth:`find` may run in several threads, :meth:`take` in one.
    """

    def __init__(self, paths: list[str], links: Links) -> None:
        self._scan = Scan(paths, links)
        self._entries = self._scan.entries()
        self._writer = PageWriter()
        self._found: tuple[bytes, bool] | None = None
        self._finding = threading.Lock()
        self._closed = False
        self.manifest = Manifest()
        """What is to be sent, as far as it was taken."""
        self._tops = self._scan.tops
        self._follow = links == "follow"
        self._lock = threading.Lock()
        self._last_root = ("", -1)
        self._parents = LastParent()
        self._files = FdCache(OPEN_FILES - _DIRECTORIES, self._open)

    @classmethod
    def open(cls, paths: list[str], links: Links = "skip") -> Source:
        """Files and directories as the user named them, with the first page of what is below them.

        ``links``: what becomes of symbolic links inside directories.

        Raises:
            NameCollision: two names that are one on some systems.
            P2pxferError: see :class:`~p2pxfer.net.transfer.scan.Scan`.
        """
        source = cls(paths, links)
        try:
            source.take(*source.find())
        except BaseException:
            source.close()
            raise
        return source

    @classmethod
    def scan(cls, paths: list[str], links: Links = "skip") -> Source:
        """As :meth:`open`, with everything."""
        source = cls.open(paths, links)
        try:
            while not source.manifest.complete:
                source.take(*source.find())
        except BaseException:
            source.close()
            raise
        return source

    def find(self) -> tuple[bytes, bool]:
        """The page behind the last one that was taken, and whether others follow.

        Raises:
            P2pxferError: see :meth:`~p2pxfer.net.transfer.scan.Scan.entries`.
        """
        with self._finding:
            if self._found is None:
                self._found = self._next_page()
            if self._closed:
                self._entries.close()
            return self._found

    def _next_page(self) -> tuple[bytes, bool]:
        for entry in self._entries:
            if self._closed:
                return b"", False
            for page in self._writer.add(entry):
                return page, True
        return self._writer.rest(), False

    def take(self, page: bytes, more: bool) -> None:
        """Add a page that was found to the manifest.

        Raises:
            P2pxferError: see :meth:`~p2pxfer.core.transfer.manifest.Manifest.add`.
        """
        self.manifest.add(page, more=more)
        self._found = None
        self._scan.begun = True

    @property
    def skipped(self) -> list[str]:
        """What was left out inside directories so far: path and reason, ready to be shown; when all was looked at,
        also how many more there were than are named.
        """
        unnamed = self._scan.unnamed if self.manifest.complete else 0
        return [*self._scan.skipped, f"{unnamed} more"] if unnamed else self._scan.skipped

    @property
    def lacking(self) -> list[str]:
        """Of :attr:`skipped` what may be somebody's data, and does not come."""
        return self._scan.lacking

    @property
    def denied(self) -> dict[str, DiskError]:
        """What this user may not read inside directories, as found so far: path and error; it is in no list."""
        return self._scan.denied

    def holes(self, start: int = 0) -> dict[int, list[Range]]:
        """File index -> ranges of chunks in which no data lies, for each file that is sparse, of those from ``start``
        on that were taken.
        """
        found, files = self._scan.holes, len(self.manifest.sizes)
        return {file: found[file] for file in list(found) if start <= file < files}

    def identity(self, file: int) -> FileIdentity:
        """What the scan saw of a file."""
        return FileIdentity.from_numbers(self._scan.identities[file * FIELDS : (file + 1) * FIELDS])

    def read_chunk(self, file: int, index: int) -> tuple[bytes, bytes]:
        """A chunk and its BLAKE3 hash.

        Raises:
            ChunkRefused: there is no such chunk.
            SourceChanged: the file is not what it was when it was scanned.
            SourceUnreadable: it cannot be read.
            DiskError: nothing can be read at present.
        """
        if not 0 <= file < len(self.manifest.sizes):
            raise ChunkRefused(f"file {file} is not part of the transfer")
        entry = self.manifest.files[file]
        offset, length = chunk_span(entry.size, index)
        if length < entry.size:
            data = self.read_span(file, offset, length)
        else:
            data = self._read_whole(entry, self.identity(file))
        return data, blake3(data).digest()

    def read_files(self, start: int, stop: int) -> list[tuple[bytes, bytes]]:
        """Files of one chunk each, from ``start`` to before ``stop``, and their BLAKE3 hashes; raises as
        :meth:`read_chunk`.
        """
        found: list[tuple[bytes, bytes]] = []
        for file, entry in enumerate(self.manifest.run_of_files(start, stop), start):
            data = self._read_whole(entry, self.identity(file))
            found.append((data, blake3(data).digest()))
        return found

    def _read_whole(self, entry: Entry, identity: FileIdentity) -> bytes:
        try:
            fd = self._open_path(entry.path)
            try:
                data = self._read(fd, 0, entry.size, identity, entry)
            finally:
                os.close(fd)
        except OSError as error:
            raise _not_read(error, entry.path) from error
        if len(data) != entry.size:
            raise changed(entry.path)
        return data

    def read_span(self, file: int, offset: int, length: int) -> bytes:
        """Bytes of a file, all that there are.

        Raises:
            SourceChanged: the file is not what it was when it was scanned.
            SourceUnreadable: it cannot be read.
            DiskError: nothing can be read at present.
        """
        entry = self.manifest.files[file]
        try:
            with self._files.lease(file) as fd:
                data = self._read(fd, offset, length, self.identity(file), entry)
        except OSError as error:
            raise _not_read(error, entry.path) from error
        if len(data) != length:
            raise changed(entry.path)
        return data

    def _read(self, fd: int, offset: int, length: int, identity: FileIdentity, entry: Entry) -> bytes:
        if not identity.is_of(os.fstat(fd)):
            raise self._other(entry.path)
        data = read_span(fd, offset, length)
        if not identity.is_of(os.fstat(fd)):
            raise self._other(entry.path)
        return data

    def _other(self, path: str) -> SourceChanged:
        """The error about an open file that is not what it was: it may be gone from where it was."""
        top, _, rest = path.partition("/")
        try:
            os.lstat(b"/".join([self._tops[top], *([rest.encode()] if rest else [])]))
        except (FileNotFoundError, NotADirectoryError):
            return removed(path)
        except OSError:
            pass
        return changed(path)

    def _open(self, file: int) -> int:
        return self._open_path(self.manifest.files[file].path)

    def _open_path(self, path: str) -> int:
        top, _, rest = path.partition("/")
        try:
            if not rest:
                return os.open(self._tops[top], OPEN_NAMED)
            if self._follow:
                # Wherever the links lead by now, only the file that was scanned passes.
                return os.open(self._tops[top] + b"/" + rest.encode(), OPEN_NAMED)
            with self._lock:
                return self._parents.open(self._root(top), rest, os.O_RDONLY | OPEN_INNER_FILE)
        except OSError as error:
            if error.errno not in _REPLACED:
                raise
            if rest and not self._scan.is_there(top):
                what = f"{shown(top)} is not there any more as it was listed"
                raise DiskError(f"{what}; run the command again", what) from error
            raise (removed if error.errno == errno.ENOENT else changed)(path) from error

    def _root(self, top: str) -> int:
        """The descriptor of a directory that was named; that of the last one stays open."""
        if self._last_root[0] != top:
            fd = os.open(self._tops[top], OPEN_DIRECTORY)
            self._close_root()
            self._last_root = (top, fd)
        return self._last_root[1]

    def _close_root(self) -> None:
        self._parents.close()
        if self._last_root[1] >= 0:
            os.close(self._last_root[1])
        self._last_root = ("", -1)

    def close(self) -> None:
        """Close all files; no read may be under way.  A search ends soon; it is waited for :data:`CLOSE_S` at most."""
        self._closed = True
        if self._finding.acquire(timeout=CLOSE_S):
            self._entries.close()
            self._finding.release()
        self._files.close()
        self._close_root()


def _not_read(error: OSError, path: str) -> DiskError:
    told = disk_error(error, f"reading {shown(path)}", "run the command again to go on")
    return told if error.errno in _OF_NO_FILE else SourceUnreadable(told.message, what_happened(told))
