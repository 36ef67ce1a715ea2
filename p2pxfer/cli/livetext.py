"""What stands on the terminal while a transfer runs, as text: a line of its state, one of its rate in the last minute.

Laws of this file:

1. No line is wider than the terminal: what matters least is left out first, and the graph takes what is left.  Wide is
   what a terminal shows: some letters take two of its columns, others none.
2. The graph shows bytes that were moved, by the path that moved them; what never moved, such as what was here before,
   is not in it.
3. Memory is bounded by the span of the graph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import ceil
from typing import Final, Literal

from msgspec import Struct
from rich.cells import cell_len, set_cell_size

from p2pxfer.core.words.eventtext import human_size
from p2pxfer.status import Progress

SPAN_S: Final = 60
"""What the graph shows, seconds."""
BARS: Final = "▁▂▃▄▅▆▇█"
PLAIN_BARS: Final = "_.-=+*%#"
"""For terminals that know no others."""
NARROW: Final = 8
"""A bar or graph of fewer columns says nothing."""
STILL_S: Final = 3.0
"""From when on a path over which nothing comes has no rate, seconds."""
_RATE_S: Final = 10
"""The time left follows from the rate of so many seconds."""

Style = Literal["", "relay", "direct", "dim"]


class Piece(Struct, frozen=True):
    """Some text in one style."""

    text: str
    style: Style = ""


Line = list[Piece]


class _Second(Struct):
    at: int
    since: float
    """When what it holds began to be moved: the time of the report before its first one."""
    bytes: int = 0
    path: str = "none"
    most: int = 0
    """What ``path`` moved of it: the one that moved most."""


class RateHistory:
    """How much was moved in each of the last seconds, and over which path."""

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque(maxlen=SPAN_S + 1)
        self._before: int | None = None
        self._since = self._last = 0.0
        self._moved: float | None = None

    def add(self, now: float, size: int, path: str) -> None:
        """``size`` bytes are there in all, the newest of them over ``path``."""
        if self._before is None:
            self._before, self._since, self._last, self._moved = size, now, now, now
        moved, self._before = max(0, size - self._before), size
        if moved:
            self._moved = now
        if not self._seconds or self._seconds[-1].at != int(now):
            self._seconds.append(_Second(int(now), self._last))
        self._last = now
        second = self._seconds[-1]
        second.bytes += moved
        if moved and moved >= second.most:
            second.path, second.most = path, moved

    def columns(self, now: float, width: int) -> list[tuple[float, str]]:
        """Bytes a second and path in ``width`` parts of the last minute, the newest last; none before the start.

        ``width`` is at most :data:`SPAN_S`.  The second that goes on is not in it.
        """
        end, span = int(now), SPAN_S / width
        found: list[tuple[float, str]] = []
        for number in range(width):
            first, last = (ceil(end - SPAN_S + place * span) for place in (number, number + 1))
            if last <= self._since:
                continue
            inside = [one for one in self._seconds if first <= one.at < last]
            most = max(inside, key=lambda one: one.bytes, default=None)
            path = most.path if most is not None else "none"
            found.append((sum(one.bytes for one in inside) / (last - first), path))
        return found

    def still(self, now: float) -> float:
        """For how long nothing was moved, seconds; 0 before the first report."""
        return 0.0 if self._moved is None else max(0.0, now - self._moved)

    def rate(self, now: float) -> float:
        """Bytes a second in the last seconds, for what is left."""
        recent = [one for one in self._seconds if one.at > now - _RATE_S - 1]
        lasted = now - recent[0].since if recent else 0.0
        return sum(one.bytes for one in recent) / lasted if lasted > 0 else 0.0


def graph(columns: Sequence[tuple[float, str]], *, plain: bool = False) -> Line:
    """Rates as a row of bars, as high as they are beside the highest; neighbours of one style are one piece."""
    bars = PLAIN_BARS if plain else BARS
    top = max((rate for rate, _ in columns), default=0.0)
    line: Line = []
    for rate, path in columns:
        height = min(len(bars) - 1, int(rate / top * len(bars))) if top else 0
        style: Style = "dim" if path == "none" else "relay" if path == "relay" else "direct"
        if line and line[-1].style == style:
            line[-1] = Piece(line[-1].text + bars[height], style)
        else:
            line.append(Piece(bars[height], style))
    return line


def state_line(
    progress: Progress, left: float | None, width: int, *, plain: bool = False, still: float = 0.0,
    waits: str | None = None,
) -> Line:  # fmt: skip
    """Path, bar, bytes, rate and time left, or for how long nothing was moved, ``still`` in seconds.

    ``left`` in seconds, ``None`` if nobody knows; ``waits`` says in place of a path what is waited for.
    """
    path = (waits or "waiting") if progress.path == "none" else progress.path
    style: Style = "" if progress.path == "none" else "relay" if progress.path == "relay" else "direct"
    size = human_size(progress.bytes)
    share = f"{100 * progress.bytes / progress.total:.0f} %" if progress.total else ""
    full = f"{size} of {human_size(progress.total)}" if progress.total is not None else size
    waits = _waits(progress, still)
    rate, rest = (waits, "") if waits else (f"{human_size(progress.rate)}/s", _time_left(left))
    # In the order in which they are given up.
    choices = [[full, rate, rest], [share or size, rate, rest], [share or size, rate], [share or size], []]
    fields = next(one for one in choices if not one or _width([path, *one]) <= width)
    fields = [field for field in fields if field]
    room = width - _width([path, *fields]) - 2
    line = [Piece(_cut(path, width), style)]
    if progress.total and room >= NARROW:
        line += [Piece("  "), *_bar(progress.bytes / progress.total, room, style, plain=plain)]
    if fields:
        line.append(Piece("  " + "  ".join(fields)))
    return line


def _width(fields: Sequence[str]) -> int:
    shown = [field for field in fields if field]
    return sum(map(cell_len, shown)) + 2 * (len(shown) - 1)


def _bar(share: float, width: int, style: Style, *, plain: bool) -> Line:
    done = min(width, int(share * width))
    full, empty = ("#", "-") if plain else ("━", "─")
    return [Piece(full * done, style), Piece(empty * (width - done), "dim")]


def _waits(progress: Progress, still: float) -> str:
    """For how long nothing has moved, if that is worth a word; of what is whole nothing will."""
    if progress.path == "none":
        return f"for {_clock(still)}"
    return f"nothing for {_clock(still)}" if still >= STILL_S and progress.bytes != progress.total else ""


def _time_left(left: float | None) -> str:
    return "" if left is None else f"{_clock(left)} left"


def _clock(seconds: float) -> str:
    whole = min(round(seconds), 359_999)
    hours, minutes = whole // 3600, whole // 60 % 60
    return (f"{hours}:{minutes:02}" if hours else f"{minutes}") + f":{whole % 60:02}"


def news_line(columns: Sequence[tuple[float, str]], news: str, width: int, *, plain: bool = False) -> Line:
    """The graph, and behind it what is being tried or why it is as it is, cut to what has room."""
    line = graph(columns, plain=plain)
    room = width - len(columns) - 2
    if not news or room < NARROW:
        return line
    more = "..." if plain else "…"
    shown = news if cell_len(news) <= room else _cut(news, room - cell_len(more)) + more
    return [*line, Piece("  " + shown, "dim")]


def _cut(text: str, width: int) -> str:
    """As much of a text as has room; where half a letter would have, a space."""
    return text if cell_len(text) <= width else set_cell_size(text, width)


def graph_width(width: int) -> int:
    """How many columns of a terminal the graph gets: half, 20 at least if there are so many, one a second at most."""
    return min(SPAN_S, width, max(20, width // 2))


def time_left(progress: Progress, rate: float) -> float | None:
    """Seconds until everything is there at this rate; ``None`` if nobody knows."""
    if progress.total is None or rate < 1:
        return None
    return max(0, progress.total - progress.bytes) / rate
