"""The entries of a file list as bytes, and the judge of their order.  Both are protocol.

An entry (integers big-endian)::

    kind        1   0 file, 1 directory, 2 symbolic link
    length      1   bytes of the name, 1 to 255
    mode        2   the nine permission bits; 0 for a link
    parent      4   0: the entry is at the top; n: it is in the directory that entry number n - 1 describes
    mtime       8   signed; nanoseconds since 1970
    size        8   files only: bytes, below 2**63
    extent      2   links only: bytes of the target, 1 to 4095
    name            one path component, UTF-8, by the rules of p2pxfer.core.transfer.pathrules
    target          links only: UTF-8, by the rule of p2pxfer.core.transfer.pathrules for targets

Laws:

- One entry has one encoding.
- The order is that of a walk: a directory, then all that lies in it, then what comes behind it; in one directory the
  names ascend by their UTF-8 bytes.  So whoever reads needs to remember the directories that are open, no others.
- No two names of one directory have the same :func:`~p2pxfer.core.transfer.pathrules.collision_key`, and hence no two
  paths do.
- Nothing lies in a link, and no link leads out of the top-level directory that it lies in.
"""

from __future__ import annotations

import struct
from typing import Final

from p2pxfer.core.text import safe_text
from p2pxfer.core.transfer.entries import DIRECTORY, FILE, LINK, PERMISSIONS, Entry, Kind
from p2pxfer.core.transfer.pathrules import (
    MAX_DEPTH,
    MAX_PATH,
    SHOWN,
    check_component,
    check_path,
    check_target,
    collision_key,
)
from p2pxfer.errors import LimitReached, ManifestRefused, NameCollision, PathRefused

MAX_ENTRIES: Final = 1_000_000
MAX_TOTAL: Final = 2**63 - 1
"""Largest sum of the sizes of all files, bytes."""

_ENTRY: Final = struct.Struct(">BBHIq")
_SIZE: Final = struct.Struct(">Q")
_EXTENT: Final = struct.Struct(">H")
_KINDS: Final = (FILE, DIRECTORY, LINK)
_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS)}
_MODES: Final = tuple(range(PERMISSIONS + 1))
"""Every mode as one object: a hundred thousand entries share theirs."""


# -- one entry ---------------------------------------------------------------------------------------------------


def pack_entry(entry: Entry, parent: int, name: str) -> bytes:
    """``entry``, which lies in the directory with the number ``parent`` under ``name``, as bytes.

    Raises:
        ManifestRefused: a number is out of bounds.
        PathRefused: a link that may lead out.
    """
    if not -(2**63) <= entry.mtime_ns < 2**63:
        raise ManifestRefused(f"'{safe_text(entry.path, SHOWN)}' has an impossible time of change")
    if not 0 <= entry.size <= (MAX_TOTAL if entry.kind is FILE else 0):
        raise ManifestRefused(f"'{safe_text(entry.path, SHOWN)}' has an impossible size")
    if not 0 <= entry.mode <= (PERMISSIONS if entry.kind is not LINK else 0):
        raise ManifestRefused(f"'{safe_text(entry.path, SHOWN)}' has an impossible mode")
    raw = name.encode()
    head = _ENTRY.pack(_NUMBERS[entry.kind], len(raw), entry.mode, parent, entry.mtime_ns)
    if entry.kind is FILE:
        return head + _SIZE.pack(entry.size) + raw
    if entry.kind is DIRECTORY:
        return head + raw
    check_target(entry.path, entry.target)
    target = entry.target.encode()
    return head + _EXTENT.pack(len(target)) + raw + target


class EntryReader:
    """Entries from ``data``, one after the other; what it has read is in the attributes.

    Nothing but the layout is judged here: names and order belong to :class:`Walk`, targets to whoever knows the path.
    """

    __slots__ = ("_data", "at", "kind", "mode", "mtime_ns", "name", "parent", "size", "target")

    def __init__(self, data: bytes | bytearray, at: int = 0) -> None:
        self._data = data
        self.at = at
        self.kind: Kind = FILE
        self.mode = self.parent = self.mtime_ns = self.size = 0
        self.name = self.target = ""

    def read(self) -> None:
        """The next entry.

        Raises:
            ManifestRefused: it is cut short, or a number is out of bounds.
            PathRefused: a name or target is not UTF-8.
        """
        data = self._data
        try:
            number, length, mode, self.parent, self.mtime_ns = _ENTRY.unpack_from(data, self.at)
            at = self.at + _ENTRY.size
            extent = self.size = 0
            if number == 0:
                self.size = _SIZE.unpack_from(data, at)[0]
                at += _SIZE.size
            elif number == 2:
                extent = _EXTENT.unpack_from(data, at)[0]
                at += _EXTENT.size
            elif number > 2:
                raise ManifestRefused(f"an entry is of the unknown kind {number}")
        except struct.error:
            raise ManifestRefused("the file list is cut short") from None
        if mode > (PERMISSIONS if number < 2 else 0):
            raise ManifestRefused(f"an entry has the impossible mode {mode:o}")
        stop = at + length
        if stop + extent > len(data):
            raise ManifestRefused("the file list is cut short")
        self.kind, self.mode = _KINDS[number], _MODES[mode]
        self.name = _text(data[at:stop])
        self.target = _text(data[stop : stop + extent]) if extent else ""
        self.at = stop + extent


def _text(raw: bytes | bytearray) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise PathRefused(f"the name '{safe_text(raw.decode('latin-1'), SHOWN)}' is not UTF-8") from None


# -- their order -------------------------------------------------------------------------------------------------


class _Open:
    """A directory that more may lie in."""

    __slots__ = ("depth", "keys", "last", "length", "number", "path")

    def __init__(self, number: int, path: str, depth: int) -> None:
        self.number = number
        self.path = path
        self.depth = depth
        self.length = len(path.encode()) + 1 if path else 0
        self.last = ""
        self.keys: dict[str, str] = {}


class Walk:
    """Judges entries as they come; remembers only the directories that are open."""

    def __init__(self) -> None:
        self._open = [_Open(0, "", 0)]
        self.count = 0
        self.total = 0

    def admit(self, kind: Kind, parent: int, name: str, size: int, target: str) -> None:
        """The next entry; after an error nothing may follow.

        Raises:
            ManifestRefused: it is out of order, or the files are too large together.
            PathRefused: its name may not be created everywhere, or it is a link that may lead out.
            NameCollision: its name is another one's on some system, or it lies in something that is no directory.
            LimitReached: too many entries.
        """
        check_component(name)
        if self.count >= MAX_ENTRIES:
            raise LimitReached(f"more than {MAX_ENTRIES} files and directories do not fit in one transfer")
        here = self._open[-1]
        if here.number != parent:
            here = self._leave_for(parent, name)
        _check_new(here, name)
        if here.depth >= MAX_DEPTH or here.length + 4 * len(name) > MAX_PATH:
            check_path(_joined(here, name))
        self.count += 1
        self.total += size
        if self.total > MAX_TOTAL:
            raise ManifestRefused("the files are larger than any disk")
        if kind is DIRECTORY:
            self._open.append(_Open(self.count, _joined(here, name), here.depth + 1))
        elif kind is LINK:
            check_target(_joined(here, name), target)

    def _leave_for(self, parent: int, name: str) -> _Open:
        """Close what is open below the directory ``parent``."""
        shown = safe_text(name, SHOWN)
        if parent > self.count:
            raise ManifestRefused(f"'{shown}' lies in a directory that does not come before it")
        while self._open[-1].number > parent:
            self._open.pop()
        if self._open[-1].number != parent:
            raise NameCollision(f"'{shown}' lies in something that is no directory, or was left already")
        return self._open[-1]


def _joined(directory: _Open, name: str) -> str:
    return f"{directory.path}/{name}" if directory.path else name


def _check_new(here: _Open, name: str) -> None:
    key = collision_key(name)
    if key == name:
        key = name  # one string in memory instead of two
    known = len(here.keys)
    other = here.keys.setdefault(key, name)
    if len(here.keys) == known:
        first, second = (safe_text(_joined(here, each), SHOWN) for each in (other, name))
        raise NameCollision(f"'{first}' and '{second}' are the same name on some systems")
    # Strings sort by code points, which is the order of their UTF-8 bytes.
    if name < here.last:
        raise ManifestRefused("the file list is not sorted")
    here.last = name
