"""The manifest: what a transfer consists of.  Its bytes are protocol, and SHA-256 of them is the transfer's id.

Layout (integers big-endian)::

    magic       8   "P2PXMAN" and the version, one byte 0x01
    count       4   number of entries, 1 to 1,000,000
    entries         in ascending order of their paths' UTF-8 bytes, no path twice

    entry:
    kind        1   0 file, 1 directory, 2 symbolic link
    length      1   bytes of the name, 1 to 255
    mode        2   the nine permission bits; 0 for a link
    parent      4   0: the entry is at the top; n: it is in the directory that entry number n - 1 describes
    mtime       8   signed; nanoseconds since 1970
    size        8   files only: bytes, below 2**63
    extent      2   links only: bytes of the target, 1 to 4095
    name            one path component, UTF-8, by the rules of p2pxfer.core.pathrules
    target          links only: UTF-8, by the rule of p2pxfer.core.pathrules for targets

Laws:

- One manifest has one encoding: everything in it is fixed by the entries, and nothing else decodes.
- Every directory that an entry lies in is an entry itself.
- No two paths have the same :func:`~p2pxfer.core.pathrules.collision_key`.
- Nothing lies in a link, and no link leads out of the top-level directory that it lies in.
- What was decoded obeys every rule; there is no half-checked manifest.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

from p2pxfer.core.entries import DIRECTORY, FILE, LINK, PERMISSIONS, Entry, Kind
from p2pxfer.core.pathrules import (
    MAX_DEPTH,
    MAX_PATH,
    check_component,
    check_path,
    check_target,
    collision_key,
)
from p2pxfer.core.text import safe_text
from p2pxfer.errors import LimitReached, ManifestRefused, NameCollision, PathRefused

__all__ = [
    "DIRECTORY", "FILE", "LINK", "MAX_ENTRIES", "MAX_MANIFEST", "MAX_TOTAL", "PERMISSIONS", "Entry", "Kind", "Manifest",
    "encode_entries",
]  # fmt: skip

MAX_ENTRIES: Final = 1_000_000
MAX_MANIFEST: Final = 64 * 1024 * 1024
"""Largest encoded manifest, bytes."""
MAX_TOTAL: Final = 2**63 - 1
"""Largest sum of the sizes of all files, bytes."""

_MAGIC: Final = b"P2PXMAN\x01"
_HEAD: Final = struct.Struct(">8sI")
_ENTRY: Final = struct.Struct(">BBHIq")
_SIZE: Final = struct.Struct(">Q")
_EXTENT: Final = struct.Struct(">H")
_FILE: Final = 0
_DIRECTORY: Final = 1
_LINK: Final = 2
_SHOWN: Final = 200


_MODES: Final = tuple(range(PERMISSIONS + 1))
"""Every mode as one object: a hundred thousand entries share theirs."""


class Manifest:
    """A valid manifest; equal if the bytes are equal."""

    __slots__ = ("_encoded", "_entries", "_files", "_id", "_total")

    def __init__(self, entries: Iterable[Entry]) -> None:
        """From entries in any order.

        Raises:
            ManifestRefused: numbers, kinds or missing directories.
            PathRefused: a name that may not be created everywhere.
            NameCollision: two names that are one on some file system.
            LimitReached: too many entries, or too large.
        """
        self._set(encode_entries(entries))

    @classmethod
    def decode(cls, encoded: bytes) -> Manifest:
        """From the bytes of :meth:`encode`; takes only what :meth:`encode` gives.

        Raises:
            ManifestRefused: not a manifest, or not the one encoding.
            PathRefused: a name that may not be created everywhere.
            NameCollision: two names that are one on some file system.
            LimitReached: too many entries, or too large.
        """
        manifest = cls.__new__(cls)
        manifest._set(bytes(encoded))
        return manifest

    def _set(self, encoded: bytes) -> None:
        self._entries = tuple(_decode(encoded))
        self._encoded = encoded
        self._files = tuple(entry for entry in self._entries if entry.kind is FILE)
        self._total = sum(entry.size for entry in self._files)
        self._id = hashlib.sha256(encoded).digest()

    def __eq__(self, other: object) -> bool:
        return self._encoded == other._encoded if isinstance(other, Manifest) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"<Manifest {self._id.hex()[:16]}: {len(self._entries)} entries, {self._total} bytes>"

    def encode(self) -> bytes:
        """The one encoding."""
        return self._encoded

    @property
    def transfer_id(self) -> bytes:
        """SHA-256 of the encoding, 32 bytes."""
        return self._id

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries in order; a directory comes before what lies in it."""
        return self._entries

    @property
    def files(self) -> tuple[Entry, ...]:
        """The files in order; a file's index is its position here."""
        return self._files

    @property
    def total_bytes(self) -> int:
        """Sum of the sizes of all files."""
        return self._total

    @property
    def top_names(self) -> list[str]:
        """The names at the top, in order: what the user sees arrive."""
        return [entry.path for entry in self._entries if "/" not in entry.path]


def _path_of(entry: Entry) -> str:
    # Strings sort by code points, which is the order of their UTF-8 bytes.
    return entry.path


# -- to bytes ----------------------------------------------------------------------------------------------------


def encode_entries(entries: Iterable[Entry]) -> bytes:
    """The encoding of a manifest of ``entries``, which :meth:`Manifest.decode` has still to judge.

    Raises:
        P2pxferError: as :class:`Manifest`.
    """
    return _encode(sorted(entries, key=_path_of))


def _encode(entries: list[Entry]) -> bytes:
    if len(entries) > MAX_ENTRIES:
        raise LimitReached(f"{len(entries)} files and directories; at most {MAX_ENTRIES} fit in one transfer")
    places: dict[str, int] = {}
    pieces = [_HEAD.pack(_MAGIC, len(entries))]
    for number, entry in enumerate(entries, 1):
        parent, slash, name = entry.path.rpartition("/")
        if parent in places:
            check_component(name)  # the rest was judged with the parent, depth and length are when it is read again
        else:
            check_path(entry.path)
            if slash:
                raise _orphan(entry.path, parent, entries)
        if entry.kind is DIRECTORY:
            places.setdefault(entry.path, number)
        pieces.append(_encode_entry(entry, places[parent] if slash else 0, name.encode()))
    encoded = b"".join(pieces)
    _check_length(len(encoded))
    return encoded


def _encode_entry(entry: Entry, parent: int, name: bytes) -> bytes:
    if not -(2**63) <= entry.mtime_ns < 2**63:
        raise ManifestRefused(f"'{safe_text(entry.path, _SHOWN)}' has an impossible time of change")
    if not 0 <= entry.size <= (MAX_TOTAL if entry.kind is FILE else 0):
        raise ManifestRefused(f"'{safe_text(entry.path, _SHOWN)}' has an impossible size")
    if not 0 <= entry.mode <= (PERMISSIONS if entry.kind is not LINK else 0):
        raise ManifestRefused(f"'{safe_text(entry.path, _SHOWN)}' has an impossible mode")
    if entry.kind is FILE:
        head = _ENTRY.pack(_FILE, len(name), entry.mode, parent, entry.mtime_ns)
        return head + _SIZE.pack(entry.size) + name
    if entry.kind is DIRECTORY:
        return _ENTRY.pack(_DIRECTORY, len(name), entry.mode, parent, entry.mtime_ns) + name
    check_target(entry.path, entry.target)
    target = entry.target.encode()
    return _ENTRY.pack(_LINK, len(name), 0, parent, entry.mtime_ns) + _EXTENT.pack(len(target)) + name + target


def _orphan(path: str, parent: str, entries: list[Entry]) -> ManifestRefused:
    shown = safe_text(path, _SHOWN)
    if any(entry.path == parent for entry in entries):
        return NameCollision(f"'{safe_text(parent, _SHOWN)}' is no directory, so '{shown}' cannot lie in it")
    return ManifestRefused(f"the directory of '{shown}' is not in the manifest")


# -- from bytes --------------------------------------------------------------------------------------------------


def _check_length(length: int) -> None:
    if length > MAX_MANIFEST:
        raise LimitReached(f"the manifest has {length} bytes; at most {MAX_MANIFEST} are allowed")


def _decode(data: bytes) -> list[Entry]:
    _check_length(len(data))
    if len(data) < _HEAD.size:
        raise ManifestRefused("the manifest is cut short")
    magic, count = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ManifestRefused("this is not a manifest of a known version")
    if count > MAX_ENTRIES:
        raise LimitReached(f"the manifest has {count} entries; at most {MAX_ENTRIES} are allowed")
    if count == 0:
        raise ManifestRefused("the manifest is empty")
    try:
        return _Decoder(data).entries(count)
    except (struct.error, IndexError):
        raise ManifestRefused("the manifest is cut short") from None


class _Decoder:
    """One pass over the entries; what it remembers is for the rules that concern several of them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = _HEAD.size
        self._entries: list[Entry] = []
        self._depths: dict[int, int] = {}
        self._lengths: dict[int, int] = {}
        self._keys: dict[str, int] = {}
        self._last = ""
        self._total = 0

    def entries(self, count: int) -> list[Entry]:
        for number in range(1, count + 1):
            entry = self._entry(number)
            self._check_order(entry.path)
            self._entries.append(entry)
        if self._at != len(self._data):
            raise ManifestRefused("bytes follow the end of the manifest")
        return self._entries

    def _entry(self, number: int) -> Entry:
        kind, length, mode, parent, mtime = _ENTRY.unpack_from(self._data, self._at)
        self._at += _ENTRY.size
        if kind > _LINK:
            raise ManifestRefused(f"an entry is of the unknown kind {kind}")
        if mode > (0 if kind == _LINK else PERMISSIONS):
            raise ManifestRefused(f"an entry has the impossible mode {mode:o}")
        if kind == _FILE:
            size = self._size()
            return Entry(self._path(number, parent, length, False), FILE, size, mtime, _MODES[mode])
        if kind == _DIRECTORY:
            return Entry(self._path(number, parent, length, True), DIRECTORY, 0, mtime, _MODES[mode])
        extent: int = _EXTENT.unpack_from(self._data, self._at)[0]
        self._at += _EXTENT.size
        path = self._path(number, parent, length, False)
        return Entry(path, LINK, 0, mtime, 0, self._target(path, extent))

    def _target(self, path: str, extent: int) -> str:
        raw = self._data[self._at : self._at + extent]
        if len(raw) < extent:
            raise ManifestRefused("the manifest is cut short")
        self._at += extent
        try:
            target = raw.decode()
        except UnicodeDecodeError:
            raise PathRefused(f"the target of '{safe_text(path, _SHOWN)}' is not UTF-8") from None
        check_target(path, target)
        return target

    def _size(self) -> int:
        size: int = _SIZE.unpack_from(self._data, self._at)[0]
        self._at += _SIZE.size
        self._total += size
        if self._total > MAX_TOTAL:
            raise ManifestRefused("the files are larger than any disk")
        return size

    def _path(self, number: int, parent: int, length: int, is_directory: bool) -> str:
        stop = self._at + length
        raw = self._data[self._at : stop]
        if len(raw) < length:
            raise ManifestRefused("the manifest is cut short")
        self._at = stop
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise PathRefused(f"the name '{safe_text(raw.decode('latin-1'), _SHOWN)}' is not UTF-8") from None
        check_component(name)
        depth = 1
        if parent:
            if parent not in self._depths:
                raise self._no_parent(number, parent, name)
            depth += self._depths[parent]
            length += self._lengths[parent] + 1
            name = f"{self._entries[parent - 1].path}/{name}"
            if depth > MAX_DEPTH or length > MAX_PATH:
                check_path(name)
        if is_directory:
            self._depths[number] = depth
            self._lengths[number] = length
        return name

    def _no_parent(self, number: int, parent: int, name: str) -> ManifestRefused:
        shown = safe_text(name, _SHOWN)
        if parent < number:
            file = safe_text(self._entries[parent - 1].path, _SHOWN)
            return NameCollision(f"'{file}' is no directory, so '{shown}' cannot lie in it")
        return ManifestRefused(f"'{shown}' lies in a directory that does not come before it")

    def _check_order(self, path: str) -> None:
        if path < self._last:
            raise ManifestRefused("the manifest is not sorted")
        self._last = path
        key = collision_key(path)
        if key == path:
            key = path  # one string in memory instead of two
        other = self._keys.setdefault(key, len(self._entries))
        if other != len(self._entries):
            first, second = safe_text(self._entries[other].path, _SHOWN), safe_text(path, _SHOWN)
            raise NameCollision(f"'{first}' and '{second}' are the same name on some systems")
