"""What a chat notes on the disk while it runs: the outbox, the ids of what came, the history.

Laws of this file:

1. One thread writes, in order; while it does, what is to be written next is gathered, so a burst costs a few writes.
2. A disk that takes nothing is said once, until it takes something again, and stops nothing: lines are sent although
   they are in memory only; what came has no receipt, so the peer keeps it, and is noted with the next try.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.cli.chatleft import lost_text
from p2pxfer.core.session.conversation import Conversation, Line
from p2pxfer.net.services.chatstore import ChatStore, Side
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker

RETRY_S: Final = 5.0
"""After what time a disk that refused is tried again, seconds."""


class ChatNotes:
    """See the laws above; ``push`` is called when there may be something to send, ``note`` says what people see."""

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        store: ChatStore,
        conversation: Conversation,
        history: bool,
        note: Callable[[str], None],
        push: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._conversation = conversation
        self._history = history
        self._note = note
        self._push = push
        self._worker = Worker(reactor, "chat notes")
        self._said: list[bytes] = []
        self._heard: list[bytes] = []
        self._unmarked: list[bytes] = []
        self._lines: list[tuple[Side, Line]] = []
        self._outbox = {line.id for line in conversation.pending}
        """What the outbox holds on the disk."""
        self._refused = ""
        """Why the disk did not take the outbox when it refused last."""
        self._stale = False
        self._busy = False
        self._complained = False
        self._retry: IDelayedCall | None = None
        self._waiting: list[Deferred[None]] = []

    def said(self, line: Line) -> None:
        """A line of this side is to be kept until it is delivered."""
        self._said.append(line.id)
        self._remember("here", line)
        self._outbox_changed()

    def delivered(self) -> None:
        """The outbox has become shorter."""
        self._outbox_changed()

    def heard(self, line: Line, noted: bool) -> None:
        """A line of the peer was shown; ``noted``: and :meth:`ChatStore.shown` said so."""
        self._heard.append(line.id)
        if not noted:
            self._unmarked.append(line.id)
        self._remember("there", line)
        self._write()

    def _outbox_changed(self) -> None:
        self._stale = True
        self._write()

    def _remember(self, side: Side, line: Line) -> None:
        if self._history:
            self._lines.append((side, line))

    async def settled(self) -> None:
        """Wait until everything is written, or was tried."""
        if self._busy:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    async def last_try(self, peer: str) -> str:
        """Write what there is, also what the disk refused before; returns what to say of lines for ``peer`` that are in
        memory only then, and end with the program; empty where there are none."""
        await self.settled()
        self._write()  # nothing if nothing is left
        await self.settled()
        pending = self._conversation.pending
        lost = sum(line.id not in self._outbox for line in pending)
        return lost_text(peer, lost, len(pending) - lost, self._refused)

    async def close(self) -> None:
        """Write what there is and stop."""
        await self.settled()
        self._write()
        await self.settled()
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._worker.stop()

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        if self._busy or not (self._stale or self._heard or self._lines):
            return
        self._busy = True
        said, self._said = self._said, []
        heard, self._heard = self._heard, []
        lines, self._lines = self._lines, []
        pending = self._conversation.pending if self._stale else None
        self._stale = False
        unmarked, self._unmarked = self._unmarked, []
        written = self._worker.do(self._write_all, pending, heard, unmarked, lines)
        written.addCallback(self._written, pending, said, heard, unmarked).addErrback(self._broken)

    def _write_all(
        self,
        pending: list[Line] | None,
        heard: list[bytes],
        unmarked: list[bytes],
        lines: list[tuple[Side, Line]],
    ) -> tuple[OSError | None, OSError | None, OSError | None]:
        """In the thread: what became of the outbox, of the ids and of the history."""
        return (
            _refused(lambda: self._store.save_outbox(pending) if pending is not None else None),
            _refused(lambda: self._mark(unmarked) if heard else None),
            _refused(lambda: self._store.remember(lines)),
        )

    def _mark(self, unmarked: list[bytes]) -> None:
        """In the thread: the ids that could not be noted when their lines were shown, and all of them durably."""
        while unmarked:
            self._store.shown(unmarked[0])
            del unmarked[0]
        self._store.keep()

    def _written(
        self,
        errors: tuple[OSError | None, OSError | None, OSError | None],
        pending: list[Line] | None,
        said: list[bytes],
        heard: list[bytes],
        unmarked: list[bytes],
    ) -> None:
        self._busy = False
        outbox, ids, history = errors
        # Without a place on the disk a line is better sent than not.
        self._conversation.noted(said)
        if ids is None:
            self._conversation.kept(heard)
        else:
            self._heard = heard + self._heard
            self._unmarked = unmarked + self._unmarked
        if outbox is not None:
            self._stale, self._refused = True, outbox.strerror or str(outbox)
        elif pending is not None:
            self._outbox = {line.id for line in pending}
        if any(errors):
            self._complain(outbox, ids, history)
            if outbox is not None or ids is not None:
                self._try_later()
        else:
            self._complained = False
        self._push()
        # Without the history alone there is nothing to wait for: what it misses it misses.
        if outbox is None and ids is None:
            self._write()
        if not self._busy:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def _complain(self, outbox: OSError | None, ids: OSError | None, history: OSError | None) -> None:
        if self._complained:
            return
        self._complained = True
        why = next(error.strerror or str(error) for error in (outbox, ids, history) if error is not None)
        what = []
        if outbox is not None:
            what.append("a line that is not delivered when this program ends is lost")
        if ids is not None:
            what.append("the peer keeps what it says")
        if not what:
            what.append("only the history misses lines")
        self._note(f"this chat cannot be kept on the disk ({why}): {', and '.join(what)}")

    def _try_later(self) -> None:
        if self._retry is None or not self._retry.active():
            self._retry = self._reactor.callLater(RETRY_S, self._write)

    def _broken(self, failure: Failure) -> None:
        self._busy = False
        self.log.failure("notes of a chat could not be written", failure)


def _refused(write: Callable[[], object]) -> OSError | None:
    try:
        write()
    except OSError as error:
        return error
    return None
