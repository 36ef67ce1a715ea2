"""The disk side of one incoming transfer: chunks become written, then durable in batches, then one orderly end.

Laws of this file:

1. A chunk is verified and written in one thread, what was written is synced in another
   (:mod:`p2pxfer.net.transfer.syncing`), and is told of there in the order of the writing.
2. What arrived and is not durable yet is bounded by :data:`UNSAFE_BYTES`, what of it waits for the disk by
   :data:`WAITING_BYTES`; beyond either the paths are held, so the sender waits.
3. The staging place is closed, or removed, when no work on it is under way any more, publishing included, and exactly
   once.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.session.deltawire import Patch
from p2pxfer.core.session.transferwire import MAX_CHUNK, Chunk
from p2pxfer.core.transfer.inflow import Incoming, claims_of, length_of
from p2pxfer.core.transfer.journal import Agreed, Claim
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import ChunkRefused
from p2pxfer.net.transfer.oldversions import OldVersions, VersionLost
from p2pxfer.net.transfer.places import Storage
from p2pxfer.net.transfer.syncing import Syncing
from p2pxfer.net.types import Reactor
from p2pxfer.net.uncancelled import uncancelled
from p2pxfer.net.worker import Worker

UNSAFE_BYTES = 11 * 1024 * 1024
"""Payload that arrived and is not durable beyond which the sender waits: with the chunk that goes beyond, of at most
4 MiB, it is what a crash costs to fetch again.  Chunks count more than they hold, see :data:`CLAIM_COST`."""
WAITING_BYTES = MAX_CHUNK + 512 * 1024
"""Payload that waits to be written beyond which the sender waits: the next chunk may come while one is written."""
CHUNK_COST = 2048
"""What a chunk that waits takes beside its payload, about; of the smallest files it is nearly all."""

BATCH_BYTES = 256 * 1024
BATCH_CHUNKS = 128
"""Small chunks that come together are written together, up to one of these: handing each to the thread by itself costs
more than writing it."""
CLAIM_COST = 64
"""What a chunk counts among what is not durable yet beside its payload, bytes; one of a hole does, too, since the
journal names each."""

_Storing = tuple[Incoming, Callable[[Failure | None], None]]
P = ParamSpec("P")
R = TypeVar("R")


class DiskThreads:
    """The threads that write and sync for all transfers of a process; opening and publishing use the reactor's pool."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self.writer = Worker(reactor, "writer")
        self.syncer = Worker(reactor, "syncer")

    def stop(self) -> None:
        """End them when they have done what they were given."""
        self.writer.stop()
        self.syncer.stop()

    def elsewhere(self, work: Callable[P, R], *args: P.args, **keywords: P.kwargs) -> Deferred[R]:
        """Carry out something rare in the reactor's pool."""
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work, *args, **keywords)


class _Phase(Enum):
    """What becomes of the staging place."""

    OPEN = auto()
    SETTLING = auto()
    """What is here is made durable, and nothing else."""
    CLOSING = auto()
    """What is under way is waited for; no path is held any more."""


class Landing:
    """Where the chunks of one transfer go.

    ``hold(True)`` asks for a pause of the paths, ``hold(False)`` ends it; ``failed`` is told of a sync that failed.
    ``older`` is what patches are made from; it is closed with the staging place.
    """

    def __init__(
        self,
        reactor: Reactor,
        disk: DiskThreads,
        staging: Storage,
        hold: Callable[[bool], None],
        failed: Callable[[Failure], None],
        older: OldVersions | None = None,
    ) -> None:
        self._reactor = reactor
        self._disk = disk
        self._staging = staging
        self._hold = hold
        self._failed = failed
        self._older = older
        self._under_way = 0
        self._quiet: list[Deferred[None]] = []
        self._waiting = 0
        self._batch: list[_Storing] = []
        self._batch_bytes = 0
        self._syncing = Syncing(
            reactor, lambda claims, pages: disk.syncer.do(staging.sync, claims, pages), self._begin, self._done, failed
        )
        self._announcing = False
        self._announced: Announced | None = None
        self._held = False
        self._phase = _Phase.OPEN

    def store(self, chunk: Incoming, told: Callable[[Failure | None], None]) -> None:
        """Verify and write a chunk or a bundle; ``told`` hears of the end.

        A failure is one of :meth:`~p2pxfer.net.staging.staging.Staging.write_chunk`, or, for a patch, of which the
        thread makes a chunk, :class:`~p2pxfer.net.transfer.oldversions.VersionLost`.  There is no Deferred, for of
        small chunks there are too many.
        """
        self._begin()
        self._waiting += length_of(chunk) + CHUNK_COST
        self._regulate()
        self._batch.append((chunk, told))
        self._batch_bytes += length_of(chunk)
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_CHUNKS:
            self._write_batch()
        elif len(self._batch) == 1:
            # What else has come by now goes with it.
            self._reactor.callLater(0, self._write_batch)

    def _write_batch(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            self._disk.writer.do(self._write, batch).addCallback(self._batch_written, batch)

    def _write(self, batch: list[_Storing]) -> list[Failure | None]:
        """Write each; in the thread."""
        results: list[Failure | None] = []
        for chunk, _ in batch:
            try:
                if isinstance(chunk, Bundle):
                    self._staging.write_bundle(chunk)
                elif isinstance(chunk, Chunk):
                    self._staging.write_chunk(chunk.file, chunk.index, chunk.payload, chunk.hash, chunk.found)
                else:
                    self._write_patched(chunk)
            except Exception:
                results.append(Failure())
            else:
                results.append(None)
        return results

    def _write_patched(self, patch: Patch) -> None:
        if self._older is None:
            raise VersionLost
        try:
            payload = memoryview(self._older.make(patch))
            self._staging.write_chunk(patch.file, patch.index, payload, patch.hash)
        except ChunkRefused as error:
            raise VersionLost from error

    def _batch_written(self, results: list[Failure | None], batch: list[_Storing]) -> None:
        for result, (chunk, told) in zip(results, batch, strict=True):
            self._written(result, chunk, length_of(chunk))
            told(result)

    def listed(self, page: int) -> None:
        """A page was added to the manifest: it is journalled before anything of its files."""
        self._syncing.listed(page)

    def announce(self, announced: Announced) -> None:
        """The sender has seen so much by now; ``failed`` hears if there is no room for it.

        One look at the disk is under way at a time, and of what is said meanwhile the last counts.
        """
        if self._announcing:
            self._announced = announced
            return
        self._announcing = True
        self._begin()
        self._disk.writer.do(self._staging.announce, announced).addBoth(self._looked)

    def _looked(self, result: Failure | None) -> None:
        self._announcing = False
        last, self._announced = self._announced, None
        if isinstance(result, Failure):
            self._failed(result)
        elif last is not None:
            self.announce(last)
        self._done()

    def store_hole(self, file: int, first: int, stop: int) -> Deferred[None]:
        """Have chunks of a sparse file be zero; fails as :meth:`~p2pxfer.net.staging.staging.Staging.write_hole`."""
        self._begin()
        self._waiting += CHUNK_COST
        self._regulate()
        return self._disk.writer.do(self._staging.write_hole, file, first, stop).addBoth(self._hole_left)

    def _hole_left(self, result: Failure | list[Claim]) -> Failure | None:
        self._waiting -= CHUNK_COST
        if not isinstance(result, Failure):
            self._syncing.written(result, CLAIM_COST * sum(stop - first for _, first, stop, _ in result))
        self._done()
        return result if isinstance(result, Failure) else None

    def _written(self, result: Failure | None, chunk: Incoming, size: int) -> None:
        self._waiting -= size + CHUNK_COST
        if not isinstance(result, Failure):
            claims = claims_of(chunk)
            self._syncing.written(claims, size + CLAIM_COST * len(claims))
        self._done()

    # -- durability ----------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Make durable all that was stored.

        Raises:
            DiskError: the sync that failed, now or before.
        """
        while True:
            if self._syncing.failure is not None:
                self._syncing.failure.raiseException()
            if self._under_way:
                await self._until_quiet()
            elif self._syncing.waits:
                self._syncing.now()
            else:
                return

    async def publish(self, agreed: Agreed, now: float) -> list[str]:
        """Put everything that is agreed under its final name, after :meth:`settle`; the names.

        It is work under way, which :meth:`close` lets run out: it goes on with descriptors of the staging place.

        Raises:
            DiskError: see :meth:`~p2pxfer.net.staging.staging.Staging.finish`, and so for the others.
        """
        self._begin()
        try:
            return await self._disk.elsewhere(self._staging.finish, agreed.root, now, agreed.left)
        finally:
            self._done()

    def _until_quiet(self) -> Deferred[None]:
        quiet: Deferred[None] = Deferred()
        self._quiet.append(quiet)
        return quiet

    def _begin(self) -> None:
        """Another piece of work is under way."""
        self._under_way += 1

    def _done(self) -> None:
        """One piece of work is over."""
        self._under_way -= 1
        self._regulate()
        if self._under_way == 0:
            waiting, self._quiet = self._quiet, []
            for quiet in waiting:
                if not quiet.called:
                    quiet.callback(None)

    def _regulate(self) -> None:
        """Let the sender wait while the disk is behind."""
        behind = self._waiting > WAITING_BYTES or self._waiting + self._syncing.unsafe > UNSAFE_BYTES
        wanted = behind and self._phase is not _Phase.CLOSING
        if wanted != self._held:
            self._held = wanted
            self._hold(wanted)

    # -- the end -------------------------------------------------------------------------------------------------

    @uncancelled
    async def close(self, *, discard: bool = False) -> None:
        """Make durable what can be, let the work under way end, then close or remove the staging place.

        Raises:
            DiskError: what could not be removed.
        """
        if self._phase is not _Phase.OPEN:
            return
        self._phase = _Phase.SETTLING
        if not discard:
            try:
                await self.settle()
            except Exception:
                # Told through ``failed`` already; what was durable before stays.
                self._syncing.drop()
        self._phase = _Phase.CLOSING
        self._syncing.stop()
        self._regulate()
        while self._under_way:
            await self._until_quiet()
        if self._older is not None:
            await self._disk.elsewhere(self._older.close)
        await self._disk.elsewhere(self._staging.discard if discard else self._staging.close)
