"""Shows a run: JSON events for programs on standard output, a display for people on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from p2pxfer.cli.eventline import event_line
from p2pxfer.core.text import safe_text
from p2pxfer.core.words.eventtext import describe
from p2pxfer.status import (
    CodeShown,
    Connection,
    Done,
    Event,
    Failed,
    Listening,
    Note,
    Path,
    Progress,
    Resumed,
    Verdict,
    Words,
)

if TYPE_CHECKING:
    from p2pxfer.cli.display import LineDisplay, ProgressDisplay

TRIED = "a direct path is being tried beside it"
"""What is said of a relay path beside which something goes on."""
ALWAYS = (CodeShown, Failed, Listening, Words)
"""What people have to see also where they want quiet: it went wrong, or they are to pass it on.

A connection that was refused is of the first kind, see :func:`is_urgent`."""


def _nothing() -> None:
    """What a closed output means to whoever does not care."""


class Reporter:
    """Takes events; one instance a command.  ``on_closed`` is called once when nobody reads the output any more.

    ``quiet``: people see nothing but what :func:`is_urgent` and questions.
    """

    def __init__(self, as_json: bool, quiet: bool = False) -> None:
        self.on_closed: Callable[[], None] = _nothing
        self._closed = False
        self._json = as_json
        self._quiet = quiet
        self._start = time.monotonic()
        self._display: ProgressDisplay | LineDisplay | None = None
        self._news = ""
        self._tty = sys.stderr.isatty()
        self._question: str | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the command."""
        return time.monotonic() - self._start

    def tell(self, event: Event, text: str | None = None, *, wanted: bool = False) -> None:
        """Show one event; after the output was closed by whoever read it, do nothing.

        ``text`` is what people see of it in place of the usual line, of progress in place of its path; empty for
        nothing.  ``wanted``: it is what the
        command was called for, so people who want quiet see it too.
        """
        self._guarded(lambda: self._write(event, text, wanted=wanted))

    def note(self, text: str) -> None:
        """:meth:`tell` something that has no event of its own."""
        self.tell(Note(text))

    def told(self, event: Event) -> bool:
        """:meth:`tell` an event; returns whether it was written."""
        return self._guarded(lambda: self._write(event, None))

    def ask(self, question: str) -> None:
        """Show a question and, until :meth:`answered`, no progress, which would run over it.

        On a terminal what is said meanwhile has lines of its own, and the question comes again behind it: its last
        line, since the others stand above.
        """
        self._question = question
        self._drop_display()
        self._guarded(lambda: self._print(question))

    def answered(self, echoed: bool) -> None:
        """The question is over; ``echoed``: the terminal has ended its line."""
        question, self._question = self._question, None
        if question is not None and not echoed:
            self._guarded(lambda: self._print("\n"))

    def _guarded(self, show: Callable[[], None]) -> bool:
        if self._closed:
            return False
        try:
            show()
        except BrokenPipeError:
            self._closed = True
            self.on_closed()
            return False
        return True

    def _write(self, event: Event, text: str | None, *, wanted: bool = False) -> None:
        if self._json:
            sys.stdout.write(event_line(event, self.elapsed) + "\n")
            sys.stdout.flush()
            return
        if self._quiet and not wanted and not is_urgent(event):
            return
        self._tell_news(event, text)
        if isinstance(event, Resumed):
            self._drop_display()  # what was there before is no part of the rate that the next one shows
        if isinstance(event, Progress):
            if text != "":
                self._progress(event, text)
        elif text is None:
            self._show(event)
        elif text:
            if isinstance(event, Done):
                self._drop_display()
            self._say(text)

    def _tell_news(self, event: Event, text: str | None) -> None:
        news = news_of(event, text)
        if news is not None:
            self._news = news
            if self._display is not None:
                self._display.tell(news)

    @property
    def can_ask(self) -> bool:
        """Whether a person sits at this terminal and sees what is written there."""
        return self._tty and not self._json and sys.stdin.isatty()

    def close(self) -> None:
        """Take the progress display away, and end the line of a question that stays open."""
        self._drop_display()
        self.answered(echoed=False)

    def rest(self) -> None:
        """Nothing may be under way any more: take the progress away, until it is told again."""
        self._guarded(self._drop_display)

    def _drop_display(self) -> None:
        if self._display is not None:
            self._display.close()
            self._display = None

    def _say(self, text: str) -> None:
        if self._display is not None:
            self._display.say(text)
        elif self._question is not None and self._tty:
            self._print("\n".join(["", text, self._question.rpartition("\n")[2]]))
        else:
            self._print(text + "\n")

    @staticmethod
    def _print(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    def _show(self, event: Event) -> None:
        match event:
            case Done() | Failed():
                self._drop_display()
                self._say(describe(event))
            case _:
                text = describe(event)
                if text:
                    self._say(text)

    def _progress(self, event: Progress, waits: str | None) -> None:
        if not self._tty or self._question is not None:
            return
        if self._display is None:
            from p2pxfer.cli.display import display_of

            self._display = display_of(self._news)
        self._display.update(event, waits)


def is_urgent(event: Event) -> bool:
    """Whether people have to see this also where they want quiet."""
    return isinstance(event, ALWAYS) or (isinstance(event, Connection) and event.state == "refused")


def news_of(event: Event, text: str | None) -> str | None:
    """What stands beside the graph from this event on, ``None`` for what was there before.

    ``text`` is what is said of the event in place of the usual line.
    """
    match event:
        case Path("relay", "active"):
            # That nothing else came about may have been said before.
            return TRIED if text is not None and text.endswith(TRIED) else None
        case Path(state="active"):
            return ""
        case Path(state="down") if describe(event):
            return describe(event)
        case Verdict(message=message):
            return safe_text(message)
        case _:
            return None
