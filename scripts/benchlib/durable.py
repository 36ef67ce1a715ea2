"""What it costs that data is durable in batches while it arrives: one large file from memory onto a disk.

The same command with and without syncs, in turn: ``eatmydata`` takes them from the receiver, and its file is synced
once when everything has ended, so that both end with the file on the disk.  Only the first way keeps what a power cut
in the middle is promised to leave.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from scripts.benchlib.loopback import Copy, generate, in_turn, ours
from scripts.benchlib.rivals import MissingToolError, tool
from scripts.benchlib.table import Failed, Row, Setting, median_row
from scripts.product import ProgramError

BATCHES, ONE = "batches", "one sync at the end"
MOST = 1 / 0.9
"""The batches take a tenth of the throughput at most."""
DISKS = (Path("/var/tmp"), Path.home())
"""Where a folder is made, in the first that is on a disk with room."""
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """The group of rows."""
    source = setting.folder / "source.bin"
    generate(source, setting.size_mib)
    name = f"onto a disk, {setting.size_mib} MiB"
    try:
        disk = a_disk(source.stat().st_size)
        with tempfile.TemporaryDirectory(prefix="p2pxfer-bench-", dir=disk) as place:
            yield from _measure(setting, source, Path(place), name)
    except (ProgramError, MissingToolError, OSError) as error:
        yield Failed(name, str(error))


def _measure(setting: Setting, source: Path, place: Path, name: str) -> Iterable[Row | Failed]:
    with ours(setting.folder) as product:
        hasty = replace(product, receiver=(tool("eatmydata"),))
        tools: dict[str, Copy] = {BATCHES: product.copy, ONE: partial(then_synced, hasty.copy)}
        seconds, broken = in_turn(replace(setting, folder=place), source, tools, ready=os.sync)
    for way, values in seconds.items():
        yield median_row(f"{name}, {way}", values, "s")
    yield from broken
    if len(seconds) == len(tools):
        pairs = sorted(mine / its for mine, its in zip(seconds[BATCHES], seconds[ONE], strict=True))
        yield Row(f"{name}, {BATCHES} : {ONE}", pairs[len(pairs) // 2], "", MOST, note="median of the ratios")


def then_synced(copy: Copy, source: Path, target: Path, ready: Callable[[], None]) -> float:
    """Copy, and sync what arrived; the seconds of both. Raises as ``copy``."""
    seconds = copy(source, target, ready)
    began = time.monotonic()
    for path in (target, target.parent):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    return seconds + time.monotonic() - began


def a_disk(size: int) -> Path:
    """A directory on a disk with room for a file of this size. Raises `MissingToolError`."""
    for place in DISKS:
        free = os.statvfs(place)
        if file_system(place) not in _IN_MEMORY and free.f_bavail * free.f_frsize > 3 * size:
            return place
    raise MissingToolError("no disk has room for the file: what is here is memory, or full")


def file_system(place: Path) -> str:
    """What kind of file system a directory is on, ``""`` if that is not known (proc(5), mountinfo)."""
    device = place.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == number:
            return kind.split()[0]
    return ""
