"""Ten thousand files of 4 KiB beside `rsync -a` over ssh; whole commands are timed as in `loopback`, in turn."""

from __future__ import annotations

import filecmp
import os
import shutil
import statistics
from collections.abc import Iterable
from pathlib import Path

from scripts.benchlib import loopback, rivals
from scripts.benchlib.loopback import Copy, Ours
from scripts.benchlib.rivals import MissingToolError
from scripts.benchlib.table import Failed, Row, Setting, median_row
from scripts.product import ProgramError

FILES = 10_000
EACH = 4096
IN_A_FOLDER = 100
MOST = 1.0
"""The most that p2pxfer's time may be, as a share of rsync's."""


def make_tree(top: Path, files: int, each: int) -> None:
    """Folders with a hundred files of random bytes."""
    for number in range(files):
        folder = top / f"folder-{number // IN_A_FOLDER:04d}"
        if number % IN_A_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"file-{number:06d}").write_bytes(os.urandom(each))


def same_trees(one: Path, other: Path) -> bool:
    """Whether both hold the same files with the same contents."""
    files = [sorted(path.relative_to(top) for path in top.rglob("*") if path.is_file()) for top in (one, other)]
    return files[0] == files[1] and all(filecmp.cmp(one / path, other / path, shallow=False) for path in files[0])


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """The group of rows."""
    source = setting.folder / "tree"
    make_tree(source, FILES, EACH)
    try:
        rivals.tool("rsync")
        (setting.folder / "ssh").mkdir()
        with rivals.sshd(setting.folder / "ssh") as sshd, loopback.ours(setting.folder) as product:
            tools: dict[str, Copy] = {"rsync": sshd.copy_by_rsync, "p2pxfer": product.copy}
            seconds: dict[str, list[float]] = {name: [] for name in tools}
            for number in range(setting.runs):
                for name, copy in tools.items():
                    seconds[name].append(copy_once(setting.folder, source, copy))
                    setting.say(f"run {number + 1} of {setting.runs}: {name} {seconds[name][-1]:.2f} s")
            yield from tree_rows(seconds, product)
    except (ProgramError, MissingToolError, OSError) as error:
        setting.say(f"small files: {error}")
        yield Failed("small files", str(error))


def copy_once(folder: Path, source: Path, copy: Copy) -> float:
    """Copy the tree, check what arrived, and remove it."""
    target = folder / "target" / source.name
    target.parent.mkdir(exist_ok=True)
    try:
        seconds = copy(source, target, lambda: None)
        if not same_trees(source, target):
            raise ProgramError(f"what arrived as {target.name} is not what was sent")
        return seconds
    finally:
        shutil.rmtree(target.parent)


def tree_rows(seconds: dict[str, list[float]], product: Ours) -> Iterable[Row]:
    """Times, their ratio, and the memory that it took."""
    for name, values in seconds.items():
        yield median_row(f"{FILES} files of {EACH} bytes, {name}", values, "s")
    ratio = statistics.median(seconds["p2pxfer"]) / statistics.median(seconds["rsync"])
    yield Row(f"{FILES} files of {EACH} bytes, time of p2pxfer : rsync", ratio, "", MOST)
    for role, peak in product.peaks.items():
        yield Row(f"peak memory of {role}, {FILES} files", peak / (1 << 20), "MiB", loopback.MEMORY_MIB)
