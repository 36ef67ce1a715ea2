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

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from p2pxfer.core.backoff import Backoff
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Introduction, Registered
from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.errors import P2pxferError, Unreachable, UsageError
from p2pxfer.net.private.home import Home
from p2pxfer.net.private.identity import Identity
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.seeking import LONGEST_PAUSE_S, WAIT_S, Patience, Target, introduced_to
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.outgoing import OutgoingJob
from p2pxfer.net.transfer.pump import ChunkPump
from p2pxfer.net.transfer.queuestore import Queued
from p2pxfer.net.transfer.scan import Scan
from p2pxfer.net.transfer.source import Source
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.traversal.serverdial import server_address
from p2pxfer.net.types import Reactor
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


class QueuedPump(ChunkPump):
    """A pump that says when all is through, before the peer hears that this is known, and who goes on after a cut."""

    after_cut = "what arrived is kept there, and it goes on by itself"
    on_through: Callable[[], Deferred[None]]

    def attach(self, paths: PathSet, done: Callable[[bytes], None], failed: Callable[[P2pxferError], None]) -> None:
        """See the base class."""

        def noted(root: bytes) -> None:
            """It is through: that is written down before the peer is told that this side knows."""
            self.on_through().addCallback(lambda _: done(root))

        super().attach(paths, noted, failed)


class QueueRun:
    """The run of ``entry``."""

    def __init__(
        self, reactor: Reactor, home: Home, server: ServerLine, name: str, entry: Queued, owner: RunOwner
    ) -> None:
        self._reactor = reactor
        self._home = home
        self._server = server
        self._name = name
        self._entry = entry
        self._owner = owner
        self._disk = Worker(reactor, "queued")
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
            identity, target = await self._disk.do(self._look_up)
            client = self._client(identity)
            try:
                await client.start()
                sending = Deferred.fromCoroutine(self._whole(client, identity, target))
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

    def _look_up(self) -> tuple[Identity, Target]:
        """Who sends it, and whom it is for; in the thread."""
        entry = self._entry
        contact = self._home.contact_by_id(PeerId(entry.key))
        if contact is None:
            raise UsageError(f"{entry.peer} is not a contact any more; pair again and resume it, or cancel it")
        return self._home.identity(), Target(entry.peer, entry.key, None, contact.name, "contact", None)

    def _client(self, identity: Identity) -> RendezvousClient:
        entry = self._entry
        return RendezvousClient(
            self._reactor, identity, server_address(self._server), name=None, policy=entry.policy,
            on_registered=_registered, on_introduction=_uninvited, on_note=_noted, port_mapping=entry.port_mapping,
            by_key=False,
        )  # fmt: skip

    def _fail(self, error: P2pxferError, sending: Deferred[None]) -> None:
        """The connection to the server does not come back."""
        self._lost = error
        sending.cancel()

    async def _whole(self, client: RendezvousClient, identity: Identity, target: Target) -> None:
        introduction = await self._introduction(client, target)
        # That may have taken days, in which a person may have removed or renamed the contact.
        identity, target = await self._disk.do(self._look_up)
        await self._owner.met()
        await self._send(client, identity, target, introduction)

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

    async def _send(self, client: RendezvousClient, identity: Identity, target: Target, first: Introduction) -> None:
        entry = self._entry
        source, cache = await self._disk.do(self._open)
        pump = self._pump = QueuedPump(self._reactor, source, cache, entry.limit, delta=entry.delta)
        pump.on_through = self._owner.through
        job = OutgoingJob(
            self._reactor, client, identity, self._name, target, pump, policy=entry.policy,
            patience=Patience(wait=False, without_path=PATHLESS_S), gentle=entry.gentle, tell=self._told,
            on_paired=_paired, on_relayed=_relayed, first=first,
        )  # fmt: skip
        await job.run()

    def _told(self, event: Event) -> None:
        if isinstance(event, Accepted):
            self._owner.accepted()

    def _open(self) -> tuple[Source, HashCache]:
        """In the thread, since the hashes of a million files take a second; who is stopped meanwhile finds both."""
        source = self._source = Source.open(self._entry.paths, self._entry.links)
        self._cache = HashCache(str(self._home.path), source.manifest, source.identity, time.time())
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


def _registered(answer: Registered) -> None:
    """Nobody looks."""


def _uninvited(introduction: Introduction) -> None:
    """Nobody may send to a sender; the server knows that from the registration without a name."""


def _noted(text: str) -> None:
    """The agent says that the server is gone, once for all."""


def _paired(key: bytes, name: str) -> None:
    """No code is ever given."""


def _relayed(meeting: Meeting) -> None:
    """Nobody looks."""
