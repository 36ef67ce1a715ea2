"""What ``p2pxfer jobs`` knows of a ``send`` that runs, or was killed: the record of the command, kept up to date.

Laws of this file:

1. A record is given to the thread as soon as the transfer is accepted; what it says the receiver has confirmed.
2. It is at most :data:`SAVE_S`, a tick of the progress and the time of a write behind, so that after a kill it still
   says about how far it came.
3. While a transfer runs and where it ends, the reactor's thread waits for no disk: a thread writes and removes, in
   order, and the end waits for it, also when somebody cancels that.
"""

from __future__ import annotations

import time
from typing import Final

from msgspec import structs
from twisted.internet.defer import Deferred

from p2pxfer.errors import Declined
from p2pxfer.net.private.home import Home
from p2pxfer.net.queue.sendjobs import SendJob, SendJobs
from p2pxfer.net.transfer.source import Source
from p2pxfer.net.types import Reactor
from p2pxfer.net.uncancelled import uncancelled
from p2pxfer.net.worker import Worker
from p2pxfer.status import Accepted, Event, Progress, Resumed

SAVE_S: Final = 1.0
"""How often the progress is written down at most, seconds."""


class SendMemory:
    """The record of one command."""

    def __init__(self, home: Home, memo: SendJob, source: Source) -> None:
        """Raises ``UsageError`` where another process, or another record of this one, sends the same already."""
        self._jobs = SendJobs(home.path)
        self._manifest = source.manifest
        self._memo = structs.replace(memo, transfer=source.manifest.transfer_id.hex())
        self._reactor: Reactor | None = None
        self._worker: Worker | None = None
        self._accepted = False
        self._saved = 0.0
        self._saving: Deferred[None] | None = None
        self._jobs.hold(self._memo)

    @property
    def number(self) -> str:
        """By which people name the job."""
        return self._memo.number

    def begin(self, reactor: Reactor) -> None:
        """From now on there are events."""
        self._reactor = reactor
        self._worker = Worker(reactor, "record")

    def event(self, event: Event) -> None:
        """Something happened to the transfer."""
        if isinstance(event, Accepted):
            self._accepted = True
            self._note(0)
        elif isinstance(event, Resumed):
            self._note(event.have_bytes)
        elif isinstance(event, Progress) and event.bytes != self._memo.acked and self._is_due():
            self._note(event.bytes)

    def _is_due(self) -> bool:
        """Whether what is on the disk is old, and what was given to the thread is there; the first bytes are news."""
        old = self._reactor is not None and self._reactor.seconds() - self._saved >= SAVE_S
        return self._saving is None and (old or not self._memo.acked)

    def _note(self, acked: int) -> None:
        """So far it has come; if it ends here, it can be gone on with."""
        if not self._accepted or self._worker is None or self._reactor is None:
            return
        self._saved = self._reactor.seconds()
        size = self._manifest.total_bytes
        self._memo = structs.replace(self._memo, acked=acked, size=size, changed=time.time())
        saving = self._saving = self._worker.do(self._jobs.save, self._memo)

        def saved(_: object) -> None:
            """The next one may be written."""
            if self._saving is saving:
                self._saving = None

        saving.addBoth(saved)

    @uncancelled
    async def failed(self, error: Exception, acked: int) -> bool:
        """It ends here by this, be it a fault of the program, with ``acked`` bytes; back when that is written down.

        Whether it can be gone on with: not before it was accepted, nor where the receiver wants it no more.
        """
        if isinstance(error, Declined):
            await self.done()
            return False
        self._note(acked)
        await self._settle()
        return self._accepted

    @uncancelled
    async def done(self) -> None:
        """Nothing is left to be done; back when the record is gone."""
        if self._worker is not None:
            await self._worker.do(self._jobs.remove, self._memo)
        await self._settle()

    async def _settle(self) -> None:
        if self._worker is not None:
            await self._worker.stop()

    def close(self) -> None:
        """The run has ended."""
        self._jobs.close()
