"""One run of a queued transfer: wait for the peer, then send, until it is through or something ends it.

Laws of this file:

1. Nothing is opened before the peer is there, and then all is looked at anew: what changes while the peer is away is
   sent as it is when the peer comes.
2. Only the server is asked while the peer is away, and it answers the moment the peer registers.
3. The peer remembers what it has got until it hears that this is known here, and hears it only when the queue has
   forgotten the entry: whoever is killed in between sends nothing twice.
4. When a run has ended nothing of it is left: no connection, no thread, no open file.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Protocol

from msgspec import structs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from p2pxfer.core.backoff import Backoff
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Introduction
from p2pxfer.errors import P2pxferError, Unreachable, UsageError
from p2pxfer.net.queue.queuestore import Queued
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.seeking import LONGEST_PAUSE_S, WAIT_S, Patience, Target, introduced_to
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.outgoing import OutgoingJob
from p2pxfer.net.transfer.pump import ChunkPump
from p2pxfer.net.transfer.scan import Scan
from p2pxfer.net.transfer.source import Source
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.worker import Worker
from p2pxfer.status import Accepted, Event

PATHLESS_S = 60.0
"""How long a run may be without any path before it ends and the queue decides, seconds."""
QUIET_S = 10.0
"""How long the end of a run waits for a disk that does not answer, seconds."""


class Run(Protocol):
    """A run, as the queue sees it: how far it came, also after its end."""

    @property
    def transfer(self) -> str:
        """The transfer id in hex, empty while the peer is away."""

    @property
    def size(self) -> int:
        """Bytes of it, as far as they were counted."""

    @property
    def acked(self) -> int:
        """Bytes that the peer has confirmed."""

    async def run(self) -> None:
        """Returns when it is through, and nothing is left of it.

        Raises:
            P2pxferError: why it ended.
        """


class RunOwner(Protocol):
    """The queue, as a run sees it."""

    def met(self) -> Deferred[None]:
        """The peer is there; the run goes on as soon as this fires, when whoever queues the same again can see it."""

    def accepted(self) -> None:
        """The peer takes it; may be said again after a cut."""

    def through(self) -> Deferred[None]:
        """The peer has all of it; what is left is to part, as soon as this fires."""

    def short(self, error: P2pxferError) -> Deferred[None]:
        """The peer has all of it but files that were left out, and there will be no other run; as :meth:`through`."""


class QueuedPump(ChunkPump):
    """A pump that says when all is through, before the peer hears that this is known, and who goes on after a cut."""

    after_cut = "what arrived is kept there, and it goes on by itself"
    on_through: Callable[[P2pxferError | None], Deferred[None]]

    def attach(self, paths: PathSet, done: Callable[[bytes], None], failed: Callable[[Exception], None]) -> None:
        """See the base class."""

        def noted(root: bytes) -> None:
            """It is through: that is written down before the peer is told that this side knows."""
            self.on_through(self.left.error).addCallback(lambda _: done(root))

        super().attach(paths, noted, failed)


class QueueRun:
    """The run of ``entry``, in the way in which whoever queued it wanted it sent."""

    def __init__(self, machine: Machine, entry: Queued, owner: RunOwner) -> None:
        self._machine = structs.replace(machine, approach=entry.approach)
        self._reactor = machine.reactor
        self._entry = entry
        self._owner = owner
        self._disk = Worker(machine.reactor, "queued")
        self._source: Source | None = None
        self._cache: HashCache | None = None
        self._pump: QueuedPump | None = None
        self._lost: P2pxferError | None = None

    @property
    def transfer(self) -> str:
        """See :class:`Run`."""
        return self._source.manifest.transfer_id.hex() if self._pump is not None and self._source is not None else ""

    @property
    def size(self) -> int:
        """See :class:`Run`."""
        return self._source.manifest.total_bytes if self._source is not None else 0

    @property
    def acked(self) -> int:
        """See :class:`Run`."""
        return self._pump.acked_bytes if self._pump is not None else 0

    async def run(self) -> None:
        """See :class:`Run`."""
        try:
            target = await self._disk.do(self._look_up)
            client = self._client()
            try:
                await client.start()
                sending = Deferred.fromCoroutine(self._whole(client, target))
                client.failed.addCallback(self._fail, sending)
                await sending
            except CancelledError:
                if self._lost is not None:
                    raise self._lost from None
                raise
            finally:
                await client.leave()
        finally:
            await self._tidy()

    def _look_up(self) -> Target:
        """Whom it is for; in the thread."""
        entry = self._entry
        contact = self._machine.home.contact_by_id(PeerId(entry.key))
        if contact is None:
            raise UsageError(f"{entry.peer} is not a contact any more; pair again and resume it, or cancel it")
        return Target(entry.peer, entry.key, None, contact.name, "contact", None)

    def _client(self) -> RendezvousClient:
        return self._machine.client()

    def _fail(self, error: P2pxferError, sending: Deferred[None]) -> None:
        """The connection to the server does not come back."""
        self._lost = error
        sending.cancel()

    async def _whole(self, client: RendezvousClient, target: Target) -> None:
        introduction = await self._introduction(client, target)
        # That may have taken days, in which a person may have removed or renamed the contact.
        target = await self._disk.do(self._look_up)
        await self._owner.met()
        await self._send(client, target, introduction)

    async def _introduction(self, client: RendezvousClient, target: Target) -> Introduction:
        """Wait for the peer, for as long as what is to be sent is there."""
        backoff = Backoff(random.random, longest=LONGEST_PAUSE_S)
        entry = self._entry
        while True:
            await client.when_registered()
            await self._disk.do(Scan, entry.paths, entry.links)
            since = self._reactor.seconds()
            try:
                return await introduced_to(client, target.to, target.alias, entry.policy, "not here", WAIT_S)
            except Unreachable:
                # A server where too many wait for this peer says at once that it is not here.
                if self._reactor.seconds() - since >= WAIT_S / 2:
                    backoff.reset()
                    continue
            await deferLater(self._reactor, backoff.next())

    async def _send(self, client: RendezvousClient, target: Target, first: Introduction) -> None:
        entry = self._entry
        source, cache = await self._disk.do(self._open)
        pump = self._pump = QueuedPump(self._reactor, source, cache, entry.limit, delta=entry.delta)
        pump.on_through = self._through
        job = OutgoingJob(
            self._machine, client, target, pump, patience=Patience(wait=False, without_path=PATHLESS_S),
            tell=self._told, on_paired=_paired, on_relayed=_relayed, first=first,
        )  # fmt: skip
        await job.run()
        if pump.left.error is not None:
            raise pump.left.error

    def _through(self, shortfall: P2pxferError | None) -> Deferred[None]:
        return self._owner.through() if shortfall is None else self._owner.short(shortfall)

    def _told(self, event: Event) -> None:
        if isinstance(event, Accepted):
            self._owner.accepted()

    def _open(self) -> tuple[Source, HashCache]:
        """In the thread, since the hashes of a million files take a second; who is stopped meanwhile finds both."""
        source = self._source = Source.open(self._entry.paths, self._entry.links)
        self._cache = HashCache(str(self._machine.home.path), source.manifest, source.identity, time.time())
        return source, self._cache

    def _close_cache(self) -> None:
        """In the thread."""
        if self._cache is not None:
            self._cache.close()

    async def _tidy(self) -> None:
        """Close what is open as soon as no thread uses it."""
        self._disk.do(self._close_cache)
        quiet = Deferred.fromCoroutine(self._quiet())
        try:
            await quiet.addTimeout(QUIET_S, self._reactor, lambda result, timeout: None)
        finally:
            if self._source is not None:
                self._source.close()

    async def _quiet(self) -> None:
        await self._disk.stop()
        if self._pump is not None:
            await self._pump.quiet()


def _paired(key: bytes, name: str) -> None:
    """No code is ever given."""


def _relayed(meeting: Meeting) -> None:
    """Nobody looks."""
