"""The directory that was used last stays open.

Files come in the order of their paths, so the next one mostly lies there too, and a walk from the root for each of a
hundred thousand small files would be most of the work on them.
"""

from __future__ import annotations

import os
import threading

from p2pxfer.net.disk import open_own_file, parent_of


class LastParent:
    """Opens files below a directory, as :func:`~p2pxfer.net.disk.parent_of` does, in any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._root = -1
        self._path = ""
        self._fd = -1

    def open(self, root: int, path: str, flags: int) -> int:
        """The file ``path`` below the descriptor ``root``.  Raises ``OSError``."""
        parent, _, name = path.rpartition("/")
        if not parent:
            return os.open(name.encode(), flags, dir_fd=root)
        with self._lock:
            return os.open(name.encode(), flags, dir_fd=self._enter(root, parent, make=False))

    def open_own(self, root: int, path: str, flags: int) -> int:
        """As :meth:`open`, in a tree that nobody else may enter: missing directories are created.

        A mode that shuts this user out does so no more (:func:`~p2pxfer.net.disk.open_own_file`).
        """
        parent, _, name = path.rpartition("/")
        if not parent:
            return open_own_file(name.encode(), flags, root)
        with self._lock:
            return open_own_file(name.encode(), flags, self._enter(root, parent, make=True))

    def stat(self, root: int, path: str) -> os.stat_result | None:
        """What ``path`` is, itself and not what it points to; ``None`` if nothing is there.  Raises ``OSError``."""
        parent, _, name = path.rpartition("/")
        try:
            with self._lock:
                directory = self._enter(root, parent, make=False) if parent else root
                return os.stat(name.encode(), dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _enter(self, root: int, parent: str, make: bool) -> int:
        if self._fd < 0 or (self._root, self._path) != (root, parent):
            with parent_of(root, f"{parent}/.", make) as (fd, _):
                kept = os.dup(fd)
            self._forget()
            self._root, self._path, self._fd = root, parent, kept
        return self._fd

    def _forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """Close the directory; also before its root is closed."""
        with self._lock:
            self._forget()
