"""What the disk sides of sender and receiver share: walks that follow no link, few open files, errors as sentences.

Laws:

- Below a directory that is open, every further component is opened relative to its parent's descriptor and with
  ``O_NOFOLLOW``: a path that was checked and then opened could be led elsewhere in between.
- Names go to the system as UTF-8 whatever the locale is.
- A descriptor that a thread uses is never closed under it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from p2pxfer.core.text import path_text, safe_text
from p2pxfer.errors import DiskError, NoSpace

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
OPEN_INNER_DIRECTORY: Final = OPEN_DIRECTORY | os.O_NOFOLLOW
OPEN_INNER_FILE: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""O_NONBLOCK, so that a FIFO put in a file's place does not hang the thread."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNSUPPORTED: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM})
_libc = ctypes.CDLL(None, use_errno=True)

fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""Flush a file's data; systems without this call get the stronger one."""


def shown(path: str) -> str:
    """A path for a sentence: quoted and harmless."""
    return f"'{path_text(path)}'"


def disk_error(error: OSError, what: str, advice: str, abroad: str = "") -> DiskError:
    """``error`` as a sentence: what failed, the system's reason, what was kept and what to do.

    ``abroad`` is that advice for the other end, which is told no more than that this disk failed, and why.
    """
    reason = os.strerror(error.errno) if error.errno else safe_text(str(error))
    kind = NoSpace if error.errno in _FULL else DiskError
    return kind(f"{what} failed: {reason}; {advice}", f"its disk failed: {reason}" + (f"; {abroad}" if abroad else ""))


@contextmanager
def parent_of(root: int, path: str, make: bool = False) -> Iterator[tuple[int, bytes]]:
    """Descriptor of the directory that ``path`` lies in, below ``root``, and the last component.

    With ``make`` directories that are missing are created with mode 0700.  Raises ``OSError``.
    """
    *parents, name = path.encode().split(b"/")
    here = root
    try:
        for parent in parents:
            inner = _enter(here, parent, make)
            if here != root:
                os.close(here)
            here = inner
        yield here, name
    finally:
        if here != root:
            os.close(here)


def _enter(here: int, name: bytes, make: bool) -> int:
    try:
        return os.open(name, OPEN_INNER_DIRECTORY, dir_fd=here)
    except FileNotFoundError:
        if not make:
            raise
    try:
        os.mkdir(name, 0o700, dir_fd=here)
    except FileExistsError:
        pass  # another thread was faster
    return os.open(name, OPEN_INNER_DIRECTORY, dir_fd=here)


def open_own_directory(name: bytes, parent: int) -> int:
    """A descriptor of a directory whose mode may shut this user, its owner, out: then it does so no more.

    Only in directories that nobody else may enter.  Raises ``OSError``.
    """
    return _open_own(name, OPEN_INNER_DIRECTORY, parent, stat.S_IFDIR, 0o700)


def open_own_file(name: bytes, flags: int, parent: int) -> int:
    """The same of a file; if new, 0600."""
    return _open_own(name, flags, parent, stat.S_IFREG, 0o600)


def _open_own(name: bytes, flags: int, parent: int, kind: int, needed: int) -> int:
    try:
        return os.open(name, flags, 0o600, dir_fd=parent)
    except PermissionError:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_IFMT(status.st_mode) != kind or status.st_uid != os.geteuid():
            raise
        os.chmod(name, stat.S_IMODE(status.st_mode) | needed, dir_fd=parent)
    return os.open(name, flags, 0o600, dir_fd=parent)


def write_all(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``, however many calls it takes.  Raises ``OSError``."""
    left = memoryview(data)
    while left:
        written = os.pwrite(fd, left, offset)
        if written == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left = left[written:]
        offset += written


def read_span(fd: int, offset: int, length: int) -> bytes:
    """Up to ``length`` bytes from ``offset``; fewer only if the file ends.  Raises ``OSError``."""
    data = os.pread(fd, length, offset)
    while 0 < len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def can_sync_file_system() -> bool:
    """Whether :func:`sync_file_system` does anything here."""
    return _SYNCFS


def sync_file_system(fd: int) -> bool:
    """Flush the whole file system of ``fd``, which for many files is far faster than one by one.

    False if the system cannot do it or would not report lost writes (Linux before 5.8).  Raises ``OSError``.
    """
    if not _SYNCFS:
        return False
    if _libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return True


def _has_syncfs() -> bool:
    if not sys.platform.startswith("linux") or not hasattr(_libc, "syncfs"):
        return False
    release = os.uname().release.split(".")
    try:
        return (int(release[0]), int(release[1])) >= (5, 8)
    except (IndexError, ValueError):
        return False


_SYNCFS: Final = _has_syncfs()


def rename_new(old_dir: int, old: bytes, new_dir: int, new: bytes) -> None:
    """Rename without ever replacing anything.

    Raises ``FileExistsError`` if the new name is taken, ``OSError`` for the rest.
    """
    if not _rename_exclusive(old_dir, old, new_dir, new):
        _rename_by_link(old_dir, old, new_dir, new)


def _rename_exclusive(old_dir: int, old: bytes, new_dir: int, new: bytes) -> bool:
    """False if system or file system do not know the call."""
    for name, flag in (("renameat2", 1), ("renameatx_np", 4)):
        call = getattr(_libc, name, None)
        if call is None:
            continue
        if call(old_dir, old, new_dir, new, ctypes.c_uint(flag)) == 0:
            return True
        code = ctypes.get_errno()
        if code not in _UNSUPPORTED:
            raise OSError(code, os.strerror(code))
    return False


def _rename_by_link(old_dir: int, old: bytes, new_dir: int, new: bytes) -> None:
    """A hard link fails if the name is taken; a directory is renamed after a look, and replaces no more than an
    empty directory even then.
    """
    try:
        os.link(old, new, src_dir_fd=old_dir, dst_dir_fd=new_dir, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _UNSUPPORTED and error.errno != errno.EISDIR:
            raise
    else:
        os.unlink(old, dir_fd=old_dir)
        return
    if exists(new_dir, new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(old, new, src_dir_fd=old_dir, dst_dir_fd=new_dir)


def exists(directory: int, name: bytes) -> bool:
    """Whether anything has this name, a dangling link included.  Raises ``OSError``."""
    return stat_or_none(directory, name) is not None


def stat_or_none(directory: int, name: bytes) -> os.stat_result | None:
    """What has this name, itself and not what it points to.  Raises ``OSError``."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


class FdCache:
    """At most ``limit`` descriptors that no thread uses at the moment, the least recently used closed first."""

    def __init__(self, limit: int, opener: Callable[[int], int]) -> None:
        """``opener`` gives a new descriptor for a key; it is called under the lock."""
        self._limit = limit
        self._opener = opener
        self._lock = threading.Lock()
        self._open: dict[int, tuple[int, int]] = {}

    @contextmanager
    def lease(self, key: int) -> Iterator[int]:
        """The descriptor for ``key``, which stays open until the block ends."""
        with self._lock:
            fd, users = self._open.pop(key, (-1, 0))
            if fd < 0:
                fd = self._opener(key)
            self._open[key] = (fd, users + 1)
            self._evict()
        try:
            yield fd
        finally:
            with self._lock:
                fd, users = self._open[key]
                self._open[key] = (fd, users - 1)

    def _evict(self) -> None:
        spare = len(self._open) - self._limit
        if spare <= 0:
            return
        for key in [key for key, (_, users) in self._open.items() if users == 0][:spare]:
            os.close(self._open.pop(key)[0])

    def close(self) -> None:
        """Close all; nobody may hold a lease any more."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1][0])


class NotRemoved(OSError):
    """Something is in the way and stays there; ``filename`` is its path from the directory that was given."""


def remove_whole(name: bytes, parent: int) -> None:
    """Remove what lies under ``name`` in ``parent``, if anything, with all below it, whatever modes that has got.

    Only for directories that nobody else may enter.  Raises :class:`NotRemoved`: another user's directory, which only
    goes if it is empty or open to this user, or what else the system refuses.
    """
    status = stat_or_none(parent, name)
    if status is not None:
        _remove(name, parent, stat.S_ISDIR(status.st_mode), name)


def _remove(name: bytes, parent: int, directory: bool, path: bytes) -> None:
    try:
        if not directory:
            os.unlink(name, dir_fd=parent)
        elif not _remove_empty(name, parent):
            _remove_contents(name, parent, path)
            os.rmdir(name, dir_fd=parent)
    except NotRemoved:
        raise
    except OSError as error:
        raise NotRemoved(error.errno, error.strerror, os.fsdecode(path)) from error


def _remove_empty(name: bytes, parent: int) -> bool:
    """Whether it was empty and is gone: of another user's the system may allow this and no more."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _remove_contents(name: bytes, parent: int, path: bytes) -> None:
    here = open_own_directory(name, parent)
    try:
        status = os.fstat(here)
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & 0o700 != 0o700:
            os.fchmod(here, 0o700)
        with os.scandir(here) as listing:
            inner = [(os.fsencode(each.name), each.is_dir(follow_symlinks=False)) for each in listing]
        for each, is_directory in inner:
            _remove(each, here, is_directory, path + b"/" + each)
    finally:
        os.close(here)
