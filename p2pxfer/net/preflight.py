"""Before the first byte: does the disk have room for what is missing, and is what is claimed to be here really here?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import closing

from p2pxfer.core.chunktable import ChunkTable
from p2pxfer.core.geometry import chunk_span
from p2pxfer.core.journal import CHUNK_SIZE, RECORD_OVERHEAD, JournalState
from p2pxfer.core.manifest import Entry, Manifest
from p2pxfer.errors import ChunkRefused, DiskError, NoSpace
from p2pxfer.net.disk import parent_of, shown, stat_or_none
from p2pxfer.net.parents import LastParent
from p2pxfer.net.publishing import Publisher

_USUAL_BLOCK = 4096


def check_space(directory: int, where: str, manifest: Manifest, table: ChunkTable, holes: int, reserve: int) -> None:
    """Compare the free bytes of the disk with what ``table`` still lacks, in whole blocks, and ``reserve``.

    What is not in ``holes`` bytes is the most that can be lacking.

    Raises:
        NoSpace: they do not suffice.
    """
    disk = os.statvfs(directory)
    block = disk.f_frsize or _USUAL_BLOCK
    needed = len(manifest.encode()) + (table.total - table.known.total) * (CHUNK_SIZE + RECORD_OVERHEAD)
    lacking = 0
    for file, entry in enumerate(manifest.files):
        missing = entry.size - _size_here(table, file, entry.size)
        lacking += -(-missing // block) * block
    needed += min(lacking, manifest.total_bytes - holes + block * len(manifest.files)) if holes else lacking
    free = disk.f_bavail * block
    if needed + reserve > free:
        raise NoSpace(
            f"{shown(where)} has {free} bytes free, but {needed} and a reserve of {reserve} are needed; "
            "free some space and run the command again"
        )


def _size_here(table: ChunkTable, file: int, size: int) -> int:
    if not table.known.total:
        return 0
    first, stop = table.file_range(file)
    here = 0
    for start, end in table.known.overlap(first, stop):
        offset, length = chunk_span(size, end - 1 - first)
        here += offset + length - chunk_span(size, start - first)[0]
    return here


def check_inodes(directory: int, where: str, paths: Iterable[str], tree: int | None, others: int) -> None:
    """Compare the free inodes with the ``paths`` that ``tree`` lacks and ``others``.

    Raises:
        NoSpace: they do not suffice.
    """
    disk = os.statvfs(directory)
    wanted = list(paths)
    if not disk.f_files or len(wanted) + others <= disk.f_favail:
        return
    needed = others + sum(tree is None or not _is_made(tree, path) for path in wanted)
    if needed > disk.f_favail:
        raise NoSpace(
            f"{shown(where)} has room for {disk.f_favail} more files, but {needed} are needed; "
            "remove some files and run the command again"
        )


def _is_made(tree: int, path: str) -> bool:
    try:
        with parent_of(tree, path) as (parent, name):
            return stat_or_none(parent, name) is not None
    except FileNotFoundError:
        return False


def prove(state: JournalState, manifest: Manifest, tree: int, publisher: Publisher, proved: ChunkTable) -> None:
    """Put into ``proved`` the journal's claims that the files in ``tree`` can bear out.

    The data is not read again, so going on costs the same whatever the size: a claim was journalled only after its
    bytes were verified and synced, into a directory that nobody else may enter.  What is checked is that the file is
    there and reaches as far as the claim.  What was published already now belongs to the user.

    Raises:
        DiskError: something that is not a file lies where one was received.
        OSError: what the system refuses.
    """
    claims = ChunkTable(manifest)
    for file, index, digest in state.chunks():
        try:
            claims.set_hash(claims.number((file, index)), digest)
        except ChunkRefused:
            continue  # of no chunk of this transfer
    with closing(LastParent()) as files:
        for file, entry in enumerate(manifest.files):
            numbers = [number for span in claims.known.overlap(*claims.file_range(file)) for number in range(*span)]
            if numbers and not publisher.is_published(entry.path):
                status = files.stat(tree, entry.path)
                numbers = _proved_by(status, entry, numbers, claims) if status is not None else []
            for number in numbers:
                proved.set_hash(number, claims.hash(number))


def _proved_by(status: os.stat_result, entry: Entry, numbers: list[int], claims: ChunkTable) -> list[int]:
    if not stat.S_ISREG(status.st_mode):
        raise DiskError(f"the received file {shown(entry.path)} was replaced by something else; remove it")
    if status.st_size >= entry.size:
        return numbers
    return [number for number in numbers if sum(chunk_span(entry.size, claims.address(number)[1])) <= status.st_size]
