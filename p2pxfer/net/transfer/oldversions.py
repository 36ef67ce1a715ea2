"""The receiver's side of a delta, with its disk: older versions of what is being received, cut, hashed and copied from.

Laws of this file:

1. An older version is only read.  It is opened once, through no link, and what is copied from it counts only while the
   file is the one that was cut, and then only if the chunk that comes of it has the right hash.
2. Of the receiver's own files a sender learns the hashes of blocks, so it is told of them only if it asks and is a
   contact.  A partial file that came from it before it knows anyway.
3. What is remembered of blocks is bounded, over all files of a transfer.

Every method but :meth:`OldVersions.stop` blocks; :meth:`OldVersions.look` and :meth:`OldVersions.sign` are for one
thread, :meth:`OldVersions.make` for another.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable
from typing import Final

from p2pxfer.core.session.deltawire import BASIS_FILES, LITERAL, Patch
from p2pxfer.core.transfer.delta import ALL_BLOCKS, MAX_BLOCKS, MIN_SIZE, Layout, average_block, places
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.net.disk import OPEN_INNER_FILE, FdCache, parent_of, read_span
from p2pxfer.net.transfer.cutting import blocks, can_cut
from p2pxfer.net.transfer.fileidentity import FileIdentity

OPEN_FILES: Final = 16


class VersionLost(Exception):
    """A chunk cannot be made of the older version: it is not what it was, or a hash was no good."""


class OldVersions:
    """Older versions of files of ``manifest``; ``roots``: descriptors of directories in which they may lie, each with
    the paths to look at there, the first one first.  It closes the descriptors in the end.
    """

    def __init__(self, manifest: Manifest, roots: list[int]) -> None:
        self._manifest = manifest
        self._roots = roots
        self._where: dict[int, int] = {}
        self._identities: dict[int, FileIdentity] = {}
        self._layouts: dict[int, Layout] = {}
        self._hashes: dict[int, bytes] = {}
        self._count = 0
        self._stopped = threading.Event()
        self._files = FdCache(OPEN_FILES, self._open)

    def look(self, files: Iterable[int]) -> list[int]:
        """Those of ``files`` of which there is an older version that can be cut, in order."""
        found: list[int] = []
        for file in files:
            if self._stopped.is_set() or len(found) == BASIS_FILES:
                break
            if self._manifest.sizes[file] >= MIN_SIZE and self._is_there(file):
                found.append(file)
        return found if found and can_cut() else []

    def _is_there(self, file: int) -> bool:
        for number, root in enumerate(self._roots):
            try:
                with parent_of(root, self._manifest.files[file].path) as (parent, name):
                    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_size:
                self._where[file] = number
                self._identities[file] = FileIdentity.of(status)
                return True
        return False

    def _open(self, file: int) -> int:
        with parent_of(self._roots[self._where[file]], self._manifest.files[file].path) as (parent, name):
            return os.open(name, os.O_RDONLY | OPEN_INNER_FILE, dir_fd=parent)

    def sign(self, file: int) -> tuple[int, bytes]:
        """Average size and hashes of the blocks of the older version of a file that was found; no hashes if it is of no
        use any more.
        """
        size = self._manifest.sizes[file] if file < len(self._manifest.sizes) else 0
        # It may have been found before the list changed, in a place that was let go then.
        if self._stopped.is_set() or not size or not (file in self._identities or self._is_there(file)):
            return average_block(size), b""
        average = average_block(max(size, self._identities[file].size))
        if file not in self._hashes:
            self._hashes[file] = self._cut(file, average)
        return average, self._hashes[file]

    def _cut(self, file: int, average: int) -> bytes:
        layout = Layout()
        hashes = bytearray()
        try:
            with self._files.lease(file) as fd:
                size = self._identities[file].size
                for length, digest in blocks(lambda at, count: self._read(fd, at, count), size, average):
                    if len(layout) == MAX_BLOCKS or self._count + len(layout) == ALL_BLOCKS:
                        break
                    layout.add(length)
                    hashes += digest
                if not self._identities[file].is_of(os.fstat(fd)):
                    return b""
        except OSError:
            return b""
        self._count += len(layout)
        self._layouts[file] = layout
        return bytes(hashes)

    def _read(self, fd: int, offset: int, count: int) -> bytes:
        if self._stopped.is_set():
            raise InterruptedError
        return read_span(fd, offset, count)

    def stop(self) -> None:
        """Look for nothing more and cut no further, from any thread: what is under way ends with the next read."""
        self._stopped.set()

    def make(self, patch: Patch) -> bytes:
        """The chunk that a patch describes; its hash is still to be compared.

        Raises:
            ChunkRefused: the patch copies what is not there.
            VersionLost: see there.
        """
        layout = self._layouts.get(patch.file)
        if layout is None:
            raise VersionLost
        parts: list[bytes | memoryview] = []
        literal = 0
        try:
            with self._files.lease(patch.file) as fd:
                for place, (block, _, length) in zip(places(patch.ops, layout), patch.ops, strict=True):
                    if block == LITERAL:
                        parts.append(patch.literals[literal : literal + length])
                        literal += length
                    else:
                        parts.append(read_span(fd, place[0], length))
                there = self._identities[patch.file].is_of(os.fstat(fd))
        except (OSError, KeyError) as error:
            raise VersionLost from error
        if not there:
            raise VersionLost
        return b"".join(parts)

    def close(self) -> None:
        """Let go of all files, when no other method runs any more."""
        self.stop()
        self._files.close()
        while self._roots:
            os.close(self._roots.pop())
