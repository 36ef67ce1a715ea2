"""What of a file an older version holds already: blocks cut by content, and chunks made of them.

The receiver cuts its older version into blocks where the content says so (FastCDC, see ``docs/protocol.rst``) and tells
their hashes.  The sender cuts the new one in the same way; an insertion moves the cuts along, so blocks on either side
of it are the same.

Laws of this file:

1. Nothing is believed: a chunk that is made of a patch counts only if its hash is the one that came with it, as a whole
   chunk's.  A hash that lies, of a block or of a version that has changed meanwhile, costs bytes and never content.
2. Every chunk is sent as a patch until the receiver lacks it, then whole.  A patch can have gone out more than once, on
   several paths, before that; each of them may be lacked, and only the first such answer changes anything.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct, field

from p2pxfer.core.session.deltawire import BLOCK_HASH, LITERAL, Basis, Lack, Older, Op
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.errors import ChunkRefused, ProtocolBreach

MIN_SIZE: Final = 128 * 1024
"""Smaller files are sent whole, bytes."""
MIN_AVERAGE: Final = 8 * 1024
MAX_AVERAGE: Final = 4 * 1024 * 1024
USUAL_BLOCKS: Final = 32 * 1024
"""About as many blocks a file has at most until they have reached the largest size."""
MAX_BLOCKS: Final = 512 * 1024
"""Most blocks of one older version: what comes behind them is not used."""
Blocks = tuple[int, bytes]
"""Of an older version: the average size of its blocks, and their hashes, one behind the other."""
ALL_BLOCKS: Final = 2 * MAX_BLOCKS
"""Most blocks that either side remembers of all files of a transfer."""
ASKED_AHEAD: Final = 4
"""Older versions whose hashes are asked for at the same time."""


def average_block(size: int) -> int:
    """The average size of blocks for the larger one of two versions, a power of two."""
    rounded = 1 << max(0, -(-size // USUAL_BLOCKS) - 1).bit_length()
    return min(max(rounded, MIN_AVERAGE), MAX_AVERAGE)


class Layout:
    """Where the blocks of a file are: they follow each other without a gap; ``mark`` is a number for each."""

    def __init__(self) -> None:
        self._ends = array("Q")
        self._marks = array("q")

    @property
    def size(self) -> int:
        """Octets up to the end of the last block."""
        return self._ends[-1] if self._ends else 0

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, length: int, mark: int = 0) -> None:
        """The next block."""
        self._ends.append(self.size + length)
        self._marks.append(mark)

    def start(self, number: int) -> int:
        """Where block ``number`` begins."""
        return self._ends[number - 1] if number else 0

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, int, bool]]:
        """What lies from ``offset`` on: mark, octets skipped in that block, octets of it, and whether it goes to the
        block's end.
        """
        number = bisect_right(self._ends, offset)
        while length > 0:
            begin, end = self.start(number), self._ends[number]
            taken = min(length, end - offset)
            yield self._marks[number], offset - begin, taken, offset + taken == end
            offset, length, number = offset + taken, length - taken, number + 1


def operations(layout: Layout, offset: int, length: int) -> list[Op]:
    """How the octets from ``offset`` on consist of older blocks: marks are their numbers, -1 for none."""
    ops: list[Op] = []
    following = -1
    for block, skip, size, whole in layout.pieces(offset, length):
        if block < 0:
            joined = bool(ops) and ops[-1][0] == LITERAL
            first: Op = (LITERAL, 0, 0)
        else:
            joined = bool(ops) and block == following and skip == 0
            first = (block, skip, 0)
        before = ops.pop() if joined else first
        ops.append((before[0], before[1], before[2] + size))
        following = block + 1 if block >= 0 and whole else -1
    return ops


def places(ops: tuple[Op, ...], layout: Layout) -> list[tuple[int, int]]:
    """Where in the older version each operation copies from, -1 for literals, and how many octets.

    Raises:
        ChunkRefused: it has no such block, or ends before.
    """
    found: list[tuple[int, int]] = []
    for block, skip, length in ops:
        if block == LITERAL:
            found.append((-1, length))
            continue
        if block >= len(layout) or (begin := layout.start(block) + skip) + length > layout.size:
            raise ChunkRefused("a patch copies what the older version does not have")
        found.append((begin, length))
    return found


class _Telling(Struct):
    """What was told of one file so far; ``fits`` while there is room to remember it."""

    average: int
    octets: int = 0
    hashes: bytearray = field(default_factory=bytearray)
    fits: bool = True


class Differences:
    """The sender's side of one receiving process: of which files it has older versions, and what they are made of.

    ``tells``: it says so for each page of ``manifest``; ``done``: whether it has a file altogether.
    """

    def __init__(self, manifest: Manifest, *, tells: bool, done: Callable[[int], bool] = lambda file: False) -> None:
        self._manifest = manifest
        self._tells = tells
        self._done = done
        self._remembered = 0
        """Octets of hashes, of all files."""
        self._tells_of_pages = tells
        """False once it was waited for that in vain."""
        self._pages: set[int] = set()
        self._next_page = 0
        self._waiting: dict[int, None] = {}
        self._asked: dict[int, int] = {}
        self._given_up: set[int] = set()
        self._parts: dict[int, _Telling] = {}
        self._whole: set[ChunkAddress] = set()
        self._patched: dict[ChunkAddress, int] = {}
        self._known: dict[int, Blocks] = {}

    def waits_for(self, file: int) -> bool:
        """Whether it has still to be told if there is an older version of ``file``, or the hashes of that."""
        if not self._tells or self._manifest.sizes[file] < MIN_SIZE:
            return False
        unknown = self._tells_of_pages and file >= self._manifest.files_before(self._next_page)
        return file in self._waiting or unknown

    def older(self, message: Older) -> None:
        """The receiver tells of a page.

        Raises:
            ProtocolBreach: it did not say that it would, or names files that are not on that page.
        """
        page, files = message.page, message.files
        if not self._tells or page >= self._manifest.pages:
            raise ProtocolBreach("the receiver tells of older versions of what it was not told of")
        first, stop = self._manifest.files_before(page), self._manifest.files_before(page + 1)
        if files != sorted(set(files)) or not all(first <= file < stop for file in files):
            raise ProtocolBreach("the receiver tells of older versions of other files than those of the page")
        if page >= self._next_page and page not in self._pages and self._tells_of_pages:
            self._waiting.update((file, None) for file in files if self._manifest.sizes[file] >= MIN_SIZE)
            self._pages.add(page)
        while self._next_page in self._pages:
            self._pages.discard(self._next_page)
            self._next_page += 1

    def ask(self, path: int) -> list[int]:
        """Files whose hashes are to be asked for on ``path`` now."""
        if not self._waiting:
            return []
        fresh = [file for file in self._waiting if file not in self._asked][: ASKED_AHEAD - len(self._asked)]
        self._asked.update(dict.fromkeys(fresh, path))
        return fresh

    @property
    def late(self) -> list[int]:
        """Files whose hashes were asked for and have not come."""
        return list(self._asked)

    def give_up(self) -> None:
        """It was waited for too long: the files whose hashes were asked for are sent whole, or else those of pages of
        which nothing was told; what comes later changes nothing.
        """
        if not self._asked:
            self._tells_of_pages = False
        for file in self._asked:
            del self._waiting[file]
            self._forget(self._parts.pop(file, None))
        self._given_up.update(self._asked)
        self._asked.clear()

    def lost(self, path: int) -> None:
        """The path is gone: what was asked for there is asked for again."""
        for file in [file for file, asked in self._asked.items() if asked == path]:
            del self._asked[file]
            self._forget(self._parts.pop(file, None))

    def _forget(self, telling: _Telling | None) -> None:
        """Nothing is remembered of what was told there."""
        if telling is not None:
            self._remembered -= len(telling.hashes)
            telling.hashes.clear()
            telling.fits = False

    def _make_room(self, octets: int) -> bool:
        """Whether so many hashes more may be remembered; those of the oldest files go if these are done."""
        while self._remembered + octets > ALL_BLOCKS * BLOCK_HASH:
            oldest = next(iter(self._known), None)
            if oldest is None or not self._done(oldest):
                return False
            self._remembered -= len(self._known.pop(oldest)[1])
        return True

    def told(self, path: int, basis: Basis) -> None:
        """Hashes came on ``path``.

        Raises:
            ProtocolBreach: nobody asked for them there, or they cannot be hashes of blocks.
        """
        if basis.file in self._given_up:
            return
        if self._asked.get(basis.file) != path:
            raise ProtocolBreach("the receiver tells of an older version that nobody asked for here")
        telling = self._parts.setdefault(basis.file, _Telling(basis.average))
        average = basis.average
        least = average_block(self._manifest.sizes[basis.file])
        if average & (average - 1) or not least <= average <= MAX_AVERAGE or average != telling.average:
            raise ProtocolBreach("the blocks of an older version cannot have that size")
        octets = len(basis.hashes)
        telling.octets += octets
        if octets % BLOCK_HASH or telling.octets > MAX_BLOCKS * BLOCK_HASH or not (octets or basis.last):
            raise ProtocolBreach("the hashes of an older version are not whole, or too many")
        if not (telling.fits and self._make_room(octets)):
            self._forget(telling)
        else:
            telling.hashes += basis.hashes
            self._remembered += octets
        if basis.last:
            del self._waiting[basis.file], self._asked[basis.file], self._parts[basis.file]
            if telling.hashes:
                self._known[basis.file] = (average, bytes(telling.hashes))

    def of(self, address: ChunkAddress) -> Blocks | None:
        """The blocks that the chunk may be made of, always the same object; ``None`` where it is sent whole."""
        return None if address in self._whole else self._known.get(address[0])

    def patched(self, address: ChunkAddress) -> None:
        """The chunk goes out as a patch."""
        self._patched[address] = self._patched.get(address, 0) + 1

    def lacked(self, lack: Lack) -> Iterator[ChunkAddress]:
        """The chunks that are to be sent whole now, and were not before.

        Raises:
            ProtocolBreach: one of them was not sent as a patch, or less often than it is lacked.
        """
        for file, start, stop in lack.chunks:
            for index in range(start, stop):
                address = (file, index)
                left = self._patched.get(address, 0)
                if not left:
                    raise ProtocolBreach("the receiver lacks a chunk that was not a patch")
                self._patched[address] = left - 1
                if address not in self._whole:
                    self._whole.add(address)
                    yield address
