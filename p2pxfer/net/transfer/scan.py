"""What the user named, looked at: every file, directory and link below it, as entries of a manifest.

Laws:

- The scan looks at everything, opens what this user may not be able to read, and reads no content.
- A link that the user names is followed, as everywhere.  A link inside a directory is left out, kept as a link or
  followed, as the user says; what is left out for whatever reason is said.
- Unless links are followed, everything below a named path is reached without one, whatever happens meanwhile.
- Following ends: a directory that is being listed is not entered again.
- What goes between two looks is left out, and said: it was not listed, and directories that change are sent too.
- What this user may not read inside a directory is left out, and ends the sending well for all else; what the user
  named and may not read is an error at once.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Final, Literal

from p2pxfer.core.transfer.manifest import DIRECTORY, FILE, LINK, PERMISSIONS, Entry
from p2pxfer.core.transfer.pathrules import (
    RESERVED,
    STAGING_PREFIX,
    check_component,
    check_path,
    check_target,
    is_reserved,
)
from p2pxfer.core.transfer.ranges import Range
from p2pxfer.errors import DiskError, PathRefused, SourceChanged, UsageError
from p2pxfer.net.disk import OPEN_DIRECTORY, OPEN_INNER_DIRECTORY, OPEN_INNER_FILE, disk_error, shown, stat_or_none
from p2pxfer.net.holes import find_holes, may_be_sparse
from p2pxfer.net.private.keyfile import is_private
from p2pxfer.net.transfer.fileidentity import FIELDS, FileIdentity

Links = Literal["skip", "keep", "follow"]
"""What becomes of symbolic links inside directories."""

OPEN_NAMED: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_ADVICE: Final = "make it readable or leave it out"
_KINDS: Final = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}
_TRANSFER: Final = re.compile(re.escape(STAGING_PREFIX.encode()) + rb"(?:[0-9a-f]{32}|stream-[0-9a-f]{16})")
"""What a directory is called in which a receiver keeps what is under way."""
_TOLD_REFUSED: Final = 5
_MOST_REFUSED: Final = 1000
"""Names that may not be sent: so many are told with their places, so many are counted."""
MOST_SKIPPED: Final = 1000
"""What is left out is told by name up to so many; a tree may hold a million links."""
MOST_DENIED: Final = 1000
"""What may not be read inside directories is left out up to so many; beyond that the user named the wrong ones."""
_DANGLING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def changed(path: str) -> SourceChanged:
    """The error about a file that is not what it was."""
    what = f"{shown(path)} changed while it was being sent"
    return SourceChanged(f"{what}; run the command again to send it as it is now", what)


def removed(path: str) -> SourceChanged:
    """The error about a file that is not there any more."""
    what = f"{shown(path)} was removed or renamed while it was being sent"
    return SourceChanged(f"{what}; bring it back and run the command again to send it from its beginning", what)


class Scan:
    """One pass over everything that was named, in the order of a manifest; each thing appears under its own last name.

    ``tops``: where each top-level name is, absolute.  Of the files that were found so far: their ``identities``, and
    ``holes``, ranges of chunks without data by file index, of those that are sparse.  ``skipped``: what was left out,
    path and reason, ready to be shown, up to :data:`MOST_SKIPPED`, and ``unnamed`` how many more.  ``lacking``: those
    that may be somebody's data with a name of this program.  ``denied``: what this user may not read, path and error.
    ``begun``: whether what was found is being sent already.
    """

    def __init__(self, paths: list[str], links: Links) -> None:
        """Look at what was named, and at nothing below it yet.

        Raises:
            UsageError: missing, not a file or directory, or two with one name.
            DiskError: something cannot be looked at.
        """
        self.tops: dict[str, bytes] = {}
        self.skipped: list[str] = []
        self.unnamed = 0
        self.lacking: list[str] = []
        self.denied: dict[str, DiskError] = {}
        self.identities = array("q")
        self.holes: dict[int, list[Range]] = {}
        self.begun = False
        self._refused: list[str] = []
        """Names that may not be sent: where each is, and why."""
        self._rule = "not every system can hold these names"
        """What they break, all of them."""
        self._links = links
        self._paths = paths
        self._within: set[tuple[int, int]] = set()
        self._kinds: dict[str, os.stat_result] = {}
        for path in paths:
            self._named(path)
        if not self.tops and not self._refused:
            raise UsageError("there is nothing to send")

    def entries(self) -> Generator[Entry]:
        """Everything, one after the other; to be asked for once.  Behind a name that may not be sent comes nothing.

        Raises:
            UsageError: names that cannot be created everywhere or are not UTF-8, each with its place.
            SourceChanged: something was replaced in this moment.
            DiskError: something cannot be read.
        """
        for name in sorted(self.tops):
            try:
                fd = os.open(self.tops[name], OPEN_NAMED)
            except OSError as error:
                raise disk_error(error, f"opening {shown(name)}", _ADVICE) from error
            yield from (entry for entry in self._opened(fd, name, self._kinds[name]) if not self._refused)
        if self._refused:
            raise self._refusal()

    def _named(self, path: str) -> None:
        """One argument of the command."""
        if not path:
            raise UsageError("an empty PATH was given; name a file or directory (in a script: is the variable set?)")
        # Joined and not normalised: "link/.." is not where it looks.
        raw = os.path.join(os.getcwdb(), os.fsencode(path))  # noqa: PTH109, PTH118  # pathlib takes no bytes
        name = _text(_named(os.fsencode(path)).rpartition(b"/")[2])
        if not name:
            raise UsageError(f"{shown(path)} has no name of its own; name what is in it")
        try:
            kind = os.stat(raw)  # noqa: PTH116  # the same
        except (FileNotFoundError, NotADirectoryError):
            from p2pxfer.net.transfer.missing import advice

            raise UsageError(f"{shown(path)} does not exist{advice(self._paths, path)}") from None
        except OSError as error:
            raise disk_error(error, f"looking at {shown(path)}", _ADVICE) from error
        if not stat.S_ISREG(kind.st_mode) and not stat.S_ISDIR(kind.st_mode):
            raise UsageError(f"{shown(path)} is {_kind(kind)}; only files and directories can be sent")
        if stat.S_ISDIR(kind.st_mode) and _holds_key(raw):
            raise UsageError(
                f"{shown(path)} holds the key of a machine, and whoever has that is this machine; not sent"
            )
        if not self._allowed(name, check_path):
            return
        self._check_new(name, path, kind)
        self.tops[name], self._kinds[name] = raw, kind

    def is_there(self, name: str) -> bool:
        """Whether what was named is what it was: a disk may have gone from where it was mounted."""
        try:
            return os.path.samestat(os.stat(self.tops[name]), self._kinds[name])  # noqa: PTH116  # bytes
        except OSError:
            return False

    def _check_new(self, name: str, path: str, kind: os.stat_result) -> None:
        there = self.tops.get(name)
        if there is None:
            return
        with suppress(OSError):  # that one may have gone meanwhile
            if os.path.samestat(os.stat(there), kind):  # noqa: PTH116  # pathlib takes no bytes
                raise UsageError(f"{shown(path)} is named twice")
        raise UsageError(f"{shown(path)} and {shown(os.fsdecode(there))} have the same name; send them apart")

    def _opened(self, fd: int, path: str, kind: os.stat_result) -> Iterator[Entry]:
        """Take what was opened as ``path``, and close it; ``kind`` is what was there a moment before."""
        try:
            status = os.fstat(fd)
            if not os.path.samestat(status, kind):
                raise changed(path)
            if stat.S_ISDIR(status.st_mode):
                yield from self._directory(fd, path, status)
            else:
                if may_be_sparse(status):
                    self.holes[len(self.identities) // FIELDS] = find_holes(fd, status.st_size)
                yield self._file(path, status)
        finally:
            os.close(fd)

    def _file(self, path: str, status: os.stat_result) -> Entry:
        self.identities.extend(FileIdentity.of(status).numbers())
        return Entry(path, FILE, status.st_size, status.st_mtime_ns, status.st_mode & PERMISSIONS)

    def _directory(self, fd: int, path: str, status: os.stat_result) -> Iterator[Entry]:
        if is_private(fd):
            self._skip(f"{shown(path)}: a private directory with the key of a machine in it")
            return
        yield Entry(path, DIRECTORY, 0, status.st_mtime_ns, status.st_mode & PERMISSIONS)
        number = (status.st_dev, status.st_ino)
        self._within.add(number)
        try:
            with os.scandir(fd) as listing:
                names = sorted(os.fsencode(each.name) for each in listing)
        except OSError as error:
            raise disk_error(error, f"listing {shown(path)}", _ADVICE) from error
        for raw in names:
            name = _text(raw)
            inner = f"{path}/{name}"
            if name.startswith(STAGING_PREFIX):
                self._skip_ours(fd, raw, inner)
                continue
            try:
                yield from self._inner(fd, raw, inner)
            except FileNotFoundError:  # of this name only: what lies below says what fails there itself
                self._skip(f"{shown(inner)}: it was gone when it was looked at")
            except PermissionError as error:
                self._deny(inner, disk_error(error, f"opening {shown(inner)}", _ADVICE))
            except OSError as error:
                raise disk_error(error, f"opening {shown(inner)}", _ADVICE) from error
        self._within.discard(number)

    def _inner(self, directory: int, raw: bytes, path: str) -> Iterable[Entry]:
        kind = os.stat(raw, dir_fd=directory, follow_symlinks=False)
        follow = False
        if stat.S_ISLNK(kind.st_mode):
            if self._links == "keep":
                if not self._allowed(path, check_path):
                    return ()
                return self._link(path, kind, _text(os.readlink(raw, dir_fd=directory)))
            if self._links == "follow":
                follow = True
                try:
                    kind = os.stat(raw, dir_fd=directory)
                except OSError as error:
                    if error.errno not in _DANGLING:
                        raise
                    return self._skip(f"{shown(path)}: a symbolic link to nothing")
        is_directory = stat.S_ISDIR(kind.st_mode)
        if is_directory and (kind.st_dev, kind.st_ino) in self._within:
            return self._skip(f"{shown(path)}: a symbolic link to a directory that it lies in")
        if not is_directory and not stat.S_ISREG(kind.st_mode):
            return self._skip(f"{shown(path)}: {_kind(kind)}")
        if not is_directory and _is_plain(kind):
            return (self._file(path, kind),) if self._allowed(path, _check_last) else ()
        if not self._allowed(path, check_path):
            return ()
        flags = OPEN_INNER_DIRECTORY if is_directory else os.O_RDONLY | OPEN_INNER_FILE
        fd = os.open(raw, flags & ~os.O_NOFOLLOW if follow else flags, dir_fd=directory)
        return self._opened(fd, path, kind)

    def _skip(self, what: str) -> Iterable[Entry]:
        if len(self.skipped) < MOST_SKIPPED:
            self.skipped.append(what)
        else:
            self.unnamed += 1
        return ()

    def _skip_ours(self, directory: int, raw: bytes, path: str) -> None:
        """Leave out what has a name of this program."""
        transfer = _is_transfer(directory, raw)
        why = "a transfer that is being received" if transfer else f"{RESERVED}; to send it, rename it"
        self._skip(f"{shown(path)}: {why}")
        if not transfer and not self.unnamed:
            self.lacking.append(self.skipped[-1])

    def _deny(self, path: str, error: DiskError) -> None:
        """This user may not read what is at ``path``.  Raises: DiskError: that is so with too many."""
        if len(self.denied) == MOST_DENIED:
            what = f"{MOST_DENIED} files may not be read, and more: {shown(path)} is the next"
            raise DiskError(f"{what}; {_ADVICE}", what)
        self._skip(f"{shown(path)}: it may not be read")
        self.denied[path] = error

    def _link(self, path: str, status: os.stat_result, target: str) -> Iterable[Entry]:
        """A symbolic link; left out, and said, if its target breaks the rule for targets."""
        try:
            check_target(path, target)
        except PathRefused as error:
            return self._skip(error.message)
        return (Entry(path, LINK, 0, status.st_mtime_ns, 0, target),)

    def _allowed(self, path: str, check: Callable[[str], None]) -> bool:
        """Whether the judge of names takes ``path``; what it refuses is told together, and not looked into."""
        try:
            check(path)
        except PathRefused as error:
            if is_reserved(path.rpartition("/")[2]):
                self._rule = "these names cannot be sent"
            if len(self._refused) < _MOST_REFUSED:
                self._refused.append(f"{shown(path)}: {error.message}")
            return False
        return True

    def _refusal(self) -> UsageError:
        """The error about names that may not be sent."""
        told = "; ".join(self._refused[:_TOLD_REFUSED])
        more = len(self._refused) - _TOLD_REFUSED
        at_least = "at least " if len(self._refused) == _MOST_REFUSED else ""
        rest = f"; and {at_least}{more} more" if more > 0 else ""
        what = "the transfer was given up" if self.begun else "nothing was sent"
        why = f"{self._rule}: {told}{rest}"
        return UsageError(f"{what}, since {why}; rename them", why)


def _check_last(path: str) -> None:
    """Judge the last component of a path whose directory was judged; the manifest judges depth and length."""
    check_component(path.rpartition("/")[2])


def _is_transfer(directory: int, raw: bytes) -> bool:
    """Whether this really is a private directory of a transfer, and does not only have such a name."""
    try:
        status = stat_or_none(directory, raw)
    except OSError:
        return False
    private = status is not None and stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    return private and _TRANSFER.fullmatch(raw) is not None


def _is_plain(status: os.stat_result) -> bool:
    """Whether nothing more is to be learnt by opening the file: this user may read it, and it has no holes."""
    return bool(status.st_mode & stat.S_IRUSR) and status.st_uid == os.geteuid() and not may_be_sparse(status)


def _holds_key(directory: bytes) -> bool:
    try:
        fd = os.open(directory, OPEN_DIRECTORY)
    except OSError:
        return False  # whoever lists it says so
    try:
        return is_private(fd)
    finally:
        os.close(fd)


def _named(path: bytes) -> bytes:
    """The path whose last component is the name: a directory named as ``.`` or ``..`` has one elsewhere."""
    path = path.rstrip(b"/") or b"/"
    last = path.rpartition(b"/")[2]
    return os.path.realpath(path) if last in {b".", b".."} else path


def _text(raw: bytes) -> str:
    """The name as text; bytes that are not UTF-8 become lone surrogates, which the judge of names refuses."""
    return raw.decode("utf-8", "surrogateescape")


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "neither a file nor a directory")
