"""The lines of a chat on standard output: as text, or as events for a program.

Law: a line is noted as shown only when the write of it succeeded; in doubt it is shown again rather than never.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.cli.chatlines import shown_line, write_line
from p2pxfer.cli.chatnotes import ChatNotes
from p2pxfer.cli.report import Reporter
from p2pxfer.core.session.conversation import Line
from p2pxfer.net.services.chatstore import ChatStore, Side
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker
from p2pxfer.status import ChatLine


class ChatScreen:
    """``as_json``: lines are events of ``report``; ``unwritable`` is called when nobody reads the output any more."""

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        report: Reporter,
        as_json: bool,
        store: ChatStore,
        notes: ChatNotes,
        name: str,
        unwritable: Callable[[], None],
    ) -> None:
        self._report = report
        self._json = as_json
        self._store = store
        self._notes = notes
        self._name = name
        self._unwritable = unwritable
        self._terminal = os.isatty(1)
        self._writer = Worker(reactor, "output")
        self._closed = False

    def close(self) -> None:
        """Show no more lines: what still comes has no receipt, and the next chat shows it."""
        self._closed = True
        self._writer.stop()

    def tell(self, line: Line, state: Literal["waiting", "delivered", "received"]) -> bool:
        """Tell a program what became of a line; returns whether it was written."""
        side: Side = "there" if state == "received" else "here"
        return self._json and self._report.told(ChatLine(line.id.hex(), side, line.text, line.at, state))

    def hear(self, line: Line) -> None:
        """Show a line of the peer, then note it."""
        if self._closed:
            return
        if self._json:
            if self.tell(line, "received"):
                self._notes.heard(line, self._mark(line))
            return
        text = shown_line(self._name, line, self._terminal)
        shown = self._writer.do(self._show, line, text)
        shown.addCallback(lambda marked: self._notes.heard(line, marked)).addErrback(self._failed)

    def _show(self, line: Line, text: str) -> bool:
        """In the thread: write and note at once, so that a kill hardly ever comes between."""
        write_line(text)
        return self._mark(line)

    def _mark(self, line: Line) -> bool:
        try:
            self._store.shown(line.id)
        except OSError:
            return False
        return True

    def _failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, OSError):
            self.log.failure("a line could not be shown", failure)
        self._unwritable()
