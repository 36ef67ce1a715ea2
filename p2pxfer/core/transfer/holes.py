"""The sender's account of holes: chunks of sparse files in which no data lies, which are told and not sent.

Laws:

- A hole is a whole chunk.  Its hash is that of as many zeros, which both ends compute.
- What was told on a path that is lost, and not acknowledged, is told again on another one.
- Every path is told which files are sparse before anything else, so that the receiver can keep the smaller holes too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct, field

from p2pxfer.core.session.transferwire import Holes
from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.ranges import Range, RangeSet
from p2pxfer.core.transfer.sendeffect import Send
from p2pxfer.errors import ChunkRefused, ProtocolBreach

Run = tuple[int, int, int]
"""(file, first, behind last)."""
HolesByFile = Mapping[int, Sequence[Range]]
"""File index -> ranges of chunks in which no data lies; a sparse file without any has an empty sequence."""
RUNS_PER_MESSAGE = 1024
CHUNKS_PER_MESSAGE = 65_536
"""Most chunks that one message may tell: they have to be remembered before the sender can be made to wait."""


def judge(table: ChunkTable, holes: Holes, before: int) -> int:
    """How many chunks of ``table`` a path tells to be holes with this message; ``before``: without it.

    They cost the sender nothing and the receiver some work each.

    Raises:
        ChunkRefused: they are not part of their files.
        ProtocolBreach: too many for one message, or for the transfer.
    """
    told = 0
    for file, start, stop in holes.chunks:
        first, end = table.file_range(file)
        if not start <= stop <= end - first:
            raise ChunkRefused("the sender tells of holes that are not part of the file")
        told += stop - start
    if told > CHUNKS_PER_MESSAGE:
        raise ProtocolBreach("the sender tells of too many holes at once")
    if before + told > table.total:
        raise ProtocolBreach("the sender tells of more holes than there are chunks")
    return before + told


def _portions(runs: list[Run]) -> Iterator[list[Run]]:
    """The runs in lists that fit into one message each."""
    part: list[Run] = []
    told = 0
    for run in runs:
        told += run[2] - run[1]
        if len(part) == RUNS_PER_MESSAGE or told > CHUNKS_PER_MESSAGE:
            yield part
            part, told = [], run[2] - run[1]
        part.append(run)
    if part:
        yield part


class _Told(Struct):
    """What one path was told: chunks, and how many of the sparse files."""

    chunks: RangeSet = field(default_factory=RangeSet)
    files: int = 0


class HoleTeller:
    """The holes of the files of ``table``, whose hashes are put into it."""

    def __init__(self, handle: int, table: ChunkTable, holes: HolesByFile) -> None:
        self._handle = handle
        self._table = table
        self._sparse: list[int] = []
        self._holes = RangeSet()
        self._told: dict[int, _Told] = {}
        self._files = 0
        self._untold = True
        """Whether a hole may have to be told: looking for them at every turn would cost more than sending."""
        self.bytes = 0
        """How much the holes hold."""
        self.grow(holes)

    def grow(self, holes: HolesByFile) -> None:
        """Take in those of files that were listed since."""
        for file in sorted(holes):
            self._sparse.append(file)
            first, _ = self._table.file_range(file)
            for start, stop in holes[file]:
                self._take_in(first + start, first + stop)

    def _take_in(self, start: int, stop: int) -> None:
        self._table.set_zeros(start, stop)
        self._holes.add(start, stop)
        self.bytes += self._table.bytes_in(start, stop)

    def __contains__(self, number: int) -> bool:
        return number in self._holes

    def give_up(self, number: int) -> None:
        """This chunk is sent like any other from now on."""
        self._holes.remove(number, number + 1)

    def forget(self) -> None:
        """Another process receives now, and was told nothing."""
        self._told.clear()
        self._untold = True

    def lost(self, path: int) -> None:
        """The path is gone."""
        told = self._told.pop(path, None)
        self._untold |= told is not None and told.chunks.total > 0

    def take(self, path: int, settled: Callable[[], RangeSet], files: int) -> list[Send]:
        """What is to be told on ``path`` now, of the first ``files`` files, without the chunks that are ``settled``.

        These are asked for only where a hole may be untold.
        """
        if not self._sparse or self._sparse[0] >= files:
            return []
        runs: list[Run] = []
        told = self._told.setdefault(path, _Told())
        while told.files < len(self._sparse) and self._sparse[told.files] < files:
            runs.append((self._sparse[told.files], 0, 0))
            told.files += 1
        if self._untold or files != self._files:
            self._untold, self._files = False, files
            runs += self._tell(told, settled(), self._table.base(files))
        return [Send(path, Holes(handle=self._handle, chunks=part)) for part in _portions(runs)]

    def _tell(self, told: _Told, settled: RangeSet, limit: int) -> Iterator[Run]:
        others = (each.chunks for each in self._told.values())
        known = RangeSet(sorted(span for spans in (settled, *others) for span in spans))
        fresh = [span for hole in self._holes.overlap(0, limit) for span in known.missing(*hole)]
        told.chunks = RangeSet(sorted([*told.chunks, *fresh]))
        for start, stop in fresh:
            at = start
            while at < stop:
                file, index = self._table.address(at)
                length = min(stop, self._table.file_range(file)[1], at + CHUNKS_PER_MESSAGE) - at
                yield file, index, index + length
                at += length
