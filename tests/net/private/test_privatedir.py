"""Which files are locked, as the system shows it."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from pathlib import Path

import pytest

from p2pxfer.net.private import privatedir
from p2pxfer.net.private.privatedir import HeldLocks
from tests.net.disk_tools import count_lock_reads


@pytest.mark.parametrize("folder", ["", "/dev/shm"])
def test_a_lock_on_another_file_system_is_another_one(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inodes of the same number are common there; the line that the system shows is changed to be of such a one."""
    with tempfile.TemporaryFile(dir=folder or tmp_path) as held:
        fd = held.fileno()
        assert not HeldLocks().is_held(fd)
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert HeldLocks().is_held(fd)
        (line,) = re.findall(rf".*\b{os.getpid()} \S+:{os.fstat(fd).st_ino} .*", Path("/proc/locks").read_text())
        elsewhere = tmp_path / "locks"
        elsewhere.write_text(line + "\n")
        monkeypatch.setattr(privatedir, "_LOCKS", elsewhere)
        assert HeldLocks().is_held(fd)
        elsewhere.write_text(re.sub(r" \w+:\w+:", " 7f:03:", line) + "\n")
        assert not HeldLocks().is_held(fd)
        monkeypatch.setattr(privatedir, "_MOUNTS", tmp_path / "nothing")
        assert HeldLocks().is_held(fd)


def test_the_list_is_read_once_however_many_files_are_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading it takes the kernel longer than a hundred transfers take to be listed."""
    reads = count_lock_reads(monkeypatch)
    names = [tmp_path / name for name in ("free", "held", "also held", "not there")]
    for name in names[:3]:
        name.touch()
    with names[1].open() as first, names[2].open() as second:
        fcntl.flock(first, fcntl.LOCK_SH)
        fcntl.flock(second, fcntl.LOCK_EX)
        locks = HeldLocks()
        assert not locks.is_file_held(names[3])
        assert reads == []
        assert [locks.is_file_held(name) for name in names] == [False, True, True, False]
        assert len(reads) == 1
