"""The sender's account of holes: chunks of sparse files in which no data lies, which are told and not sent.

Laws:

- A hole is a whole chunk.  Its hash is that of as many zeros, which both ends compute.
- What was told on a path that is lost, and not acknowledged, is told again on another one.
- Every path is told which files are sparse before anything else, so that the receiver can keep the smaller holes too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from p2pxfer.core.chunktable import ChunkTable
from p2pxfer.core.geometry import zero_hash
from p2pxfer.core.ranges import Range, RangeSet
from p2pxfer.core.sendeffect import Send
from p2pxfer.core.wire import Holes

HolesByFile = Mapping[int, Sequence[Range]]
"""File index -> ranges of chunks in which no data lies; a sparse file without any has an empty sequence."""
RUNS_PER_MESSAGE = 1024


class HoleTeller:
    """The holes of the files of ``table``, whose hashes are put into it."""

    def __init__(self, handle: int, table: ChunkTable, holes: HolesByFile) -> None:
        self._handle = handle
        self._table = table
        self._sparse = sorted(holes)
        self._holes = RangeSet()
        self._told: dict[int, RangeSet] = {}
        self.bytes = 0
        """How much the holes hold."""
        for file in self._sparse:
            first, _ = table.file_range(file)
            for start, stop in holes[file]:
                self._take_in(first + start, first + stop)

    def _take_in(self, start: int, stop: int) -> None:
        # All chunks of a file but its last one have one length.
        last = self._table.length(self._table.address(stop - 1))
        usual = self._table.length(self._table.address(start))
        self._table.set_hashes(start, stop - 1, zero_hash(usual))
        self._table.set_hashes(stop - 1, stop, zero_hash(last))
        self._holes.add(start, stop)
        self.bytes += usual * (stop - 1 - start) + last

    def __contains__(self, number: int) -> bool:
        return number in self._holes

    def give_up(self, number: int) -> None:
        """This chunk is sent like any other from now on."""
        self._holes.remove(number, number + 1)

    def forget(self) -> None:
        """Another process receives now, and was told nothing."""
        self._told.clear()

    def lost(self, path: int) -> None:
        """The path is gone."""
        self._told.pop(path, None)

    def take(self, path: int, acked: RangeSet) -> list[Send]:
        """What is to be told on ``path`` now."""
        if not self._sparse:
            return []
        runs: list[tuple[int, int, int]] = []
        if path not in self._told:
            self._told[path] = RangeSet()
            runs += [(file, 0, 0) for file in self._sparse]
        runs += self._untold(path, acked)
        parts = [runs[at : at + RUNS_PER_MESSAGE] for at in range(0, len(runs), RUNS_PER_MESSAGE)]
        return [Send(path, Holes(handle=self._handle, chunks=part)) for part in parts]

    def _untold(self, path: int, acked: RangeSet) -> Iterator[tuple[int, int, int]]:
        rest = RangeSet(self._holes)
        for known in (acked, *self._told.values()):
            for start, stop in known:
                rest.remove(start, stop)
        for start, stop in rest:
            self._told[path].add(start, stop)
            at = start
            while at < stop:
                file, index = self._table.address(at)
                length = min(stop, self._table.file_range(file)[1]) - at
                yield file, index, index + length
                at += length
