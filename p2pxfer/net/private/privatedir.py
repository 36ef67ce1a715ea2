"""The receiver's private directory: found or made, locked, and checked to be nobody else's."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Final

from p2pxfer.errors import ConfigError, DiskError, UsageError
from p2pxfer.net.disk import OPEN_DIRECTORY, OPEN_INNER_DIRECTORY, OPEN_INNER_FILE, remove_whole, shown, stat_or_none

_TRIES: Final = 10
_AT_WORK: Final = "another process there is at work on the same: send it again when that has ended"
_LOCKS: Final = Path("/proc/locks")
_MOUNTS: Final = Path("/proc/self/mountinfo")
_FDINFO: Final = Path("/proc/self/fdinfo")
_PROCESS: Final = -4
"""Where a line of the list of locks has the process, from its end."""


def enter(parent: int, name: str, where: str, before_creation: Callable[[], None]) -> int:
    """A descriptor of the directory ``name`` in ``parent``, locked as long as it is open.

    ``where`` is its path for sentences; ``before_creation`` is called if it has to be created, and may raise.

    Raises:
        ConfigError: another process holds it.
        DiskError: it belongs to another user, or others may enter it.
        OSError: what the system refuses, a link in its place included.
    """
    raw = name.encode()
    for _ in range(_TRIES):
        try:
            fd = os.open(raw, OPEN_INNER_DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            before_creation()
            _make(parent, raw)
            continue
        try:
            if _is_held(fd, parent, raw, where):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise ConfigError(f"{shown(where)} comes and goes: another process is at work there", _AT_WORK)


def remove(
    destination: str, name: str, where: str, wanted: Callable[[int], bool], order: Callable[[int], list[bytes]]
) -> None:
    """Remove the directory ``name`` in ``destination``, whole, if ``wanted`` says so of its descriptor under its lock.

    ``where`` is its path for sentences; ``order`` lists what is in it as it is to be removed.

    Raises:
        UsageError: it is gone.
        ConfigError, DiskError, OSError: as for :func:`enter`; what the system does not remove.
    """

    def gone() -> None:
        """Raise that there is nothing to be removed."""
        raise UsageError(f"{shown(where)} is gone already")

    root = os.open(os.fsencode(destination), OPEN_DIRECTORY)
    try:
        held = enter(root, name, where, gone)
        try:
            if wanted(held):
                for each in order(held):
                    remove_whole(each, held)
                os.rmdir(name.encode(), dir_fd=root)
        finally:
            os.close(held)
    finally:
        os.close(root)


class HeldLocks:
    """Which files and directories processes hold a lock on, as far as the system shows it.

    They are looked up, since a lock taken for a moment could turn away who wants it.  The list is read when it is first
    needed and once: that takes the kernel, which waits for all processors, some 16 ms.
    """

    @cached_property
    def _lines(self) -> list[str]:
        try:
            lines = _LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return []
        return [line for line in lines if "FLOCK" in line and "->" not in line]

    def is_held(self, fd: int) -> bool:
        """Whether a process holds one on this open file or directory."""
        return self._line(fd) is not None

    def holder(self, fd: int) -> int:
        """The id of the process that took the one on this open file or directory; 0 where that cannot be seen."""
        line = self._line(fd)
        # In another namespace of processes it has an id that says nothing here.
        return max(0, int(line.split()[_PROCESS])) if line is not None else 0

    def is_held_elsewhere(self, fd: int) -> bool:
        """Whether a process other than this one holds one."""
        return self.is_held(fd) and self.holder(fd) != os.getpid()

    def _line(self, fd: int) -> str | None:
        device = _device(fd)
        where = f"{' ' + device if device else ''}:{os.fstat(fd).st_ino} "
        return next((line for line in self._lines if where in line), None)

    def is_file_held(self, path: Path) -> bool:
        """Whether a process holds one on the file ``path``: not so where there is none, or none that may be opened."""
        return bool(self._of_file(path, self.is_held))

    def file_holder(self, path: Path) -> int:
        """The id of the process that took the one on the file ``path``; 0 where that cannot be seen."""
        return self._of_file(path, self.holder)

    def _of_file(self, path: Path, ask: Callable[[int], int]) -> int:
        """What ``ask`` says of the file, opened; 0 where there is none, or none that may be opened."""
        try:
            fd = os.open(path, OPEN_INNER_FILE)
        except OSError:
            return 0
        try:
            return ask(fd)
        finally:
            os.close(fd)


def _device(fd: int) -> str:
    """The file system on which the file lies, as the list of locks names it; empty if it cannot be found out.

    Not the device of ``stat``: some file systems (btrfs) give each of their parts one of its own, and locks another.
    """
    try:
        about = re.search(r"^mnt_id:\s*(\d+)$", _FDINFO.joinpath(str(fd)).read_text(encoding="ascii"), re.MULTILINE)
        mounts = _MOUNTS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    mount = about and re.search(rf"^{about[1]} \d+ (\d+):(\d+) ", mounts, re.MULTILINE)
    return f"{int(mount[1]):02x}:{int(mount[2]):02x}" if mount else ""


def _make(parent: int, name: bytes) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass  # another process was faster; the lock decides who has it


def _is_held(fd: int, parent: int, name: bytes, where: str) -> bool:
    """Lock ``fd``; False if its last user removed the directory in between."""
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise DiskError(f"{shown(where)} is not private to this user; remove it and run the command again")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"another process holds {shown(where)}: wait for it or end it", _AT_WORK) from None
    now = stat_or_none(parent, name)
    return now is not None and os.path.samestat(now, status)
