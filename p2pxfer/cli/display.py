"""The progress bar on a terminal: bytes, rate, time left, path.  Imported only when there is a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from p2pxfer import status
from p2pxfer.core.session.eventtext import human_size


class ProgressDisplay:
    """One bar for one transfer of ``total`` bytes, ``None`` if nobody knows."""

    def __init__(self, total: int | None) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[path]:>8}"),
            BarColumn(bar_width=None),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            refresh_per_second=4,
            transient=True,
        )
        self._task = self._progress.add_task("transfer", total=total, path="", rate="")
        self._progress.start()

    def update(self, event: status.Progress) -> None:
        """Show where the transfer is."""
        path = "waiting" if event.path == "none" else event.path
        rate = f"{human_size(event.rate)}/s"
        self._progress.update(self._task, completed=event.bytes, total=event.total, path=path, rate=rate)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(escape(text), highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()
