"""The last step of receiving: from the private tree to the names that the user sees.

Order of one publication, each step durable before the next::

    files that are left out go; links; modes and times; sync of files and directories
    AGREED record: the root, and what is left out
    PUBLISHING record: for each top-level name the free name chosen for it, and its inode
    rename of each, never onto anything that exists; then the mode of directories that may not be written
    sync of the destination
    PUBLISHED record

A run that was cut anywhere in between finds out by the inodes which names were published already.  A name counts as
taken if it is equal to an existing one on some file system (case, composition of letters), not only here.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

from p2pxfer.core.transfer.journal import Agreed, Publication, pack_agreed, pack_published, pack_publishing
from p2pxfer.core.transfer.manifest import DIRECTORY, FILE, LINK, Entry, Manifest
from p2pxfer.core.transfer.pathrules import MAX_COMPONENT, collision_key
from p2pxfer.errors import DiskError
from p2pxfer.net.disk import (
    OPEN_INNER_DIRECTORY,
    OPEN_INNER_FILE,
    can_sync_file_system,
    exists,
    open_own_file,
    parent_of,
    rename_new,
    shown,
    stat_or_none,
    sync_file_system,
    write_all,
)
from p2pxfer.net.parents import LastParent
from p2pxfer.net.staging.journalfile import JournalFile

MANY_FILES: Final = 16
"""From so many files on, the whole file system is synced at once."""

_DAY_NS: Final = 86_400 * 10**9
OWNER_FILE: Final = 0o600
OWNER_DIRECTORY: Final = 0o700
"""What this program needs of its own files and directories until they are published."""
_TWO_PART_SUFFIXES: Final = (".tar",)


class Publisher:
    """Moves the tops of ``manifest`` from ``tree`` to ``destination`` (both descriptors)."""

    def __init__(
        self, manifest: Manifest, tree: int, destination: int, journal: JournalFile, failpoint: Callable[[str], None]
    ) -> None:
        self._manifest = manifest
        self._tree = tree
        self._destination = destination
        self._journal = journal
        self._failpoint = failpoint
        self._finals: dict[str, str] = {}
        self.agreed: Agreed | None = None
        """What the journal says that is published; set it with :meth:`bind`."""
        self._left: frozenset[str] = frozenset()
        self._parents = LastParent()

    @property
    def begun(self) -> bool:
        """Whether any name has left the tree."""
        return bool(self._finals)

    def is_published(self, path: str) -> bool:
        """Whether the top-level name that ``path`` begins with has left the tree."""
        return path.partition("/")[0] in self._finals

    # -- after a crash -------------------------------------------------------------------------------------------

    def settle(self, announced: Iterable[Publication]) -> None:
        """Find out which of the renames that were announced in an earlier run have happened.  Raises ``OSError``."""
        for each in announced:
            found = stat_or_none(self._destination, each.final.encode())
            staged = stat_or_none(self._tree, each.name.encode())
            if found is None:
                continue
            if staged is None:
                # The device number may be another one after a reboot; the inode is not.
                if found.st_ino == each.ino and found.st_dev in (each.dev, os.fstat(self._destination).st_dev):
                    self._finals[each.name] = each.final
            elif not stat.S_ISDIR(staged.st_mode) and os.path.samestat(found, staged):
                os.unlink(each.name.encode(), dir_fd=self._tree)  # linked, and cut before the old name went
                self._finals[each.name] = each.final

    # -- modes, times, sync --------------------------------------------------------------------------------------

    def prepare(self, now: float, left: Sequence[int] = ()) -> None:
        """Remove the files that are ``left`` out, make the links, give everything still in the tree its mode and time,
        and make it durable.

        Raises:
            DiskError: a file is gone or too short, or something else lies in a link's place.
            OSError: what the system refuses.
        """
        self._leave_out(left)
        for path in self._left:
            self._remove(path)
        at_once = len(self._manifest.entries) > MANY_FILES and can_sync_file_system()
        latest = int(now) * 10**9 + _DAY_NS
        for entry in _contents_first(self._manifest):
            if self.is_settled(entry.path) or (at_once and self._is_ready(entry, latest)):
                continue
            times = (min(entry.mtime_ns, latest), min(entry.mtime_ns, latest))
            if entry.kind is LINK:
                self._make_link(entry, times)
                continue
            fd = self._open(entry)
            try:
                # A directory that its owner may not write cannot be renamed.
                os.fchmod(fd, entry.mode | OWNER_DIRECTORY if _is_restricted_top(entry) else entry.mode)
                os.utime(fd, ns=times)
                if not at_once:
                    os.fsync(fd)
            finally:
                os.close(fd)
        if at_once:
            sync_file_system(self._destination)
        os.fsync(self._tree)
        self._parents.close()

    def bind(self, agreed: Agreed) -> None:
        """This was agreed in an earlier run, which has given names."""
        self.agreed = agreed
        self._leave_out(file for file in agreed.left if file < len(self._manifest.sizes))

    def _leave_out(self, files: Iterable[int]) -> None:
        self._left = frozenset(self._manifest.files[file].path for file in files)

    def is_settled(self, path: str) -> bool:
        """Whether nothing more has a place to be found for: it is published, or does not come."""
        return path in self._left or self.is_published(path)

    def _remove(self, path: str) -> None:
        try:
            with parent_of(self._tree, path) as (parent, name):
                os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return  # nothing of it came, or its directory is published

    def _is_ready(self, entry: Entry, latest: int) -> bool:
        """Whether a file has got its mode and time when it was written, and is as long as it was then."""
        if entry.kind is not FILE or entry.mtime_ns > latest:
            return False
        status = self._parents.stat(self._tree, entry.path)
        return (
            status is not None
            and stat.S_ISREG(status.st_mode)
            and (stat.S_IMODE(status.st_mode), status.st_mtime_ns, status.st_size)
            == (entry.mode, entry.mtime_ns, entry.size)
        )

    def _make_link(self, entry: Entry, times: tuple[int, int]) -> None:
        with parent_of(self._tree, entry.path, make=True) as (parent, name):
            try:
                os.symlink(entry.target.encode(), name, dir_fd=parent)
            except FileExistsError:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if not stat.S_ISLNK(status.st_mode) or os.readlink(name, dir_fd=parent) != entry.target.encode():
                    raise DiskError.plain(
                        f"the link {shown(entry.path)} was replaced by something else; remove it"
                    ) from None
            os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _open(self, entry: Entry) -> int:
        if entry.kind is DIRECTORY:
            with parent_of(self._tree, f"{entry.path}/.", make=True) as (inner, _):
                return os.dup(inner)
        flags = os.O_RDWR | OPEN_INNER_FILE | (0 if entry.size else os.O_CREAT)
        with parent_of(self._tree, entry.path, make=True) as (parent, name):
            fd = open_own_file(name, flags, parent)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size < entry.size:
            os.close(fd)
            raise DiskError.plain(
                f"the received file {shown(entry.path)} was changed by another program; send it again"
            )
        if status.st_size > entry.size:
            os.ftruncate(fd, entry.size)
        return fd

    # -- names ---------------------------------------------------------------------------------------------------

    def publish(self, agreed: Agreed) -> list[str]:
        """Rename what is still in the tree; the final names of all tops that are not left out, in order.

        Raises:
            DiskError: no free name is left.
            OSError: what the system refuses.
        """
        taken = {collision_key(name) for name in os.listdir(self._destination)}  # noqa: PTH208  # a descriptor
        tops = [entry for entry in self._manifest.tops() if entry.path not in self._left]
        plan = [self._choose(entry, taken) for entry in tops if entry.path not in self._finals]
        records = [pack_agreed(agreed)] if agreed != self.agreed else []
        if plan:
            records.append(pack_publishing(plan))
        if records:
            self._journal.append(records)
        self.agreed = agreed
        kinds = {entry.path: entry for entry in tops}
        for each in plan:
            self._move(kinds[each.name], each, taken)
        for entry in filter(_is_restricted_top, tops):
            self._restrict(entry)
        self._failpoint("rx.before_dirsync")
        os.fsync(self._destination)
        os.fsync(self._tree)
        names = [self._finals[entry.path] for entry in tops]
        self._journal.append([pack_published(agreed.root, names)])
        return names

    def _choose(self, entry: Entry, taken: set[str]) -> Publication:
        status = os.stat(entry.path.encode(), dir_fd=self._tree, follow_symlinks=False)
        for final in free_names(entry.path, is_file=entry.kind is FILE):
            key = collision_key(final)
            if key not in taken:
                taken.add(key)
                return Publication(entry.path, final, status.st_dev, status.st_ino)
        raise DiskError.plain(
            f"no free name is left for {shown(entry.path)}; move some files away and run the command again"
        )

    def _move(self, entry: Entry, chosen: Publication, taken: set[str]) -> None:
        while True:
            self._failpoint("rx.before_rename")
            try:
                rename_new(self._tree, chosen.name.encode(), self._destination, chosen.final.encode())
            except FileExistsError:
                # Somebody took the name in this moment.
                chosen = self._choose(entry, taken)
                self._journal.append([pack_publishing([chosen])])
                continue
            self._finals[chosen.name] = chosen.final
            self._failpoint("rx.after_rename")
            return

    def _restrict(self, entry: Entry) -> None:
        """Give a published directory the mode that would have kept it from being renamed."""
        final = self._finals[entry.path].encode()
        try:
            fd = os.open(final, OPEN_INNER_DIRECTORY, dir_fd=self._destination)
        except PermissionError:
            return  # an earlier run did
        try:
            os.fchmod(fd, entry.mode)
            os.fsync(fd)
        finally:
            os.close(fd)


def _is_restricted_top(entry: Entry) -> bool:
    return entry.kind is DIRECTORY and "/" not in entry.path and entry.mode & OWNER_DIRECTORY != OWNER_DIRECTORY


def write_whole(parents: LastParent, tree: int, entry: Entry, payload: memoryview) -> None:
    """Write a file of one chunk, and give it what :meth:`Publisher.prepare` would if its owner may write it then, too.

    Raises ``OSError``.
    """
    fd = parents.open_own(tree, entry.path, os.O_RDWR | os.O_CREAT | OPEN_INNER_FILE)
    try:
        write_all(fd, payload, 0)
        if entry.mode & OWNER_FILE == OWNER_FILE:
            os.fchmod(fd, entry.mode)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
    finally:
        os.close(fd)


def all_there(destination: int, names: Iterable[str]) -> bool:
    """Whether every published name still exists.  Raises ``OSError``."""
    return all(exists(destination, name.encode()) for name in names)


def free_names(name: str, is_file: bool, tries: int = 100_000) -> Iterator[str]:
    """``name``, then ``name (1)``, ``name (2)`` and so on: before a file's suffix, cut to the longest legal name."""
    yield name
    stem, suffix = (PurePosixPath(name).stem, PurePosixPath(name).suffix) if is_file else (name, "")
    for double in _TWO_PART_SUFFIXES:
        if stem.lower().endswith(double) and len(stem) > len(double):
            stem, suffix = stem[: -len(double)], stem[-len(double) :] + suffix
    if len(suffix.encode()) > MAX_COMPONENT // 2:
        stem, suffix = name, ""
    for number in range(1, tries):
        tail = f" ({number}){suffix}"
        kept = stem.encode()[: MAX_COMPONENT - len(tail.encode())].decode(errors="ignore")
        yield kept + tail


def _contents_first(manifest: Manifest) -> Iterator[Entry]:
    """Files and links, then directories from the inside out: whatever is made in a directory changes its time."""
    directories = array("I")
    for number, entry in enumerate(manifest.in_order()):
        if entry.kind is DIRECTORY:
            directories.append(number)
        else:
            yield entry
    for number in reversed(directories):
        yield manifest.entries[number]
