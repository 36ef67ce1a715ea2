"""Before the first byte, and whenever more is listed: does the disk have room for what is missing?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.geometry import chunk_span
from p2pxfer.core.transfer.journal import CHUNK_SIZE, RECORD_OVERHEAD
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.core.words.eventtext import human_size
from p2pxfer.errors import NoSpace
from p2pxfer.net.disk import parent_of, shown, stat_or_none

_USUAL_BLOCK = 4096
ON_ITS_WAY = 16 * 1024 * 1024
"""So many bytes may be on the disk already and not known to be durable."""


class Room:
    """What a transfer into ``where`` needs: what ``table`` lacks of ``manifest``, and ``reserve`` bytes more."""

    def __init__(self, where: str, manifest: Manifest, table: ChunkTable, reserve: int) -> None:
        self._where = where
        self._manifest = manifest
        self._table = table
        self._reserve = reserve
        self._files = self._bytes = self._holes = 0
        self._left: frozenset[int] = frozenset()

    def left_out(self, files: Iterable[int]) -> None:
        """These do not come: they need no room."""
        self._left = frozenset(files)

    def announced(self, said: Announced, keeps_holes: bool) -> None:
        """What the sender says of the whole; its holes need no room where they are kept."""
        self._files, self._bytes = said.files, said.bytes
        self._holes = said.holes if keeps_holes else 0

    def check_space(self, directory: int, on_its_way: int = 0) -> None:
        """Compare the free bytes of the disk with what is lacking, in whole blocks, and the reserve.

        ``on_its_way`` bytes may have taken their place already without being known.

        Raises:
            NoSpace: they do not suffice.
        """
        disk = os.statvfs(directory)
        block = disk.f_frsize or _USUAL_BLOCK
        free = disk.f_bavail * block
        total = max(self._bytes, self._manifest.total_bytes)
        chunks = self._table.total - self._table.known.total
        others = self._manifest.size + chunks * (CHUNK_SIZE + RECORD_OVERHEAD) + self._reserve
        most = max(self._files, self._table.files) * block
        if total + most + others <= free:
            return  # it fits without a look at each file
        lacking = total - self._manifest.total_bytes + self._lacking(block)
        if self._holes:
            lacking = min(lacking, total - self._holes + most)
        needed = max(0, lacking - on_its_way) + others
        if needed > free:
            sizes = map(human_size, (free, needed - self._reserve, self._reserve, needed - free))
            raise self._too_little("{} free, but {} and a reserve of {} are needed, {} too little".format(*sizes))

    def _too_little(self, what: str, repair: str = "free some space") -> NoSpace:
        """The disk has ``what``; each of the two users hears what is theirs to do."""
        return NoSpace(
            f"{shown(self._where)} has {what}; {repair}, and let the sender run its command again",
            f"its disk has {what}; run the command again when it has more room",
        )

    def _lacking(self, block: int) -> int:
        """Bytes that the listed files lack, each in whole blocks."""
        lacking = 0
        for file, size in enumerate(self._manifest.sizes[: self._table.files]):
            if file not in self._left:
                lacking += -(-(size - _size_here(self._table, file, size)) // block) * block
        return lacking

    def check_inodes(self, directory: int, tree: int | None, others: int, is_settled: Callable[[str], bool]) -> None:
        """Compare the free inodes with the entries that ``tree`` lacks, those that are settled apart, and ``others``.

        Raises:
            NoSpace: they do not suffice.
        """
        disk = os.statvfs(directory)
        entries = self._manifest.entries
        others += max(0, self._files - len(self._manifest.sizes))
        if not disk.f_files or len(entries) + others <= disk.f_favail:
            return
        paths = (entry.path for entry in entries if not is_settled(entry.path))
        needed = others + sum(tree is None or not _is_made(tree, path) for path in paths)
        if needed > disk.f_favail:
            raise self._too_little(f"room for {disk.f_favail} more files, but {needed} are needed", "remove some files")


def _size_here(table: ChunkTable, file: int, size: int) -> int:
    if not table.known.total:
        return 0
    first, stop = table.file_range(file)
    here = 0
    for start, end in table.known.overlap(first, stop):
        offset, length = chunk_span(size, end - 1 - first)
        here += offset + length - chunk_span(size, start - first)[0]
    return here


def _is_made(tree: int, path: str) -> bool:
    try:
        with parent_of(tree, path) as (parent, name):
            return stat_or_none(parent, name) is not None
    except FileNotFoundError:
        return False
