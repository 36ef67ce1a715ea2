"""The progress of a transfer on a terminal: two lines that are drawn anew.  Imported only when there is a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from p2pxfer import status
from p2pxfer.cli.livetext import Line, RateHistory, graph_width, news_line, state_line, time_left

STYLES = {"": "", "relay": "yellow", "direct": "green", "dim": "bright_black"}
"""Colours by style; the console leaves them out where the terminal has none, or ``NO_COLOR`` is set."""


class ProgressDisplay:
    """The lines of one transfer; ``news`` is what is being tried, or why there is no direct path."""

    def __init__(self, news: str = "", now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._news = news
        self._history = RateHistory()
        self._progress: status.Progress | None = None
        self._console = Console(stderr=True)
        self._plain = not (self._console.encoding or "").lower().startswith("utf")
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()

    def update(self, event: status.Progress) -> None:
        """Show where the transfer is."""
        self._progress = event
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
        lines = [state_line(self._progress, left, width, plain=self._plain, still=self._history.still(now))]
        lines.append(news_line(columns, self._news, width, plain=self._plain))
        self._live.update(Group(*map(_text, lines)), refresh=True)

    def say(self, text: str) -> None:
        """Print a line above."""
        self._console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        """Take the lines away."""
        self._live.stop()


def _text(line: Line) -> Text:
    return Text.assemble(*((piece.text, STYLES[piece.style]) for piece in line), no_wrap=True, overflow="crop")
