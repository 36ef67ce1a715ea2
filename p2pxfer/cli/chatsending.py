"""What is sent within a chat: one file or directory after the other, each with its record in ``p2pxfer jobs``."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.cli.sendmemory import SendMemory
from p2pxfer.cli.ticker import Ticker
from p2pxfer.core.ids import PeerId
from p2pxfer.core.ownnames import common_name
from p2pxfer.core.text import safe_text
from p2pxfer.core.words.eventtext import contents, human_size, some_of
from p2pxfer.errors import P2pxferError, Unreachable
from p2pxfer.net.queue.sendjobs import SendJob
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.seeking import Patience, Target
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.outgoing import OutgoingJob
from p2pxfer.net.transfer.pump import ChunkPump
from p2pxfer.net.transfer.source import Source
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.worker import Worker
from p2pxfer.status import Accepted, Done, Event, Note, Offer, Resumed

PURPOSE: Final = "chatfile"
MAX_QUEUE: Final = 16
"""Most files that wait to be sent."""
NO_PATH_S: Final = 60.0
"""Of no account where a file waits for its receiver as long as the chat runs."""


class _ChatPump(ChunkPump):
    """A pump whose user has nothing to do when it was cut and the peer comes back."""

    after_cut = "what arrived is kept there, and it goes on by itself while this chat is open"


class ChatSending:
    """The sending side of the files in a chat; ``on_idle`` is called when everything is sent that was to be.

    ``tell`` hears of each step, with what people see of it, ``None`` for the usual line; ``tell_some`` of what happens
    on the way.  ``here``: whether the peer chats now.  ``failed``: why the last file that was not sent was not.
    """

    log = Logger()

    def __init__(
        self,
        machine: Machine,
        peer: KnownPeer,
        tell: Callable[[Event, str | None], None],
        tell_some: Callable[[Event], None],
        on_idle: Callable[[], None],
        here: Callable[[], bool],
    ) -> None:
        self._machine = machine
        self._peer = peer
        self._tell = tell
        self._tell_some = tell_some
        self._on_idle = on_idle
        self._here = here
        self.failed: P2pxferError | None = None
        self._queue: deque[str] = deque()
        self._current = ""
        """What is sent, until its end was told."""
        self._begins = ""
        """What is to be said when the peer takes it."""
        self._sending: Deferred[None] | None = None
        self._job: OutgoingJob | None = None
        self._sent_before = 0
        self._disk = Worker(machine.reactor, "chat files")
        self._client: RendezvousClient | None = None
        self._started = False

    def start(self, client: RendezvousClient | None) -> None:
        """From now on there is a server, or it is known that there is none."""
        self._client, self._started = client, True
        self._next()

    async def close(self) -> None:
        """Send nothing any more; what arrived there is kept, and back when it is written down how that goes on.

        What nothing is kept of is named: nobody else remembers it.
        """
        self._started = False
        sending = self._sending
        if sending is not None:
            sending.cancel()
            await sending
        if self._queue:
            again = "it" if len(self._queue) == 1 else "them"
            self._note(f"not sent: {', '.join(map(_called, self._queue))}; /send {again} again")
            self._queue.clear()
        self._disk.stop()

    @property
    def idle(self) -> bool:
        """Nothing is sent or waits for it."""
        return self._sending is None and not self._queue

    @property
    def moved(self) -> int:
        """Bytes that were sent until now."""
        return self._sent_before + (sum(self._job.bytes_by_path.values()) if self._job is not None else 0)

    def send(self, path: str) -> None:
        """Send a file or directory, after those that were asked for before."""
        if len(self._queue) >= MAX_QUEUE:
            self._note(f"{MAX_QUEUE} files are waiting to be sent; this one was not taken")
            return
        ahead = self._queue[-1] if self._queue else self._current
        self._queue.append(path)
        if ahead:
            self._note(f"{_called(path)} waits behind {_called(ahead)}")
        elif not self._started:
            self._note("files wait until the words were compared")
        self._next()

    def _note(self, text: str) -> None:
        self._tell(Note(text), None)

    def _next(self) -> None:
        if self._started and self._sending is None and self._queue:
            self._current = self._queue.popleft()
            sending = self._sending = Deferred.fromCoroutine(self._send(self._current))
            sending.addErrback(self._not_sent).addCallback(self._sent)

    def _sent(self, result: None) -> None:
        self._sent_before = self.moved
        self._sending = self._job = None
        self._current = self._begins = ""
        self._next()
        if self.idle:
            self._on_idle()

    def _not_sent(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            if self._current:  # nothing of it is kept
                self._queue.appendleft(self._current)
            return
        if not isinstance(error, P2pxferError):
            self.log.failure("a file was not sent", failure)
            error = Unreachable("a fault inside the program")
        self.failed = error
        self._note(f"not sent: {error.message}")

    async def _send(self, path: str) -> None:
        source = await self._disk.make(Source.scan, [path])
        try:
            await self._send_source(source, await self._disk.do(os.path.abspath, path))
        finally:
            source.close()

    async def _send_source(self, source: Source, path: str) -> None:
        if self._client is None:
            raise Unreachable("this chat is without files")
        machine, manifest, key = self._machine, source.manifest, self._peer.key
        for skipped in source.skipped:
            self._note(f"skipped {safe_text(str(skipped))}")
        offer = Offer(files=len(manifest.files), bytes=manifest.total_bytes, names=tuple(manifest.top_names))
        self._begins = f"sending {contents(offer)}"
        if self._here():
            self._begin()
        else:
            peer, names = safe_text(self._peer.shown), some_of(manifest.top_names)
            self._note(f"{peer} is not here yet; {names} waits until {peer} is, as long as this chat runs")
        cache = await self._disk.make(HashCache, str(machine.home.path), manifest, source.identity, time.time())
        try:
            memo = SendJob([path], self._peer.name or str(PeerId(key)))
            memory = await self._disk.make(SendMemory, machine.home, memo, source)
            try:
                await self._send_cargo(self._client, source, _ChatPump(machine.reactor, source, cache, 0), memory)
            finally:
                memory.close()
        finally:
            await self._disk.do(cache.close)

    def _begin(self) -> None:
        """Say once that it is sent."""
        if self._begins:
            self._note(self._begins)
            self._begins = ""

    async def _send_cargo(self, client: RendezvousClient, source: Source, pump: ChunkPump, memory: SendMemory) -> None:
        machine, manifest, key = self._machine, source.manifest, self._peer.key

        def happened(event: Event) -> None:
            """The record follows what happens."""
            memory.event(event)
            if isinstance(event, Accepted):
                self._begin()
            elif isinstance(event, Resumed):
                self._note(f"going on: {safe_text(self._peer.shown)} has {human_size(event.have_bytes)} already")
            self._tell_some(event)

        job = self._job = OutgoingJob(
            machine,
            client,
            Target(common_name(PURPOSE, key), key, None, None, "contact", None, self._peer.shown),
            pump,
            patience=Patience(wait=True, without_path=NO_PATH_S),
            tell=happened,
            on_paired=lambda key, name: None,
            on_relayed=lambda meeting: None,
        )
        memory.begin(machine.reactor)
        ticker = Ticker(machine.reactor, lambda: (pump.acked_bytes, manifest.total_bytes, job.path_kind), memory.event)
        ticker.start()
        began = machine.reactor.seconds()
        try:
            root = await job.run()
        except Exception as error:
            if await memory.failed(error, pump.acked_bytes):
                self._note(self._kept(memory.number, manifest.top_names, pump.acked_bytes, manifest.total_bytes))
                self._current = ""
            raise
        finally:
            ticker.stop()
        await memory.done()
        seconds = machine.reactor.seconds() - began
        left, moved = pump.left, dict(job.bytes_by_path)
        files = len(manifest.files) - left.files
        self._tell(Done(pump.acked_bytes, files, round(seconds, 3), moved, root.hex(), left_out=left.paths), None)
        if left.error is not None:
            self.failed = left.error
            self._note(left.error.message)

    def _kept(self, number: str, names: list[str], acked: int, size: int) -> str:
        """Of what was cut, what there is of it at the peer and how it goes on."""
        return (
            f"{human_size(acked)} of {human_size(size)} of {some_of(names)} are kept there; they go on when you send it"
            f" again, in a chat or with p2pxfer jobs resume {number} while {self._peer.shown} receives into the same"
            " directory"
        )


def _called(path: str) -> str:
    """A file or directory as its user calls it, in short."""
    return safe_text(Path(path).name or path, 200)
