"""Runs groups of rows and prints the table: `python -m scripts.benchlib --rows loopback --runs 3`."""

from __future__ import annotations

import argparse
import importlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from scripts.benchlib.table import Failed, Group, Row, Setting, render

GROUPS = {
    "startup": "scripts.benchlib.startup",
    "loopback": "scripts.benchlib.loopback",
    "steady": "scripts.benchlib.steady",
    "pipe": "scripts.benchlib.pipe",
    "durable": "scripts.benchlib.durable",
    "small": "scripts.benchlib.small",
    "delta": "scripts.benchlib.delta",
    "many": "scripts.benchlib.many",
    "pairs": "scripts.benchlib.pairs",
    "relayed": "scripts.benchlib.relayed",
    "longfat": "scripts.benchlib.longfat",
    "longfat-loss": "scripts.benchlib.longfatloss",
}
"""Group -> the module whose `rows` makes it; loaded only when asked for."""
DEFAULT = ("startup", "loopback", "steady")
"""What runs without --rows; "pipe", "durable", "small" and "delta" take some minutes, "many" and "pairs" a quarter of
an hour, "longfat" and "longfat-loss" ten minutes each; these two, "delta", "pairs" and "relayed" need root."""
DEADLINE = 45 * 60.0
"""Seconds after which the bench stops by itself."""
_SHARED_MEMORY = Path("/dev/shm")
_COPIES = 2.2


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--rows", action="append", choices=[*GROUPS], help=f"a group of rows (default: {', '.join(DEFAULT)})"
    )
    parser.add_argument("--runs", type=int, default=5, help="runs of everything that is measured (default: 5)")
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="size of the large file (default: 1024)")
    parser.add_argument("--strict", action="store_true", help="fail if a target is missed")
    parser.add_argument("--bench-venv", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.size < 1:
        parser.error("--runs and --size start at 1")
    return options


def scratch(size_mib: int) -> Path:
    """Where files go: memory if there is room, so that no disk is measured."""
    needed = size_mib * (1 << 20) * _COPIES
    if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free > needed:
        return _SHARED_MEMORY
    say(f"no room for {size_mib} MiB twice in {_SHARED_MEMORY}: the figures contain a disk")
    return Path(tempfile.gettempdir())


def say(text: str) -> None:
    """A line for the person who waits."""
    print(text, file=sys.stderr, flush=True)


def measure(options: argparse.Namespace) -> list[Row | Failed]:
    """All rows of the groups asked for."""
    rows: list[Row | Failed] = []
    for name in options.rows or DEFAULT:
        group = cast(Group, importlib.import_module(GROUPS[name]).rows)
        with tempfile.TemporaryDirectory(prefix="p2pxfer-bench-", dir=scratch(options.size)) as folder:
            setting = Setting(Path(folder), options.runs, options.size, options.bench_venv, say)
            rows += group(setting)
    return rows


def _interrupt(*_: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Print the table; 1 if a row could not be measured, with --strict also if a target is missed."""
    options = parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    try:
        rows = measure(options)
    except KeyboardInterrupt:
        say("interrupted or out of time; everything is stopped and removed")
        return 130
    print(render(rows))
    broken = any(isinstance(row, Failed) for row in rows)
    missed = any(isinstance(row, Row) and row.verdict == "MISS" for row in rows)
    return int(broken or (options.strict and missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
