"""Runs every pair of homes and writes the page: `python -m scripts.matrixlib --kinds none symmetric --runs 3`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import get_args

from scripts.matrixlib.attempts import attempts
from scripts.matrixlib.homes import DEFAULT_HOMES, HOMES, NEIGHBOURS, pairs, promised
from scripts.matrixlib.page import name_reasons, render, row
from scripts.matrixlib.results import RTT_MS, Attempt, Case, Cell, Store, Way, summarize

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "traversal-matrix.rst"
DATA = ROOT / "docs" / "traversal-matrix.csv"
GIVEN_UP_AFTER = 3
"""Runs of a pair that never connected: each takes ten seconds."""
AT_ONCE = 3
"""Cases that are run side by side: most of the time a meeting waits for the network."""

Runs = Callable[[Case], Iterator[Attempt]]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/matrix", description=__doc__)
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=[*HOMES, *NEIGHBOURS],
        default=[*DEFAULT_HOMES],
        metavar="KIND",
        help=f"kinds of homes, as named in scripts/matrixlib/homes.py (default: {' '.join(DEFAULT_HOMES)})",
    )
    parser.add_argument("--runs", type=int, metavar="N", help="runs of every pair (default: 100 or 50, see homes.py)")
    parser.add_argument(
        "--way", choices=get_args(Way), default="meetings", help="how a run is made (default: meetings)"
    )
    parser.add_argument("--rtt", type=int, default=RTT_MS, metavar="MS", help="round trip between homes (default: 40)")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE", help="the page to write (default: in docs)")
    parser.add_argument(
        "--data",
        type=Path,
        default=DATA,
        metavar="FILE",
        help="the runs so far: those in it are not repeated, new ones added (default: in docs)",
    )
    parser.add_argument("--fresh", action="store_true", help="forget the runs so far")
    options = parser.parse_args(arguments)
    if options.runs is not None and options.runs < 1:
        parser.error("--runs starts at 1")
    if options.rtt < 0:
        parser.error("--rtt starts at 0")
    options.kinds = list(dict.fromkeys(options.kinds))
    for file in (options.out, options.data):
        if not file.parent.is_dir():
            parser.error(f"{file.parent} is not a directory")
    return options


def cases(options: argparse.Namespace) -> list[tuple[Case, int]]:
    """What is to be run, and how often: first the pairs of which most is promised."""
    chosen = sorted(pairs(options.kinds), key=promised, reverse=True)
    return [(Case(*pair, options.way, options.rtt), options.runs or promised(pair)) for pair in chosen]


def measure(
    chosen: Sequence[tuple[Case, int]],
    store: Store,
    run: Runs,
    say: Callable[[str], None],
    stop: threading.Event,
) -> None:
    """Run what is missing of every case, ``AT_ONCE`` of them side by side, and say each row when it is done.

    Each of ``chosen`` has its number of runs.
    """

    def complete(numbered: tuple[int, tuple[Case, int]]) -> None:
        number, (case, runs) = numbered
        with closing(run(case)) as more:  # type: ignore[type-var]  # a generator
            while not stop.is_set() and wanted(store.of(case), runs):
                attempt = next(more)
                # What was interrupted has failed for no reason of its own.
                if not stop.is_set():
                    store.add(attempt)
        if not stop.is_set():
            say(f"{number}/{len(chosen)}  {in_a_line(summarize(case, store.of(case)))}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for _ in pool.map(complete, enumerate(chosen, 1)):
                pass
        except BaseException:
            stop.set()
            raise


def wanted(so_far: Sequence[Attempt], runs: int) -> bool:
    """Whether a case needs another run."""
    hopeless = len(so_far) >= GIVEN_UP_AFTER and all(each.ms is None for each in so_far)
    return len(so_far) < runs and not hopeless


def in_a_line(cell: Cell) -> str:
    """A row of the page for the person who waits."""
    one, other, *figures = row(cell, None, {reason: reason for reason in name_reasons([cell])})
    return f"{one} + {other}: {'  '.join(figures)}"


def cells(store: Store) -> list[Cell]:
    """The figures of every case that was run, the usual kinds in their order."""
    order = list(dict.fromkeys([*DEFAULT_HOMES, *HOMES]))
    usual = {kind: number for number, kind in enumerate([kind for kind in order if kind in HOMES] + [*NEIGHBOURS])}
    known = [case for case in store.cases if set(case.pair) <= set(usual)]
    in_order = sorted(known, key=lambda case: [usual[kind] for kind in case.pair])
    return [summarize(case, store.of(case)) for case in in_order]


def page(store: Store, data: Path) -> str:
    """The page for the runs in `store`, which are kept in `data`."""
    return render(cells(store), data.name, GIVEN_UP_AFTER)


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
        if options.fresh:
            options.data.unlink(missing_ok=True)
        store = Store(options.data)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        measure(cases(options), store, attempts, say, threading.Event())
    except KeyboardInterrupt:
        print("interrupted; everything is stopped and removed, and what was run is kept", file=sys.stderr)
        return 130
    options.out.write_text(page(store, options.data))
    say(f"written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
