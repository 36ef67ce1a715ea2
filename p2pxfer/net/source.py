"""The sender's disk: from paths on the command line to a manifest, and chunks of its files.

Law: only bytes of the very file that was scanned are ever handed out: device, inode, size and time of change have to be
the scanned ones before and after each read.  Hashes come while sending.
"""

from __future__ import annotations

import errno
import os
from array import array
from typing import Final

from blake3 import blake3

from p2pxfer.core.geometry import chunk_span
from p2pxfer.core.manifest import Entry, Manifest
from p2pxfer.core.ranges import Range
from p2pxfer.errors import ChunkRefused
from p2pxfer.net.disk import (
    OPEN_DIRECTORY,
    OPEN_INNER_FILE,
    FdCache,
    disk_error,
    parent_of,
    read_span,
    shown,
)
from p2pxfer.net.scan import FIELDS, OPEN_NAMED, Found, Identity, Links, changed, scan

OPEN_FILES: Final = 64
# The scan could open it, so these tell of something else in its place.
_REPLACED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES})


class Source:
    """The files of one transfer; made by :meth:`scan`.  Blocking; :meth:`read_chunk` may run in several threads."""

    def __init__(self, found: Found, links: Links) -> None:
        self.manifest = Manifest(found.entries)
        self.skipped = found.skipped
        """What was left out inside directories: path and reason, ready to be shown."""
        self._tops = found.tops
        self._follow = links == "follow"
        self.holes: dict[int, list[Range]] = {}
        """File index -> ranges of chunks in which no data lies, for each file that is sparse."""
        if found.holes:
            places = {entry.path: file for file, entry in enumerate(self.manifest.files)}
            self.holes = {places[path]: holes for path, holes in found.holes.items()}
        self._identities = array("q")
        for number in sorted(range(len(found.files)), key=found.files.__getitem__):
            self._identities.extend(found.identities[number * FIELDS : (number + 1) * FIELDS])
        self._files = FdCache(OPEN_FILES, self._open)

    @classmethod
    def scan(cls, paths: list[str], links: Links = "skip") -> Source:
        """Files and directories as the user named them; ``links``: what becomes of symbolic links inside directories.

        Raises:
            NameCollision: two names that are one on some systems.
            P2pxferError: see :func:`~p2pxfer.net.scan.scan`.
        """
        return cls(scan(paths, links), links)

    def identity(self, file: int) -> Identity:
        """What the scan saw of a file."""
        return Identity.from_numbers(self._identities[file * FIELDS : (file + 1) * FIELDS])

    def read_chunk(self, file: int, index: int) -> tuple[bytes, bytes]:
        """A chunk and its BLAKE3 hash.

        Raises:
            ChunkRefused: there is no such chunk.
            SourceChanged: the file is not what it was when it was scanned.
            DiskError: it cannot be read.
        """
        if not 0 <= file < len(self.manifest.files):
            raise ChunkRefused(f"file {file} is not part of the transfer")
        entry = self.manifest.files[file]
        offset, length = chunk_span(entry.size, index)
        identity = self.identity(file)
        try:
            with self._files.lease(file) as fd:
                self._check(fd, identity, entry)
                data = read_span(fd, offset, length)
                self._check(fd, identity, entry)
        except OSError as error:
            raise disk_error(error, f"reading {shown(entry.path)}", "run the command again to go on") from error
        if len(data) != length:
            raise changed(entry.path)
        return data, blake3(data).digest()

    def _check(self, fd: int, identity: Identity, entry: Entry) -> None:
        # The time of status too, though links and modes change it: whoever rewrites a file can set the other one back.
        if Identity.of(os.fstat(fd)) != identity:
            raise changed(entry.path)

    def _open(self, file: int) -> int:
        path = self.manifest.files[file].path
        top, _, rest = path.partition("/")
        try:
            if not rest:
                return os.open(self._tops[top], OPEN_NAMED)
            if self._follow:
                # Wherever the links lead by now, only the file that was scanned passes.
                return os.open(self._tops[top] + b"/" + rest.encode(), OPEN_NAMED)
            root = os.open(self._tops[top], OPEN_DIRECTORY)
            try:
                with parent_of(root, rest) as (parent, name):
                    return os.open(name, os.O_RDONLY | OPEN_INNER_FILE, dir_fd=parent)
            finally:
                os.close(root)
        except OSError as error:
            if error.errno in _REPLACED:
                raise changed(path) from error
            raise

    def close(self) -> None:
        """Close all files; no read may be under way."""
        self._files.close()
