"""The one-time codes that a receiver shows: a fresh one when the last was used, has expired or was guessed at."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall

from p2pxfer.cli.report import Reporter
from p2pxfer.core.contact.codebook import CodeBook, WrongTries
from p2pxfer.core.contact.codes import RANDOM_BYTES, Code, make_code, normalise_code, parse_code
from p2pxfer.core.text import safe_text
from p2pxfer.errors import CodeInvalid, P2pxferError
from p2pxfer.net.types import Reactor
from p2pxfer.status import CodeShown, Failed, Note


class CodeDesk:
    """Shows codes and says what became of them; ``codes`` is where senders are checked against them.

    ``given`` is the one code of a script: it is shown once, and no other follows it.  ``command`` is what shows them;
    ``text`` says for people what a code is for, in place of the usual line; ``on_exhausted`` is called when there will
    be no other one after wrong tries.
    """

    def __init__(
        self,
        reactor: Reactor,
        codes: CodeBook,
        report: Reporter,
        given: Code | None,
        *,
        command: str = "receive",
        text: Callable[[CodeShown], str | None] = lambda shown: None,
        on_exhausted: Callable[[], None] = lambda: None,
    ) -> None:
        self._command = command
        self._text = text
        self._on_exhausted = on_exhausted
        self._reactor = reactor
        self._codes = codes
        self._report = report
        self._given = given
        self._tries = WrongTries()
        self._showing = False
        self._closed = False
        self._timer: IDelayedCall | None = None

    def open(self) -> None:
        """Show the first code."""
        self._show(self._given)

    def close(self) -> None:
        """Show no more, whatever is tried, and let nobody prove what was shown."""
        self._closed = True
        self._showing = False
        self._stop_timer()
        self._close_codes()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _close_codes(self) -> None:
        for slot in self._codes.open_slots:
            self._codes.close(slot)

    @property
    def holds(self) -> str:
        """What is said of the code where it might be missed, behind something else; nothing where none is open."""
        return "; the one-time code that was shown still holds" if self._showing else ""

    def used(self, error: P2pxferError | None, who: str = "somebody") -> None:
        """``who`` tried a code; ``error`` if it was wrong."""
        # A try at a number under which no code is open costs nothing, here and in the pauses.
        spent = self._showing and not self._codes.open_slots
        if error is not None:
            holds = "; the one that is shown still holds" if self._showing else ""
            untouched = f"{who} tried a code that is not open: it was used or has expired, or is mistyped{holds}"
            # That it is spent says it all to people.
            event = Failed(code=error.word, message=error.message, retry=False)
            self._report.tell(event, "" if spent else untouched)
        else:
            self._tries.right()
        if spent:
            self._showing = False
            self._stop_timer()
            self._follow(who, wrong=error is not None)

    def _show(self, code: Code | None = None) -> None:
        now = self._reactor.seconds()
        shown = code or make_code(self._codes.next_slot, os.urandom(RANDOM_BYTES))
        ends = self._codes.open(shown, now)
        event = CodeShown(code=str(shown), expires_s=round(ends - now))
        self._report.tell(event, self._text(event))
        self._showing = True
        self._stop_timer()
        self._timer = self._reactor.callLater(ends - now, self._expired)

    def _expired(self) -> None:
        self._showing = False
        self._close_codes()
        if self._given is not None:
            self._report.tell(Note(f"the code has expired; start {self._command} again for another one"))
        else:
            self._show()

    def _follow(self, who: str, *, wrong: bool) -> None:
        """The code that was shown is gone: show a fresh one, at once or after a pause, or never again."""
        pause = self._tries.wrong() if wrong else 0.0
        if self._given is not None:
            hint = f"; start {self._command} again for another one"
        elif pause is None:
            hint = f"; too many in a row, so no code is shown until {self._command} is started again"
        else:
            hint = f"; another one is shown in {pause:g} seconds" if pause else ""
        if wrong:
            self._report.tell(Note(f"{who} tried a wrong code; it is spent{hint}"), wanted=True)
        if pause is None:
            self._on_exhausted()
        if self._given is None and pause is not None:
            if pause:
                self._timer = self._reactor.callLater(pause, self._show)
            else:
                self._show()


def parse_given(text: str, slot: int) -> Code:
    """A code from the command line: whole, or its words alone.

    Raises:
        CodeInvalid: it is neither.
    """
    plain = normalise_code(text)
    try:
        return parse_code(plain)
    except CodeInvalid:
        return parse_code(f"{slot}-{plain}")


def qr_code(code: str) -> str:
    """The code as a QR code of block characters, for terminals with light letters on a dark ground."""
    import segno

    text = io.StringIO()
    # Capitals, digits and dashes need few modules.
    segno.make(safe_text(code).upper(), error="m", micro=False).terminal(out=text, compact=True, border=2)
    return text.getvalue().rstrip("\n")
