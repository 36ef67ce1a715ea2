"""A new version of a file to where the old one is: bytes on the wire and seconds beside `rsync` over ssh, in turn.

Three changes: an insertion at the front, two hundred blocks of 4 KiB written over anywhere, and an eighth more behind.
Bytes are those of the loopback device with all headers and acknowledgements, in a network namespace of the bench's own.
"""

from __future__ import annotations

import ctypes
import filecmp
import os
import random
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from scripts.benchlib import loopback, rivals
from scripts.benchlib.loopback import Copy
from scripts.benchlib.rivals import MissingToolError
from scripts.benchlib.table import Failed, Row, Setting, median_row
from scripts.product import ProgramError

MIB = 1 << 20
LARGEST_MIB = 256
BLOCKS = 200
BLOCK = 4096
MOST_BYTES = 1.5
"""The most bytes that p2pxfer may move, as a share of rsync's."""
_NEW_NETWORK = 0x40000000

Change = Callable[[bytearray], bytes]


def insert(old: bytearray) -> bytes:
    """A thousand bytes at the front."""
    return os.urandom(1000) + bytes(old)


def scatter(old: bytearray) -> bytes:
    """Blocks anywhere are written over."""
    new, rng = bytearray(old), random.Random(1)
    for _ in range(BLOCKS):
        at = rng.randrange(len(new) - BLOCK)
        new[at : at + BLOCK] = os.urandom(BLOCK)
    return bytes(new)


def append(old: bytearray) -> bytes:
    """An eighth more at the end."""
    return bytes(old) + os.urandom(len(old) // 8)


CHANGES: dict[str, Change] = {"insert": insert, "scattered": scatter, "append": append}


def own_loopback() -> None:
    """Go into a network namespace in which nobody else sends. Raises `ProgramError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) != 0:
        raise ProgramError(f"no network namespace of one's own: {os.strerror(ctypes.get_errno())}")
    subprocess.run([rivals.tool("ip"), "link", "set", "lo", "up"], check=True, timeout=10)


def wire_bytes() -> int:
    """What the loopback device has carried."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == "lo":
            return int(figures.split()[0])
    raise ProgramError("there is no loopback device")


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """The group of rows."""
    try:
        own_loopback()
        (setting.folder / "ssh").mkdir()
        old = bytearray(os.urandom(min(setting.size_mib, LARGEST_MIB) * MIB))
        with rivals.sshd(setting.folder / "ssh") as sshd, loopback.ours(setting.folder) as product:
            tools: dict[str, Copy] = {"rsync": sshd.copy_by_rsync, "p2pxfer": product.copy_differences}
            for name, change in CHANGES.items():
                yield from change_rows(setting, name, old, change(old), tools)
    except (ProgramError, MissingToolError, OSError, subprocess.SubprocessError) as error:
        setting.say(f"delta: {error}")
        yield Failed("delta", str(error))


def change_rows(
    setting: Setting, name: str, old: bytearray, new: bytes, tools: dict[str, Copy]
) -> Iterable[Row | Failed]:
    """One change, by each tool in turn."""
    seconds: dict[str, list[float]] = {tool: [] for tool in tools}
    moved: dict[str, list[float]] = {tool: [] for tool in tools}
    for _ in range(setting.runs):
        for tool, copy in tools.items():
            took, size = copy_once(setting.folder, old, new, copy)
            seconds[tool].append(took)
            moved[tool].append(size / MIB)
            setting.say(f"{name}: {tool} {took:.2f} s, {size / MIB:.2f} MiB")
    for tool in tools:
        yield median_row(f"{name}, {tool}", seconds[tool], "s")
        yield median_row(f"{name}, {tool}, on the wire", moved[tool], "MiB")
    ratio = statistics.median(moved["p2pxfer"]) / statistics.median(moved["rsync"])
    yield Row(f"{name}, bytes of p2pxfer : rsync", ratio, "", MOST_BYTES)


def copy_once(folder: Path, old: bytearray, new: bytes, copy: Copy) -> tuple[float, int]:
    """Seconds and bytes of one copy; what arrived is compared, and all is removed."""
    source, target = folder / "new" / "disk.img", folder / "target" / "disk.img"
    try:
        for path, content in ((source, new), (target, old)):
            path.parent.mkdir()
            path.write_bytes(content)
        os.utime(target, ns=(0, 0))  # or rsync takes a file of the same size for the same
        before = wire_bytes()
        took = copy(source, target, lambda: None)
        size = wire_bytes() - before
        arrived = target.with_name("disk (1).img")
        if not filecmp.cmp(source, arrived if arrived.exists() else target, shallow=False):
            raise ProgramError("what arrived is not what was sent")
        return took, size
    finally:
        for path in (source, target):
            shutil.rmtree(path.parent, ignore_errors=True)
