"""The figures as a page of documentation."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from scripts.matrixlib.attempts import SIZE
from scripts.matrixlib.homes import NEIGHBOURS, meaning
from scripts.matrixlib.meeter import PEERS
from scripts.matrixlib.promises import findings
from scripts.matrixlib.results import RTT_MS, Cell, Pair

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
A pair is a lab of network namespaces (``tests/lab``): two hosts, each behind NATs of its own made of the kernel's,
{rtt} ms round trip between them, half of that to the server, no loss.  Between runs the NATs forget everything.  The
sender is in the first home of a pair.  No relay can help: both sides say that they allow direct paths only.  {given_up}
"""

MEETINGS = """\
A run is a meeting: both sides register at the server from a fresh port and find out what their NATs do, the receiver
before it is asked for and the sender beside the rest; the server introduces them, they punch, make TLS connections,
greet, and the sender nominates one.  It counts as connected if both sides have the nominated path.  In each home one
program makes the meetings, each in a process forked for it, so nothing that was learnt and no limit that was used up is
there in the next.  {peers} pairs of keys take turns, since the server allows one pair so many introductions a minute
only.  The server stays, and with it what it learns of ways that win.
"""

PROGRAMS = """\
The column *programs* is there to show that this is no other thing than the product: there a new ``p2pxfer send``
moves {size} bytes to a new ``p2pxfer receive``, both with ``--path direct``, and the run counts if the file arrived
whole.  It holds the runs that connected and their median.  {both}
"""

GIVEN_UP = "A pair of which the first {runs} runs failed is not run again."

FIGURES = """\
Times are milliseconds from the introduction at the sender, of the runs that connected: *TCP* is the median of when the
connection stood, *median* and *90 %* (nearest rank) of when the path was authenticated and nominated.  SYNs are the
medians of all runs, the sender's + the receiver's, without those to the server, repeated ones included.  The letter
says why a run failed.  Pairs without a time for TCP have been run with whole programs only.
"""

PROMISED = """\
Of the pairs that were run as meetings: how many there are of each sort, how many runs at least of each, and in how many
pairs the runs are as promised.
"""

ICMP = """\
A run here is one punch.  Where a NAT answers with ICMP one may be lost on a busy machine: the side that dialled too
early must dial again when the error comes, and the peer's SYN that arrives before it has done so spoils the four-tuple,
since the NAT takes it for the answer to the first SYN (``tests/lab/test_selfcheck_ports.py``).  The machine of these
runs had two processors and other work, so that dialling again took up to some 20 ms.  A program punches once more then,
from fresh ports (``tests/lab/test_second_try.py``).
"""

FAR = """\
At {rtt} ms round trip two cones promise a TCP connection within a median of 2 round trips + 0.1 s of the introduction,
{tcp:g} ms, and an authenticated path within 4.5 round trips + 0.3 s, {path:g} ms.
"""


def render(cells: Sequence[Cell], data: str, enough_failures: int) -> str:
    """The whole page, as reStructuredText."""
    near = [cell for cell in cells if cell.case.rtt_ms == RTT_MS]
    programs = {cell.case.pair: cell for cell in near if cell.case.way == "programs"}
    best = {**programs, **{cell.case.pair: cell for cell in near if cell.case.way == "meetings"}}
    shown = list(best.values())
    letters = name_reasons(shown)
    given_up = any(not cell.connected and cell.runs == enough_failures for cell in shown)
    how = HOW.format(rtt=RTT_MS, given_up=GIVEN_UP.format(runs=enough_failures) if given_up else "")
    both = [(cell, programs[pair]) for pair, cell in best.items() if pair in programs and cell is not programs[pair]]
    texts = (
        MADE.format(data=data),
        how,
        MEETINGS.format(peers=PEERS),
        PROGRAMS.format(size=SIZE, both=agreement(both)),
    )
    parts = [
        TITLE,
        *(f"{filled(text)}\n" for text in texts),
        titled("Homes", meanings(shown)),
        titled("Connected runs", f"{filled(in_all(shown))}\n\n{grid(shown)}"),
        titled("What is promised", promises(shown)),
        titled("Time and SYNs", f"{filled(FIGURES)}\n\n{figures(shown, programs, letters)}"),
        *(titled(f"{rtt} ms", far(rtt, cells)) for rtt in sorted({each.case.rtt_ms for each in cells} - {RTT_MS})),
    ]
    if letters:
        listed = "\n".join(f"{letter}\n{filled(escaped(why), indent='    ')}" for why, letter in letters.items())
        parts.append(titled("Why runs failed", listed))
    return "\n".join(parts)


def promises(cells: Sequence[Cell]) -> str:
    """A row for each promise, and under them the pairs that break one."""
    found = findings([cell for cell in cells if cell.case.way == "meetings"])
    head = ["promised", "pairs", "runs of each", "kept in"]
    lines = [
        [each.promise.words, str(each.pairs), str(each.fewest), str(each.pairs - len(each.broken))]
        for each in found
        if each.pairs
    ]
    broken = [f"{one} + {other}" for each in found for one, other in each.broken]
    text = f"{PROMISED}  {f'Not kept: {_listed(list(dict.fromkeys(broken)))}.' if broken else ''}"
    return f"{filled(text)}\n\n{simple_table([head, *lines])}\n\n{filled(ICMP)}"


def usually(cell: Cell) -> bool:
    """Whether the pair connects in most runs."""
    return 2 * cell.connected > cell.runs


def agreement(both: Sequence[tuple[Cell, Cell]]) -> str:
    """What meetings and programs say of the same pairs, in a sentence."""
    other = [f"{one.case.one} + {one.case.other}" for one, by in both if usually(one) != usually(by)]
    alike = f"{len(both)} pairs were run in both ways, and of {len(both) - len(other)} both say the same:"
    return f"{alike} it connects in most runs, or it does not{f'; not of {_listed(other)}' if other else ''}."


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f"``{word}``" for word in words)


def far(rtt: int, cells: Iterable[Cell]) -> str:
    """A table of what was run with another round trip."""
    head = ["first home", "second home", "connected", "TCP", "90 %", "median", "90 %"]
    lines = [
        [*cell.case.pair, f"{cell.connected} of {cell.runs}", *map(_milliseconds, times)]
        for cell in cells
        if cell.case.rtt_ms == rtt and cell.case.way == "meetings"
        for times in [(cell.tcp_median_ms, cell.tcp_p90_ms, cell.median_ms, cell.p90_ms)]
    ]
    text = FAR.format(rtt=rtt, tcp=2 * rtt + 100, path=4.5 * rtt + 300)
    return f"{filled(text)}\n\n{simple_table([head, *lines])}"


def meanings(cells: Sequence[Cell]) -> str:
    """What each kind of home is."""
    lines = (f"``{kind}``\n{filled(meaning(kind), indent='    ')}" for kind in kinds_of(cells))
    return "\n".join(lines)


def in_all(cells: Sequence[Cell]) -> str:
    """The sums of the table in a sentence."""
    always = sum(cell.connected == cell.runs for cell in cells)
    never = sum(not cell.connected for cell in cells)
    some = len(cells) - always - never
    runs = sum(cell.runs for cell in cells)
    counts = f"{always} connected in every run, {some} in some, {never} in none"
    return f"{len(cells)} pairs: {counts}; {runs} runs, of which {sum(cell.connected for cell in cells)} connected."


def kinds_of(cells: Sequence[Cell]) -> list[str]:
    """The kinds in the order of the cells."""
    return list(dict.fromkeys(kind for cell in cells for kind in cell.case.pair))


def filled(text: str, indent: str = "") -> str:
    """A paragraph in lines of the page, each behind `indent`."""
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


def titled(title: str, text: str) -> str:
    """A section of the page."""
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
    known: dict[Pair, Cell] = {cell.case.pair: cell for cell in cells}
    lines = [["", "kind", *(str(number) for number in range(1, len(kinds) + 1))]]
    for number, kind in enumerate(kinds, 1):
        row = (known.get((kind, other)) or known.get((other, kind)) for other in kinds)
        counts = [NONE if cell is None else f"{cell.connected}/{cell.runs}" for cell in row]
        lines.append([str(number), kind, *counts])
    return simple_table(lines)


def figures(cells: Sequence[Cell], programs: Mapping[Pair, Cell], letters: dict[str, str]) -> str:
    """A row for each pair."""
    head = ["first home", "second home", "connected", "TCP", "median", "90 %", "SYNs", "programs", "why not"]
    return simple_table([head, *(row(cell, programs.get(cell.case.pair), letters) for cell in cells)])


def row(cell: Cell, programs: Cell | None, letters: dict[str, str]) -> list[str]:
    """One pair as texts; `programs` is the same pair run with whole programs."""
    syns = NONE if cell.syns is None else " + ".join(f"{count:g}" for count in cell.syns)
    why = ", ".join(letters[reason] for reason in cell.reasons)
    times = map(_milliseconds, (cell.tcp_median_ms, cell.median_ms, cell.p90_ms))
    beside = NONE if programs is None else f"{programs.connected}/{programs.runs} {_milliseconds(programs.median_ms)}"
    return [*cell.case.pair, f"{cell.connected} of {cell.runs}", *times, syns, beside, why or NONE]


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
