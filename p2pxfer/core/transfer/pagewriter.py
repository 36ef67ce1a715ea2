"""Cuts entries, which come in the order of a file list, into its pages."""

from __future__ import annotations

from typing import Final

from p2pxfer.core.transfer.entries import DIRECTORY, Entry
from p2pxfer.core.transfer.listcodec import pack_entry

MAGIC: Final = b"P2PXMAN\x02"
"""How a list begins."""
PAGE: Final = 32 * 1024
"""Largest page, bytes."""


class PageWriter:
    """Takes entries one by one; what concerns several of them is judged by whoever reads the pages."""

    def __init__(self) -> None:
        self._page = [MAGIC]
        self._length = len(MAGIC)
        self._open: list[tuple[str, int]] = [("", 0)]
        self._count = 0

    def add(self, entry: Entry) -> list[bytes]:
        """Take an entry; returns the page before it if this one does not fit any more, else nothing.

        Raises:
            P2pxferError: it cannot be part of a list.
        """
        parent, _, name = entry.path.rpartition("/")
        while self._open[-1][0] != parent:
            self._open.pop()
        packed = pack_entry(entry, self._open[-1][1], name)
        full = [b"".join(self._page)] if self._length + len(packed) > PAGE else []
        if full:
            self._page, self._length = [], 0
        self._page.append(packed)
        self._length += len(packed)
        self._count += 1
        if entry.kind is DIRECTORY:
            self._open.append((entry.path, self._count))
        return full

    def rest(self) -> bytes:
        """The last page."""
        return b"".join(self._page)
