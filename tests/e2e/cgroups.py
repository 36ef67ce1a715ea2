"""Programs that may use so much memory and no more, as in a container; the kernel kills who needs more."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

_ONE = Path("/sys/fs/cgroup/memory")
_TWO = Path("/sys/fs/cgroup")


class MemoryGroup:
    """A control group of version 1 or 2: ``prefix`` stands before a command that belongs to it."""

    def __init__(self, where: Path, limit: Path) -> None:
        self._where = where
        self._limit = limit

    def allow(self, size: int) -> None:
        """Bytes that all its programs together may use."""
        self._limit.write_text(str(size))

    @property
    def prefix(self) -> Sequence[str]:
        return ["sh", "-c", f'echo $$ > {self._where}/cgroup.procs && exec "$@"', "sh"]

    def killed(self) -> int:
        """How many of its programs the kernel has killed for want of memory."""
        for name in ("memory.oom_control", "memory.events"):
            with contextlib.suppress(FileNotFoundError):
                fields = dict(line.split() for line in (self._where / name).read_text().splitlines())
                return int(fields["oom_kill"])
        raise AssertionError("the kernel does not count them")


@contextlib.contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """A new one, or the test is skipped; its programs must have ended before it goes."""
    limit = "memory.limit_in_bytes" if _ONE.is_dir() else "memory.max"
    where = (_ONE if _ONE.is_dir() else _TWO) / f"p2pxfer-test-{uuid.uuid4().hex[:12]}"
    try:
        where.mkdir()
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
            raise
        pytest.skip("needs the right to make a control group")
    try:
        if not (where / limit).exists():
            pytest.skip("control groups have no memory controller here")
        yield MemoryGroup(where, where / limit)
    finally:
        os.rmdir(where)
