"""The progress of a transfer on a terminal: lines that are drawn anew.  Imported only when there is a terminal.

Laws of this file:

1. What is erased are lines of the display, and what another program has begun to write there and not ended.
2. Beside another program of a pipeline, which may write to the same terminal, that is one short line, and the cursor
   stands at its begin between two drawings: lines of the other program begin where they would without it.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from p2pxfer import status
from p2pxfer.cli.livetext import Line, RateHistory, graph_width, news_line, state_line, time_left

STYLES = {"": "", "relay": "yellow", "direct": "green", "dim": "bright_black"}
"""Colours by style; the console leaves them out where the terminal has none, or ``NO_COLOR`` is set."""


ERASE: Final = "\r\x1b[2K"
"""Take the line of the cursor away."""
SHARED_WIDTH: Final = 40
"""Most columns beside other programs: shorter than most lines, so that little is left where one is written over it."""


def display_of(news: str) -> ProgressDisplay | LineDisplay:
    """The display for where this program runs; ``news`` as for :class:`ProgressDisplay`."""
    return LineDisplay() if in_pipeline() else ProgressDisplay(news)


def in_pipeline() -> bool:
    """Whether standard input or output is a pipe: another program is there, and may have the same terminal."""
    for descriptor in (0, 1):
        with suppress(OSError):  # it is closed
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                return True
    return False


class ProgressDisplay:
    """The lines of one transfer; ``news`` is what is being tried, or why there is no direct path."""

    def __init__(self, news: str = "", now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._news = news
        self._history = RateHistory()
        self._progress: status.Progress | None = None
        self._waits: str | None = None
        self._console = Console(stderr=True)
        self._plain = not (self._console.encoding or "").lower().startswith("utf")
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()

    def update(self, event: status.Progress, waits: str | None = None) -> None:
        """Show where the transfer is; ``waits``: what it waits for, where nothing carries it."""
        self._progress, self._waits = event, waits
        self._history.add(self._now(), event.bytes, event.path)
        self._draw()

    def tell(self, news: str) -> None:
        """Other news from here on."""
        self._news = news
        self._draw()

    def _draw(self) -> None:
        if self._progress is None:
            return
        now = self._now()
        # A terminal that is written to in its last column may begin another line.
        width = max(1, self._console.width - 1)
        columns = self._history.columns(now, graph_width(width))
        left = time_left(self._progress, self._history.rate(now))
        still = self._history.still(now)
        lines = [state_line(self._progress, left, width, plain=self._plain, still=still, waits=self._waits)]
        lines.append(news_line(columns, self._news, width, plain=self._plain))
        self._live.update(Group(*map(_text, lines)), refresh=True)

    def say(self, text: str) -> None:
        """Print a line above."""
        self._console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        """Take the lines away."""
        self._live.stop()


class LineDisplay:
    """The line of one transfer; see law 2."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._history = RateHistory()
        self._line = ""
        self._console = Console(stderr=True)
        self._plain = not (self._console.encoding or "").lower().startswith("utf")

    def update(self, event: status.Progress, waits: str | None = None) -> None:
        """Show where the transfer is; for what it ``waits`` there is no room."""
        now = self._now()
        self._history.add(now, event.bytes, event.path)
        width = max(1, min(self._console.width - 1, SHARED_WIDTH))
        left = time_left(event, self._history.rate(now))
        line = state_line(event, left, width, plain=self._plain, still=self._history.still(now))
        with self._console.capture() as drawn:
            self._console.print(_text(line), end="")
        self._line = drawn.get()
        self._write(ERASE, self._line, "\r")

    def tell(self, news: str) -> None:
        """There is no place for news here; they are said in lines of their own."""

    def say(self, text: str) -> None:
        """Print a line above."""
        self._write(ERASE)
        self._console.print(Text(text), soft_wrap=True)
        self._write(self._line, "\r")

    def close(self) -> None:
        """Take the line away."""
        self._write(ERASE)

    def _write(self, *parts: str) -> None:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._console.file.write("".join(parts))
            self._console.file.flush()


def _text(line: Line) -> Text:
    return Text.assemble(*((piece.text, STYLES[piece.style]) for piece in line), no_wrap=True, overflow="crop")
