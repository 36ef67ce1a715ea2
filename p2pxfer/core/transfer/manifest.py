"""The manifest: the list of what a transfer consists of, which may grow by pages while the transfer runs.

Its bytes are protocol (integers big-endian)::

    magic       8   "P2PXMAN" and the version, one byte 0x02
    entries         1 to 1,000,000, as in p2pxfer.core.transfer.listcodec

They are cut into pages: each holds as many whole entries as fit into 32,768 bytes, the first one the magic too.

Laws:

- One list has one encoding and one cut.
- The transfer's id is SHA-256 of the first page; the digest of a page is SHA-256 of the list up to its end, so that of
  the last one stands for the whole list.
- What can be read here obeys every rule.  A page that breaks one is not taken, and nothing can follow it.
- Entries are kept as the bytes that travelled and made anew when they are asked for: some 60 bytes a file.
- One thread adds pages and cuts; others may read what was there meanwhile.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, overload

from p2pxfer.core.text import safe_text
from p2pxfer.core.transfer.entries import DIRECTORY, FILE, LINK, PERMISSIONS, Entry, Kind
from p2pxfer.core.transfer.listcodec import MAX_ENTRIES, MAX_TOTAL, EntryReader, Walk
from p2pxfer.core.transfer.pagewriter import MAGIC, PAGE, PageWriter
from p2pxfer.core.transfer.pathrules import SHOWN, check_path
from p2pxfer.errors import LimitReached, ManifestRefused, NameCollision

__all__ = [
    "DIRECTORY", "FILE", "LINK", "MAX_ENTRIES", "MAX_MANIFEST", "MAX_TOTAL", "PAGE", "PERMISSIONS", "Entry", "Kind",
    "Manifest",
]  # fmt: skip

MAX_MANIFEST: Final = 64 * 1024 * 1024
"""Largest encoded manifest, bytes."""

_HASHED_AT_ONCE: Final = 2047
"""Bytes; with more ``hashlib`` lets go of the interpreter's lock, and who wants it back may wait for milliseconds."""


class _Entries(Sequence[Entry]):
    """Entries of a manifest by position; those that are added later appear in it."""

    def __init__(self, count: Callable[[], int], entry: Callable[[int], Entry]) -> None:
        self._count = count
        self._entry = entry

    def __len__(self) -> int:
        return self._count()

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(index, slice):
            return [self._entry(at) for at in range(*index.indices(self._count()))]
        at = index + self._count() if index < 0 else index
        if not 0 <= at < self._count():
            raise IndexError(index)
        return self._entry(at)


class Manifest:
    """A list of entries that obeys every rule; equal if the bytes are equal."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Without entries an empty one that grows; with them, in any order, the whole list of these.

        Raises:
            ManifestRefused: numbers, kinds or missing directories.
            PathRefused: a name that may not be created everywhere.
            NameCollision: two names that are one on some file system.
            LimitReached: too many entries, or too large.
        """
        self.sizes = array("q")
        """The size of each file in bytes; not to be changed."""
        self._tops = array("I")
        self.total_bytes = 0
        """Sum of the sizes of all files."""
        self.complete = False
        """Whether no further page follows; whoever finds out otherwise may change it."""
        self.whole_pages: dict[int, bytes] = {}
        """What tables of its chunks share, see :class:`~p2pxfer.core.transfer.hashpages.HashPages`."""
        self._clear()
        ordered = sorted(entries, key=_steps)
        if ordered:
            _check_parents(ordered)
            writer = PageWriter()
            for entry in ordered:
                for page in writer.add(entry):
                    self.add(page, more=True)
            self.add(writer.rest(), more=False)

    def _clear(self) -> None:
        self._data = bytearray()
        self._offsets = array("I")
        self._numbers = array("I")
        self._ends: list[tuple[int, int, int]] = [(0, 0, 0)]
        self._digests: list[bytes] = []
        self._digest = hashlib.sha256()
        self._walk = Walk()
        self._directory = (-1, "")
        self.sizes = array("q")
        self._tops = array("I")
        self.total_bytes = 0
        self.complete = False

    @classmethod
    def decode(cls, encoded: bytes) -> Manifest:
        """From the bytes of :meth:`encode`; takes only what :meth:`encode` gives.

        Raises:
            P2pxferError: as for :meth:`add`.
        """
        _check_length(len(encoded))
        manifest = cls()
        at, reader = 0, EntryReader(encoded, _start(encoded, 0))
        while True:
            stop = reader.at
            more = stop < len(encoded)
            if more:
                reader.read()
            if not more or reader.at - at > PAGE:
                manifest.add(encoded[at:stop], more=more)
                at = stop
            if not more:
                return manifest

    # -- growing -------------------------------------------------------------------------------------------------

    def add(self, page: bytes, *, more: bool) -> None:
        """Take the next page; ``more``: others follow.

        Raises:
            ManifestRefused: not a page, not the next one, or not the one encoding.
            PathRefused: a name that may not be created everywhere.
            NameCollision: two names that are one on some file system.
            LimitReached: too many entries, or too large.
        """
        if self.complete:
            raise ManifestRefused("a page follows the end of the file list")
        _check_length(len(self._data) + len(page))
        if len(page) > PAGE:
            raise ManifestRefused(f"a page of the file list has {len(page)} bytes; at most {PAGE} are allowed")
        reader = EntryReader(page, _start(page, self.pages))
        if reader.at == len(page):
            raise ManifestRefused("a page of the file list is empty")
        offsets, numbers = array("I"), array("I")
        sizes, tops = array("q"), array("I")
        base, walk = len(self._data), self._walk
        while reader.at < len(page):
            offsets.append(base + reader.at)
            reader.read()
            if len(offsets) == 1 and self.pages and base - self._ends[-2][2] + reader.at <= PAGE:
                raise ManifestRefused("a page of the file list could have held more")
            if reader.kind is FILE:
                numbers.append(walk.count)
                sizes.append(min(reader.size, MAX_TOTAL))
            if not reader.parent:
                tops.append(walk.count)
            walk.admit(reader.kind, reader.parent, reader.name, reader.size, reader.target)
        self._data += page
        for at in range(0, len(page), _HASHED_AT_ONCE):
            self._digest.update(page[at : at + _HASHED_AT_ONCE])
        self.total_bytes += sum(sizes)
        self._tops.extend(tops)
        self._offsets.extend(offsets)
        self._numbers.extend(numbers)
        self.sizes.extend(sizes)
        self._digests.append(self._digest.digest())
        self._ends.append((len(self._offsets), len(self._numbers), len(self._data)))
        self.complete = not more

    def cut(self, pages: int) -> None:
        """Forget all but the first ``pages`` pages; no other thread may read meanwhile."""
        kept = [self.page(number) for number in range(pages)]
        self._clear()
        for page in kept:
            self.add(page, more=True)

    # -- pages ---------------------------------------------------------------------------------------------------

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return len(self._digests)

    def page(self, number: int) -> bytes:
        """The bytes of a page."""
        return bytes(self._data[self._ends[number][2] : self._ends[number + 1][2]])

    def digest(self, number: int = -1) -> bytes:
        """SHA-256 (32 bytes) of the list up to the end of page ``number``, the last one if negative."""
        return self._digests[number]

    def files_before(self, page: int) -> int:
        """How many files the pages before ``page`` list."""
        return self._ends[page][1]

    def entries_of(self, page: int) -> Iterator[Entry]:
        """The entries of one page, in order."""
        return map(self._entry, range(self._ends[page][0], self._ends[page + 1][0]))

    def run_of_files(self, start: int, stop: int) -> Iterator[Entry]:
        """The files from ``start`` to before ``stop``, one after the other, which is quicker than one by one."""
        return self._run_of(self._numbers[start:stop])

    def in_order(self) -> Iterator[Entry]:
        """All entries that are there now, likewise."""
        return self._run_of(range(len(self._offsets)))

    def _run_of(self, numbers: Iterable[int]) -> Iterator[Entry]:
        reader, number, directory = EntryReader(self._data), 0, ""
        for position in numbers:
            reader.at = self._offsets[position]
            reader.read()
            if reader.parent != number:
                number = reader.parent
                directory = f"{self._path_of(number - 1)}/" if number else ""
            yield Entry(directory + reader.name, reader.kind, reader.size, reader.mtime_ns, reader.mode, reader.target)

    def outline(self) -> Iterator[tuple[int, Kind, str]]:
        """(parent, kind, name) of each entry in order: entries are numbered from 1, and 0 is above the tops."""
        reader = EntryReader(self._data)
        for offset in self._offsets:
            reader.at = offset
            reader.read()
            yield reader.parent, reader.kind, reader.name

    # -- all of it -----------------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        return (self._data, self.complete) == (other._data, other.complete)

    def __hash__(self) -> int:
        return hash(self.transfer_id)

    def __repr__(self) -> str:
        return f"<Manifest {self.transfer_id.hex()[:16]}: {len(self._offsets)} entries, {self.total_bytes} bytes>"

    def encode(self) -> bytes:
        """The one encoding of what is listed so far."""
        return bytes(self._data)

    @property
    def size(self) -> int:
        """Bytes of :meth:`encode`."""
        return len(self._data)

    @property
    def transfer_id(self) -> bytes:
        """SHA-256 of the first page, 32 bytes."""
        return self._digests[0]

    def tops(self) -> list[Entry]:
        """The entries at the top, in order."""
        return [self._entry(number) for number in self._tops]

    @property
    def top_names(self) -> list[str]:
        """The names at the top, in order: what the user sees arrive."""
        return [entry.path for entry in self.tops()]

    @property
    def entries(self) -> Sequence[Entry]:
        """All entries in order; a directory comes before what lies in it."""
        return _Entries(self._offsets.__len__, self._entry)

    @property
    def files(self) -> Sequence[Entry]:
        """The files in order; a file's index is its position here."""
        return _Entries(self._numbers.__len__, lambda file: self._entry(self._numbers[file]))

    def _entry(self, number: int) -> Entry:
        reader = EntryReader(self._data, self._offsets[number])
        reader.read()
        path = reader.name
        if reader.parent:
            path = f"{self._path_of(reader.parent - 1)}/{path}"
        return Entry(path, reader.kind, reader.size, reader.mtime_ns, reader.mode, reader.target)

    def _path_of(self, number: int) -> str:
        """The path of a directory; that of the last one asked for is remembered, for most questions come in order."""
        known, path = self._directory
        if known == number:
            return path
        path = self._entry_path(number)
        self._directory = (number, path)
        return path

    def _entry_path(self, number: int) -> str:
        names: list[str] = []
        reader = EntryReader(self._data)
        while number >= 0:
            reader.at = self._offsets[number]
            reader.read()
            names.append(reader.name)
            number = reader.parent - 1
        return "/".join(reversed(names))


def _start(page: bytes, pages: int) -> int:
    """Where the entries of a page begin."""
    if pages:
        return 0
    if not page.startswith(MAGIC):
        raise ManifestRefused("this is not a file list of a known version")
    return len(MAGIC)


def _check_length(length: int) -> None:
    if length > MAX_MANIFEST:
        raise LimitReached(f"the file list has {length} bytes; at most {MAX_MANIFEST} are allowed")


def _steps(entry: Entry) -> list[str]:
    # Strings sort by code points, which is the order of their UTF-8 bytes.
    return entry.path.split("/")


def _check_parents(ordered: list[Entry]) -> None:
    """Refuse paths that cannot be, and those whose directory is missing."""
    kinds = {entry.path: entry.kind for entry in ordered}
    for entry in ordered:
        check_path(entry.path)
        parent, slash, _ = entry.path.rpartition("/")
        if slash and kinds.get(parent) is not DIRECTORY:
            shown = safe_text(entry.path, SHOWN)
            if parent in kinds:
                other = safe_text(parent, SHOWN)
                raise NameCollision(f"'{other}' is no directory, so '{shown}' cannot lie in it")
            raise ManifestRefused(f"the directory of '{shown}' is not in the manifest")
