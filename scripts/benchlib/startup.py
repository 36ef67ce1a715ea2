"""How long a command takes to say what it can do, and one file of 1 KB, where the start of the programs is nearly all.

For the file both commands start at the same moment; the server runs, and the two know each other.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts.benchlib import loopback
from scripts.benchlib.loopback import Ours
from scripts.benchlib.rivals import TRANSFER
from scripts.benchlib.table import Failed, Row, Setting, median_row
from scripts.product import BIN, Loopback, Program, ProgramError, client

PER_RUN = 4
"""Starts for each of the runs asked for: one is short and noisy."""
TOGETHER_S = 0.5
"""The most that one file of 1 KB may take from the start of both commands to their ends."""


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """The group of rows."""
    yield from help_rows(setting)
    try:
        with loopback.ours(setting.folder) as product:
            seconds = [together(product, setting.folder / "one") for _ in range(setting.runs * PER_RUN)]
    except (ProgramError, OSError) as error:
        setting.say(f"one small file: {error}")
        yield Failed("one small file", str(error))
        return
    yield median_row("1 file of 1024 bytes, both commands started together", seconds, "s", target=TOGETHER_S)


def help_rows(setting: Setting) -> Iterable[Row | Failed]:
    """Both commands in turn."""
    commands = {
        "p2pxfer --help": [str(BIN / "p2pxfer"), "--help"],
        "wormhole --help": [str(setting.bench_venv / "bin/wormhole"), "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(setting.runs * PER_RUN + 1):
        for name, argv in commands.items():
            try:
                seconds[name].append(timed(argv))
            except (OSError, subprocess.SubprocessError) as error:
                setting.say(f"{name}: {error}")
                yield Failed(name, str(error))
                return
    # The first start of each reads files that the later ones find in memory.
    warm = {name: values[1:] for name, values in seconds.items()}
    for name, values in warm.items():
        yield median_row(name, [value * 1000 for value in values], "ms")
    ours, theirs = (statistics.median(values) for values in warm.values())
    yield Row("time of p2pxfer --help : wormhole --help", ours / theirs, "", 1.0)


def timed(argv: Sequence[str]) -> float:
    """Seconds that a command takes. Raises `OSError` and `subprocess.SubprocessError`."""
    started = time.monotonic()
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=30)
    return time.monotonic() - started


def together(product: Ours, folder: Path) -> float:
    """Move one file of 1 KB; seconds from the start of both commands to the end of both."""
    folder.mkdir()
    try:
        source = folder / "one.bin"
        source.write_bytes(os.urandom(1024))
        (folder / "inbox").mkdir()
        words: list[str | Path] = ["receive", "--as", "bob", "--to", folder / "inbox", "--once"]
        receive = client(product.address, product.folder / "bob", *words)
        send = client(product.address, product.folder / "alice", "send", source, "bob", "--wait")
        with (
            Program(Loopback(), "p2pxfer receive", receive, folder / "receive.log") as receiver,
            Program(Loopback(), "p2pxfer send", send, folder / "send.log") as sender,
        ):
            ends = [program.succeed(TRANSFER).at for program in (sender, receiver)]
            return max(ends) - receiver.started
    finally:
        shutil.rmtree(folder)
