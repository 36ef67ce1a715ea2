"""What a sender tells of its files on a path, beside the list: which chunks are holes, and what is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2pxfer.core.session.leftwire import LeftOut, check_left
from p2pxfer.core.session.transferwire import Holes
from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.holes import judge
from p2pxfer.core.transfer.inflow import Inflow
from p2pxfer.core.transfer.ranges import RangeSet
from p2pxfer.core.transfer.receiveeffect import StoreHole
from p2pxfer.core.transfer.receivestate import Path
from p2pxfer.errors import ChunkRefused


def take_holes(
    path: int, state: Path, holes: Holes, flow: Inflow, files: int, wanted: Callable[[range], bool]
) -> list[StoreHole]:
    """Holes in the first ``files`` files, as they are told on ``path``: which are to be stored, of the chunks that are
    ``wanted``; the others are acknowledged, now or, where they are being stored already, by :func:`hole_stored`.

    Raises:
        ChunkRefused: they are not part of these files.
        ProtocolBreach: too many.
    """
    if any(file >= files for file, _, _ in holes.chunks):
        raise ChunkRefused("holes are told of files that are not part of what was listed")
    state.told = judge(flow.table, holes, state.told)
    found: list[StoreHole] = []
    for file, start, stop in holes.chunks:
        first, end = flow.table.file_range(file)
        if not wanted(range(first, end)):
            state.acks.add(first + start, first + stop)
            continue
        here, missing = flow.hole(file, start, stop)
        for span in here:
            state.acks.add(*span)
        dealt_with = RangeSet([*here, *((first + begin, first + behind) for begin, behind in missing)])
        for span in dealt_with.missing(first + start, first + stop):
            state.awaited.add(*span)
        found += [StoreHole(path, file, *run) for run in missing]
    return found


def hole_stored(numbers: range, paths: Iterable[Path]) -> range:
    """These chunks of a hole are here: acknowledge them on each path that awaits that; the same numbers."""
    for state in paths:
        for span in list(state.awaited.overlap(numbers.start, numbers.stop)):
            state.acks.add(*span)
            state.awaited.remove(*span)
    return numbers


def take_left(state: Path, message: LeftOut, table: ChunkTable, files: int) -> None:
    """Of the first ``files`` files, which were listed on this path, its Final is not about these.

    Raises:
        ProtocolBreach: they were not listed, or are too many.
    """
    left = check_left(message.files, files)
    state.leaves_out(left)
    for file in left:
        table.pass_over(file)
