"""One transfer being received: joins the receiver's core, the paths and the disk.

Laws of this file:

1. Only this file knows both the paths and the disk; the decisions are the core's.
2. It ends in exactly one outcome: received, or one error.  Work that was under way then is let run out, and its result
   changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.codec import Message
from p2pxfer.core.manifest import Manifest
from p2pxfer.core.receiveeffect import Decide, Publish, ReceiverEffect, Store, StoreHole
from p2pxfer.core.receiver import ReceiverCore
from p2pxfer.core.sendeffect import Send
from p2pxfer.core.wire import Chunk
from p2pxfer.errors import ChunkRefused, Damaged, DiskError, Incomplete, P2pxferError, Refused
from p2pxfer.net.landing import DiskThreads, Landing
from p2pxfer.net.path import CHUNK_MEMORY, PeerPath
from p2pxfer.net.pathset import PathSet
from p2pxfer.net.places import Place, Storage
from p2pxfer.net.types import Reactor
from p2pxfer.status import Accepted, Event, Offer, RefusedOffer, Resumed


@dataclass(frozen=True, slots=True)
class Received:
    """The end of a transfer that was published, or of a stream: its hash, names and size in bytes."""

    root: bytes
    names: tuple[str, ...]
    size: int


class IncomingTransfer:
    """One transfer from one sender, over any number of paths.

    ``decide(offer)`` asks whether to take it; ``tell`` gets events; ``done`` fires once, with what was received or
    with the error that ended it; ``settled`` fires when the sender knows and the staging place is gone;
    ``confirmed`` is when the sender said that it knows, in the reactor's time;
    ``bytes_by_path`` counts the payload of this transfer by kind of path, what came twice included.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        sender: bytes,
        transfer: bytes,
        instance: bytes,
        place: Place,
        paths: PathSet,
        disk: DiskThreads,
        decide: Callable[[Offer], Awaitable[bool]],
        tell: Callable[[Event], None],
        limit: int = 0,
    ) -> None:
        self._reactor = reactor
        self._sender = sender
        self._place = place
        self._paths = paths
        self._disk = disk
        self._decide = decide
        self._tell = tell
        self._core = ReceiverCore(transfer, instance, limit)
        self.number = transfer
        self.offer: Offer | None = None
        self._landing: Landing | None = None
        self._ack_timer: IDelayedCall | None = None
        self._closing = False
        self.ended = False
        self.confirmed: float | None = None
        self.bytes_by_path: dict[str, int] = {}
        self.done: Deferred[Received] = Deferred()
        self.settled: Deferred[None] = Deferred()

    @property
    def manifest(self) -> Manifest | None:
        """What is being received, once it is known."""
        return self._core.manifest

    @property
    def have_bytes(self) -> int:
        """Verified bytes that are here, in this run and earlier ones."""
        return self._core.have_bytes

    @property
    def attached(self) -> int:
        """Paths that carry this transfer."""
        return self._core.attached

    @property
    def over(self) -> bool:
        """Nothing can come of it any more: an offer of the same files starts anew."""
        return self.ended and (self.confirmed is not None or not self._core.published)

    # -- from the paths ------------------------------------------------------------------------------------------

    def message(self, path: PeerPath, message: Message) -> None:
        """A transfer message came on ``path``.

        Raises:
            P2pxferError: see :meth:`~p2pxfer.core.receiver.ReceiverCore.receive`.
        """
        if self._closing:
            return
        try:
            effects = self._core.receive(path.facts.number, message)
        except P2pxferError as error:
            if self.manifest is None:
                # Nothing was begun, and nothing will come of it.
                self._end(error)
            raise
        self._carry_out(effects)
        # Holes that are here already wait for an acknowledgement, and nothing need follow them.
        self._acks_soon()

    def chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """A chunk came on ``path``.

        Raises:
            P2pxferError: see :meth:`~p2pxfer.core.receiver.ReceiverCore.chunk`.
        """
        if self._closing:
            return
        kind = path.facts.kind
        self.bytes_by_path[kind] = self.bytes_by_path.get(kind, 0) + len(chunk.payload)
        self._paths.carried(path, len(chunk.payload))
        self._carry_out(self._core.chunk(path.facts.number, chunk))
        self._acks_soon()

    def close_path(self, path: PeerPath) -> None:
        """A path is gone."""
        self._carry_out(self._core.close_path(path.facts.number))

    def _carry_out(self, effects: list[ReceiverEffect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self._send(effect)
                case Decide():
                    self._start(self._open(effect.manifest, effect.holes))
                case Store():
                    self._store(effect)
                case StoreHole():
                    self._store_hole(effect)
                case Publish():
                    self._start(self._publish(effect.root))

    def _send(self, effect: Send) -> None:
        path = self._paths.get(effect.path)
        if path is not None:
            path.send(effect.message)

    def _start(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        Deferred.fromCoroutine(work).addErrback(self._failed)

    # -- the decision --------------------------------------------------------------------------------------------

    async def _open(self, manifest: Manifest, holes: int) -> None:
        offer = Offer(files=len(manifest.files), bytes=manifest.total_bytes, names=tuple(manifest.top_names))
        self.offer = offer
        self._tell(offer)
        self._place.check(manifest)
        staging = await self._disk.elsewhere(self._place.open, self._sender, manifest, holes)
        self._landing = Landing(self._reactor, self._disk, staging, self._hold, self._failed)
        if staging.published_root is not None:
            self._carry_out(self._core.already_published(staging.published_root))
            self._end(Received(staging.published_root, tuple(staging.published_names), manifest.total_bytes))
        elif self.ended or self._closing:
            await self._landing.close()
        elif await self._decide(offer):
            self._accept(staging)
        else:
            await self._refuse(staging)

    def _accept(self, staging: Storage) -> None:
        if self.ended or self._closing:
            return
        self._tell(Accepted())
        self._carry_out(self._core.accepted(staging.have))
        if self._core.have_bytes:
            self._tell(Resumed(have_bytes=self._core.have_bytes))

    async def _refuse(self, staging: Storage) -> None:
        if self._landing is not None:
            await self._landing.close(discard=not staging.have)
        if not self.ended:
            refusal = Refused("the receiver's user said no")
            self._tell(RefusedOffer(why="by the user here"))
            self._carry_out(self._core.refused(refusal))
            self._end(refusal)

    # -- chunks --------------------------------------------------------------------------------------------------

    def _store(self, effect: Store) -> None:
        assert self._landing is not None
        self._landing.store(effect.chunk, lambda failure: self._written(effect, failure))

    def _written(self, effect: Store, failure: Failure | None) -> None:
        try:
            if failure is None:
                self._stored(effect)
            else:
                self._not_stored(failure, effect)
        except Exception:
            self._failed(Failure())

    def _store_hole(self, effect: StoreHole) -> None:
        assert self._landing is not None
        writing = self._landing.store_hole(effect.file, effect.first, effect.stop)
        writing.addCallback(self._stored_hole, effect)
        writing.addErrback(self._failed)

    def _stored_hole(self, _: object, effect: StoreHole) -> None:
        if not self.ended:
            self._core.stored_hole(effect.path, effect.file, effect.first, effect.stop)
            self._acks_soon()

    def _stored(self, effect: Store) -> None:
        chunk = effect.chunk
        CHUNK_MEMORY.give(chunk.payload)
        if not self.ended:
            self._core.stored(effect.path, (chunk.file, chunk.index), chunk.hash)
            self._acks_soon()

    def _not_stored(self, failure: Failure, effect: Store) -> None:
        if self.ended:
            return
        if not failure.check(ChunkRefused):
            failure.raiseException()
        path = self._paths.get(effect.path)
        try:
            self._core.damaged((effect.chunk.file, effect.chunk.index))
        except ChunkRefused as error:
            if path is not None:
                path.refuse(error)
        except Damaged as error:
            self._failed(Failure(error))

    def _acks_soon(self) -> None:
        if self._ack_timer is None:
            self._ack_timer = self._reactor.callLater(0, self._flush_acks)

    def _flush_acks(self) -> None:
        self._ack_timer = None
        for path in self._paths.ordered():
            for effect in self._core.take_acks(path.facts.number):
                self._send(effect)

    def _hold(self, on: bool) -> None:
        self._paths.hold(self, on)

    async def _publish(self, root: bytes) -> None:
        assert self._landing is not None
        await self._landing.settle()
        if self.ended or self._closing:
            return
        names = await self._landing.publish(root, time.time())
        self._paths.finish()
        self._carry_out(self._core.published_all())
        assert self.manifest is not None
        self._end(Received(root, tuple(names), self.manifest.total_bytes))

    # -- the end -------------------------------------------------------------------------------------------------

    def _failed(self, failure: Failure) -> None:
        """The disk, or a fault of the program: tell the sender and end."""
        error = failure.value
        if not isinstance(error, P2pxferError):
            self.log.failure("receiving failed", failure)
            error = DiskError(f"receiving failed inside the program: {type(error).__name__}; what arrived is kept")
        if not self.ended:
            self._carry_out(self._core.refused(error))
            self._end(error)
            self._start(self.close())

    def _end(self, outcome: Received | P2pxferError) -> None:
        if self.ended:
            return
        self.ended = True
        if isinstance(outcome, Received):
            self.done.callback(outcome)
        else:
            self.done.errback(outcome)

    def confirm(self) -> None:
        """The sender knows that everything is here: the staging place is not needed any more."""
        if self._core.published and self._landing is not None and self.confirmed is None:
            self.confirmed = self._reactor.seconds()
            discarding = Deferred.fromCoroutine(self._landing.close(discard=True))
            discarding.addErrback(lambda failure: self.log.failure("removing the staging place", failure))
            discarding.addCallback(self.settled.callback)

    def abandon(self) -> None:
        """The sender has not come back for too long: end, and keep what is here for its next offer."""
        if not self.ended:
            self._end(Incomplete("the sender has not come back; what arrived is kept and goes on when it sends again"))
        self._start(self.close())

    async def close(self) -> None:
        """Make durable what is here and let the staging place go; a later run goes on with it."""
        self._closing = True
        if self._landing is not None:
            await self._landing.close()
