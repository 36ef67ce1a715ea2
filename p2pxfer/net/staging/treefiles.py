"""The files of a staging tree while their chunks come: made where they are missing, written, made durable.

Laws of this file:

1. Everything is relative to the descriptor of the tree, in which nobody else is, and follows no link.
2. At most :data:`OPEN_FILES` are open beside those that a thread writes now; a file of one chunk is not kept open.
3. From its first hole on, a file is known as sparse, and zeros that are written to it stay a hole.
4. Many files are synced at once, where the system can do that.

It does not know which bytes are the right ones, and of no journal: :mod:`p2pxfer.net.staging.staging` says what is
written when.  All of it raises ``OSError`` and blocks; all but :meth:`TreeFiles.close` may run in several threads.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Final

from p2pxfer.core.transfer.geometry import chunk_count, chunk_span
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.net.disk import OPEN_INNER_FILE, FdCache, fdatasync, sync_file_system, write_all
from p2pxfer.net.holes import leave_hole, write_around_holes
from p2pxfer.net.parents import LastParent
from p2pxfer.net.staging.publishing import MANY_FILES, write_whole

OPEN_FILES: Final = 64


class TreeFiles:
    """The files of ``manifest``, by their numbers."""

    def __init__(self, manifest: Manifest) -> None:
        self.tree = -1
        """The tree's descriptor, once there is one."""
        self._manifest = manifest
        self._sparse: set[int] = set()
        self._parents = LastParent()
        self._open = FdCache(OPEN_FILES, self._opened)

    def _opened(self, file: int) -> int:
        flags = os.O_RDWR | os.O_CREAT | OPEN_INNER_FILE
        return self._parents.open_own(self.tree, self._manifest.files[file].path, flags)

    def write(self, file: int, index: int, payload: memoryview) -> None:
        """Write a chunk to its place."""
        entry = self._manifest.files[file]
        if file not in self._sparse and chunk_count(entry.size) == 1:
            write_whole(self._parents, self.tree, entry, payload)
            return
        with self._open.lease(file) as fd:
            (write_around_holes if file in self._sparse else write_all)(fd, payload, chunk_span(entry.size, index)[0])

    def mark_sparse(self, file: int) -> None:
        """The file has holes."""
        self._sparse.add(file)

    def leave_hole(self, file: int, first: int, stop: int) -> None:
        """Have the chunks from ``first`` to before ``stop`` be a hole."""
        size = self._manifest.files[file].size
        with self._open.lease(file) as fd:
            leave_hole(fd, chunk_span(size, first)[0], sum(chunk_span(size, stop - 1)))

    def sync(self, files: Collection[int], beside: int) -> None:
        """Make what was written to these durable; ``beside`` is a descriptor on the same file system."""
        if len(files) > MANY_FILES and sync_file_system(beside):
            return
        for file in sorted(files):
            with self._open.lease(file) as fd:
                fdatasync(fd)

    def close(self) -> None:
        """Close all that is kept open; no thread may write now."""
        self._open.close()
        self._parents.close()
