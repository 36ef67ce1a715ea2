"""Dials modelled pairs and writes the page: `python -m scripts.poplib --pairs 7000 --seed 1`."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import p2pxfer
from scripts.poplib.mixes import CASES, MIXES
from scripts.poplib.page import Cell, Origin, Results, render
from scripts.poplib.runs import Outcome, Task, dial, digest, figures

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "population.rst"
PAIRS = 100_000
FEWEST = 4 * len(MIXES)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/population", description=__doc__)
    parser.add_argument(
        "--pairs", type=int, default=PAIRS, metavar="N",
        help=f"pairs of the central cases, all mixes together (default: {PAIRS}); others get a quarter of a mix's",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="what all draws follow from (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE", help="the page to write (default: in docs)")
    options = parser.parse_args(arguments)
    if options.pairs < FEWEST:
        parser.error(f"--pairs starts at {FEWEST}")
    if options.jobs < 1:
        parser.error("--jobs starts at 1")
    if not options.out.parent.is_dir():
        parser.error(f"{options.out.parent} is not a directory")
    return options


def results(pairs: int, seed: int, jobs: int, say: Callable[[str], None]) -> Results:
    """Dial them all; the number of processes changes nothing but the time."""
    each = pairs // len(MIXES)
    tasks = [
        Task(number, case, more, each if case == "central" and not more else each // 4, seed)
        for number in range(len(MIXES))
        for more in (False, True)
        for case in CASES
    ]
    cells: dict[tuple[str, str, bool], Cell] = {}
    ladder: list[Outcome] = []
    single: list[Outcome] = []
    # New processes, not copies of this one with whatever threads it has; they begin with the first task.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for task, both in zip(tasks, (map if jobs == 1 else pool.map)(dial, tasks), strict=True):
            name = MIXES[task.mix].name
            cell = cells[name, task.case, task.more] = Cell(figures(both.ladder), figures(both.single))
            if task.case == "central" and not task.more:
                ladder += both.ladder
                single += both.single
                say(f"{name}: {cell.ladder.share:.1%} directly, {cell.single.share:.1%} with one dial")
    return Results(cells, tuple(ladder), tuple(single))


def command(options: argparse.Namespace) -> str:
    """The command that makes this page again."""
    return f"scripts/population --pairs {options.pairs} --seed {options.seed}"


def say(text: str) -> None:
    """A line for the person who waits."""
    print(text, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Write the page; 0 whatever the figures are, 2 for wrong use, 130 if interrupted."""
    options = parse(arguments)
    try:
        found = results(options.pairs, options.seed, options.jobs, say)
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    options.out.write_text(render(Origin(command(options), p2pxfer.__version__, digest()), found))
    say(f"written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
