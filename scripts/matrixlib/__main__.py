"""Runs every pair of kinds and writes the page: `python -m scripts.matrixlib --kinds none symmetric --runs 3`."""

from __future__ import annotations

import argparse
import datetime
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import p2pxfer
from scripts.matrixlib.attempts import RTT_MS, SIZE, attempt
from scripts.matrixlib.page import Origin, name_reasons, render, row
from scripts.matrixlib.results import DEFAULT_KINDS, Attempt, Cell, Pair, Store, pairs, summarize
from tests.lab.nat import KINDS

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "traversal-matrix.rst"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/matrix", description=__doc__)
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=[*KINDS],
        default=[*DEFAULT_KINDS],
        metavar="KIND",
        help=f"kinds of NAT, as named in tests/lab/nat.py (default: {' '.join(DEFAULT_KINDS)})",
    )
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="runs of every pair (default: 20)")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE", help="the page to write (default: in docs)")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="results so far: runs that are in it are not repeated, new ones added",
    )
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs starts at 1")
    options.kinds = list(dict.fromkeys(options.kinds))
    if not options.out.parent.is_dir():
        parser.error(f"{options.out.parent} is not a directory")
    return options


def command(options: argparse.Namespace) -> str:
    """The command that makes this page again."""
    words = ["scripts/matrix"]
    if tuple(options.kinds) != DEFAULT_KINDS:
        words += ["--kinds", *options.kinds]
    return " ".join([*words, "--runs", str(options.runs)])


def measure(
    chosen: Sequence[Pair], runs: int, store: Store, attempt_one: Callable[[Pair], Attempt], say: Callable[[str], None]
) -> list[Cell]:
    """Run what is missing of every pair and say each row when it is done."""
    cells = []
    for number, pair in enumerate(chosen, 1):
        for _ in range(runs - len(store.of(pair))):
            store.add(attempt_one(pair))
        cell = summarize(pair, store.of(pair))
        plain = {reason: reason for reason in name_reasons([cell])}
        one, other, *figures = row(cell, plain)
        say(f"{number}/{len(chosen)}  {one} + {other}: {'  '.join(figures)}")
        cells.append(cell)
    return cells


def origin(options: argparse.Namespace) -> Origin:
    """What the page says of itself."""
    system = f"{platform.system()} {platform.release()}"
    return Origin(command(options), p2pxfer.__version__, system, datetime.date.today().isoformat(), RTT_MS, SIZE)


def say(text: str) -> None:
    """A line for the person who waits."""
    print(text, flush=True)


def _interrupt(*_: object) -> None:
    # Once: a second signal must not cut the cleaning up short.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Write the page; 0 whatever the figures are, 2 for wrong use, 130 if interrupted."""
    options = parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        store = Store(options.resume)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        cells = measure(pairs(options.kinds), options.runs, store, attempt, say)
    except KeyboardInterrupt:
        print("interrupted; everything is stopped and removed", file=sys.stderr)
        return 130
    options.out.write_text(render(origin(options), cells))
    say(f"written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
