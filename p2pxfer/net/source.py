"""The sender's disk: from paths on the command line to a manifest, and chunks of its files.

Laws:

- The scan opens and looks at everything but reads no content; hashes come while sending.
- A link that the user names is followed, as everywhere; links inside a directory are not, and are listed as skipped.
- Only bytes of the very file that was scanned are ever handed out: device, inode, size and time of change have to be
  the scanned ones before and after each read.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from dataclasses import dataclass, field
from typing import Final

from blake3 import blake3

from p2pxfer.core.geometry import chunk_span
from p2pxfer.core.manifest import DIRECTORY, FILE, MAX_ENTRIES, Entry, Manifest
from p2pxfer.core.pathrules import STAGING_PREFIX, check_path
from p2pxfer.errors import ChunkRefused, LimitReached, SourceChanged, UsageError
from p2pxfer.net.disk import (
    OPEN_DIRECTORY,
    OPEN_INNER_DIRECTORY,
    OPEN_INNER_FILE,
    FdCache,
    disk_error,
    parent_of,
    read_span,
    shown,
)

OPEN_FILES: Final = 64
_OPEN_NAMED: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_ADVICE: Final = "make it readable or leave it out"
_FIELDS: Final = 5
# The scan could open it, so these tell of something else in its place.
_REPLACED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES})
_KINDS: Final = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one state of one file from every other."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """The identity in a stat result."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(slots=True)
class _Found:
    """What a scan has found so far; identities by path until the manifest gives the files their order."""

    entries: list[Entry] = field(default_factory=list)
    identities: dict[str, tuple[int, ...]] = field(default_factory=dict)
    tops: dict[str, bytes] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def add_file(self, path: str, status: os.stat_result) -> None:
        executable = bool(status.st_mode & 0o111)
        self._add(Entry(path, FILE, status.st_size, status.st_mtime_ns, executable))
        each = Identity.of(status)
        self.identities[path] = (each.dev, each.ino, each.size, each.mtime_ns, each.ctime_ns)

    def add_directory(self, path: str, status: os.stat_result) -> None:
        self._add(Entry(path, DIRECTORY, 0, status.st_mtime_ns))

    def _add(self, entry: Entry) -> None:
        check_path(entry.path)
        if len(self.entries) >= MAX_ENTRIES:
            raise LimitReached(f"more than {MAX_ENTRIES} files and directories do not fit in one transfer")
        self.entries.append(entry)


class Source:
    """The files of one transfer; made by :meth:`scan`.  Blocking; :meth:`read_chunk` may run in several threads."""

    def __init__(self, found: _Found) -> None:
        self.manifest = Manifest(found.entries)
        self.skipped = found.skipped
        """What was left out inside directories: path and reason, ready to be shown."""
        self._tops = found.tops
        self._identities = array("q")
        for entry in self.manifest.files:
            self._identities.extend(map(_signed, found.identities[entry.path]))
        self._files = FdCache(OPEN_FILES, self._open)

    @classmethod
    def scan(cls, paths: list[str]) -> Source:
        """Files and directories as the user named them; each appears under its own last name.

        Raises:
            UsageError: missing, not a file or directory, or two with one name.
            PathRefused: a name that cannot be created everywhere, or is not UTF-8.
            NameCollision: two names that are one on some systems.
            LimitReached: too many entries.
            DiskError: something cannot be read.
        """
        found = _Found()
        for path in paths:
            _scan_named(path, found)
        if not found.entries:
            raise UsageError("there is nothing to send")
        return cls(found)

    def identity(self, file: int) -> Identity:
        """What the scan saw of a file."""
        return Identity(*(number & _mask(at) for at, number in enumerate(self._numbers(file))))

    def _numbers(self, file: int) -> array[int]:
        return self._identities[file * _FIELDS : (file + 1) * _FIELDS]

    def read_chunk(self, file: int, index: int) -> tuple[bytes, bytes]:
        """A chunk and its BLAKE3 hash.

        Raises:
            ChunkRefused: there is no such chunk.
            SourceChanged: the file is not what it was when it was scanned.
            DiskError: it cannot be read.
        """
        if not 0 <= file < len(self.manifest.files):
            raise ChunkRefused(f"file {file} is not part of the transfer")
        entry = self.manifest.files[file]
        offset, length = chunk_span(entry.size, index)
        identity = self.identity(file)
        try:
            with self._files.lease(file) as fd:
                self._check(fd, identity, entry)
                data = read_span(fd, offset, length)
                self._check(fd, identity, entry)
        except OSError as error:
            raise disk_error(error, f"reading {shown(entry.path)}", "run the command again to go on") from error
        if len(data) != length:
            raise _changed(entry.path)
        return data, blake3(data).digest()

    def _check(self, fd: int, identity: Identity, entry: Entry) -> None:
        # The time of status too, though links and modes change it: whoever rewrites a file can set the other one back.
        if Identity.of(os.fstat(fd)) != identity:
            raise _changed(entry.path)

    def _open(self, file: int) -> int:
        path = self.manifest.files[file].path
        top, _, rest = path.partition("/")
        try:
            if not rest:
                return os.open(self._tops[top], _OPEN_NAMED)
            root = os.open(self._tops[top], OPEN_DIRECTORY)
            try:
                with parent_of(root, rest) as (parent, name):
                    return os.open(name, os.O_RDONLY | OPEN_INNER_FILE, dir_fd=parent)
            finally:
                os.close(root)
        except OSError as error:
            if error.errno in _REPLACED:
                raise _changed(path) from error
            raise

    def close(self) -> None:
        """Close all files; no read may be under way."""
        self._files.close()


def _changed(path: str) -> SourceChanged:
    return SourceChanged(
        f"{shown(path)} changed while it was being sent; run the command again to send it as it is now"
    )


def _signed(number: int) -> int:
    """Device and inode are unsigned 64 bits, the array holds signed ones."""
    return number - 2**64 if number >= 2**63 else number


def _mask(at: int) -> int:
    return 2**64 - 1 if at < 2 else -1


# -- the scan ----------------------------------------------------------------------------------------------------


def _scan_named(path: str, found: _Found) -> None:
    # Joined and not normalised: "link/.." is not where it looks.
    raw = os.path.join(os.getcwdb(), os.fsencode(path))  # noqa: PTH109, PTH118  # pathlib takes no bytes
    name = _text(_named(os.fsencode(path)).rpartition(b"/")[2])
    if not name:
        raise UsageError(f"{shown(path)} has no name of its own; name what is in it")
    try:
        kind = os.stat(raw)  # noqa: PTH116  # the same
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{shown(path)} does not exist") from None
    except OSError as error:
        raise disk_error(error, f"looking at {shown(path)}", _ADVICE) from error
    if not stat.S_ISREG(kind.st_mode) and not stat.S_ISDIR(kind.st_mode):
        raise UsageError(f"{shown(path)} is {_kind(kind)}; only files and directories can be sent")
    _check_new(name, path, found)
    found.tops[name] = raw
    try:
        fd = os.open(raw, _OPEN_NAMED)
    except OSError as error:
        raise disk_error(error, f"opening {shown(path)}", _ADVICE) from error
    try:
        status = os.fstat(fd)
        if not os.path.samestat(status, kind):
            raise _changed(path)
        if stat.S_ISDIR(status.st_mode):
            _scan_directory(fd, name, status, found)
        else:
            found.add_file(name, status)
    finally:
        os.close(fd)


def _named(path: bytes) -> bytes:
    """The path whose last component is the name: a directory named as ``.`` or ``..`` has one elsewhere."""
    path = path.rstrip(b"/") or b"/"
    last = path.rpartition(b"/")[2]
    return os.path.realpath(path) if last in {b".", b".."} else path


def _check_new(name: str, path: str, found: _Found) -> None:
    if name in found.tops:
        raise UsageError(
            f"{shown(path)} and {shown(os.fsdecode(found.tops[name]))} have the same name; send them apart"
        )


def _scan_directory(fd: int, path: str, status: os.stat_result, found: _Found) -> None:
    found.add_directory(path, status)
    try:
        with os.scandir(fd) as listing:
            names = sorted(os.fsencode(each.name) for each in listing)
    except OSError as error:
        raise disk_error(error, f"listing {shown(path)}", _ADVICE) from error
    for raw in names:
        name = _text(raw)
        inner = f"{path}/{name}"
        if name.startswith(STAGING_PREFIX):
            found.skipped.append(f"{shown(inner)}: a transfer that is being received")
            continue
        try:
            _scan_inner(fd, raw, inner, found)
        except OSError as error:
            raise disk_error(error, f"opening {shown(inner)}", _ADVICE) from error


def _scan_inner(directory: int, raw: bytes, path: str, found: _Found) -> None:
    kind = os.stat(raw, dir_fd=directory, follow_symlinks=False)
    is_directory = stat.S_ISDIR(kind.st_mode)
    if not is_directory and not stat.S_ISREG(kind.st_mode):
        found.skipped.append(f"{shown(path)}: {_kind(kind)}")
        return
    flags = OPEN_INNER_DIRECTORY if is_directory else os.O_RDONLY | OPEN_INNER_FILE
    check_path(path)
    fd = os.open(raw, flags, dir_fd=directory)
    try:
        status = os.fstat(fd)
        if not os.path.samestat(status, kind):
            raise _changed(path)
        if is_directory:
            _scan_directory(fd, path, status, found)
        else:
            found.add_file(path, status)
    finally:
        os.close(fd)


def _text(raw: bytes) -> str:
    """The name as text; bytes that are not UTF-8 become lone surrogates, which the judge of names refuses."""
    return raw.decode("utf-8", "surrogateescape")


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "neither a file nor a directory")
