"""How long a command takes to say what it can do."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence

from scripts.benchlib.table import Failed, Row, Setting, median_row
from scripts.product import BIN

PER_RUN = 4
"""Starts for each of the runs asked for: one is short and noisy."""


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """The group of rows: both commands in turn."""
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
