"""The figures as a page of documentation."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from scripts.matrixlib.attempts import RTT_MS, SIZE
from scripts.matrixlib.homes import NEIGHBOURS, meaning
from scripts.matrixlib.results import Cell, Pair

NONE = "--"
"""In a cell without a figure; a cell of a simple table must not be empty."""


TITLE = """\
================
Traversal matrix
================
"""

MADE = """\
Which homes p2pxfer connects directly with each other over TCP, how soon, and with how many SYNs.  Not to be edited:
``scripts/matrix`` makes this page from the runs in ``{data}`` and adds those that are missing.
"""

HOW = """\
Runs of every pair: {runs}.  A pair is a lab of network namespaces (``tests/lab``): two hosts, each behind NATs of its
own made of the kernel's, {rtt:g} ms round trip between them, half of that to the server, no loss.  In each run a new
``p2pxfer send`` moves {size} bytes to a new ``p2pxfer receive``, both with ``--path direct``, so that no relay can
help; it counts as connected if the file arrived whole.  The sender is in the first home of a pair.  {given_up}
"""

GIVEN_UP = "A pair of which the first {runs} runs failed is not run again."

FIGURES = """\
Times are milliseconds from the introduction to the nominated path, which is authenticated, at the sender, of the runs
that connected: the median and the 90th percentile (nearest rank).  SYNs are the medians of all runs, the sender's + the
receiver's, without those to the server, repeated ones included.  The letter says why a run failed.
"""


def render(cells: Sequence[Cell], data: str, enough_failures: int) -> str:
    """The whole page, as reStructuredText."""
    runs = sorted({cell.runs for cell in cells if cell.connected or cell.runs != enough_failures})
    many = f"{runs[0]} to {runs[-1]}" if len(runs) > 1 else str(runs[0] if runs else enough_failures)
    given_up = any(not cell.connected and cell.runs == enough_failures for cell in cells)
    letters = name_reasons(cells)
    how = HOW.format(
        runs=many,
        rtt=RTT_MS,
        size=SIZE,
        given_up=GIVEN_UP.format(runs=enough_failures) if given_up else "",
    )
    parts = [
        TITLE,
        *(f"{_filled(text)}\n" for text in (MADE.format(data=data), how)),
        _titled("Homes", meanings(cells)),
        _titled("Connected runs", f"{_filled(in_all(cells))}\n\n{grid(cells)}"),
        _titled("Time and SYNs", f"{FIGURES}\n{figures(cells, letters)}"),
    ]
    if letters:
        listed = "\n".join(f"{letter}\n{_filled(escaped(why), indent='    ')}" for why, letter in letters.items())
        parts.append(_titled("Why runs failed", listed))
    return "\n".join(parts)


def meanings(cells: Sequence[Cell]) -> str:
    """What each kind of home is."""
    lines = (f"``{kind}``\n{_filled(meaning(kind), indent='    ')}" for kind in kinds_of(cells))
    return "\n".join(lines)


def in_all(cells: Sequence[Cell]) -> str:
    """The sums of the table in a sentence."""
    always = sum(cell.connected == cell.runs for cell in cells)
    never = sum(not cell.connected for cell in cells)
    rest = len(cells) - always - never
    return f"{len(cells)} pairs: {always} connected in every run, {rest} in some, {never} in none."


def kinds_of(cells: Sequence[Cell]) -> list[str]:
    """The kinds in the order of the cells."""
    return list(dict.fromkeys(kind for cell in cells for kind in (cell.one, cell.other)))


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()),
        120,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def escaped(text: str) -> str:
    """Text of a program as text of the page: none of its characters is markup."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def _titled(title: str, text: str) -> str:
    return f"{title}\n{'=' * len(title)}\n\n{text.rstrip()}\n"


def name_reasons(cells: Sequence[Cell]) -> dict[str, str]:
    """A letter for each reason, in the order in which they first appear: a to z, then aa to az and so on."""
    reasons = dict.fromkeys(reason for cell in cells for reason in cell.reasons)
    return {reason: _letters(number) for number, reason in enumerate(reasons)}


def _letters(number: int) -> str:
    rest, last = divmod(number, 26)
    return (_letters(rest - 1) if rest else "") + chr(ord("a") + last)


def grid(cells: Sequence[Cell]) -> str:
    """A row and a column for each kind but the neighbours, with the number of runs that connected."""
    kinds = [kind for kind in kinds_of(cells) if kind not in NEIGHBOURS]
    known: dict[Pair, Cell] = {(cell.one, cell.other): cell for cell in cells}
    lines = [["", "kind", *(str(number) for number in range(1, len(kinds) + 1))]]
    for number, kind in enumerate(kinds, 1):
        row = (known.get((kind, other)) or known.get((other, kind)) for other in kinds)
        counts = [NONE if cell is None else f"{cell.connected}/{cell.runs}" for cell in row]
        lines.append([str(number), kind, *counts])
    return simple_table(lines)


def figures(cells: Sequence[Cell], letters: dict[str, str]) -> str:
    """A row for each pair."""
    lines = [["first home", "second home", "connected", "median", "90 %", "SYNs", "why not"]]
    return simple_table([*lines, *(row(cell, letters) for cell in cells)])


def row(cell: Cell, letters: dict[str, str]) -> list[str]:
    """One pair as texts."""
    syns = NONE if cell.syns is None else " + ".join(f"{count:g}" for count in cell.syns)
    why = ", ".join(letters[reason] for reason in cell.reasons)
    times = (_milliseconds(cell.median_ms), _milliseconds(cell.p90_ms))
    return [cell.one, cell.other, f"{cell.connected} of {cell.runs}", *times, syns, why or NONE]


def _milliseconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.0f}"


def simple_table(lines: Sequence[Sequence[str]]) -> str:
    """A simple table of reStructuredText; the first line is its head.  An empty text may only stand there."""
    widths = [max(2, *(len(line[column]) for line in lines)) for column in range(len(lines[0]))]
    rule = "  ".join("=" * width for width in widths)
    # A backslash and a space are nothing, where a line must not begin with an empty cell.
    texts = [[text or "\\" for text in line] for line in lines]
    body = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in texts]
    return "\n".join([rule, body[0], rule, *body[1:], rule])
