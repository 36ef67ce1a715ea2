"""Chunks between the receiver's core and its disk: what the core wants stored, and the acknowledgements that follow."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from p2pxfer.core.receiveeffect import Store, StoreHole
from p2pxfer.core.receiver import ReceiverCore
from p2pxfer.core.sendeffect import Send
from p2pxfer.errors import ChunkRefused, Damaged
from p2pxfer.net.landing import Landing
from p2pxfer.net.path import CHUNK_MEMORY
from p2pxfer.net.pathset import PathSet
from p2pxfer.net.types import Reactor


class Arriving:
    """The chunks of one transfer; ``failed`` hears of errors that end it."""

    def __init__(self, reactor: Reactor, core: ReceiverCore, paths: PathSet, failed: Callable[[Failure], None]) -> None:
        self._reactor = reactor
        self._core = core
        self._paths = paths
        self._failed = failed
        self._ack_timer: IDelayedCall | None = None
        self._ended = False

    def end(self) -> None:
        """The transfer has ended; results of what is still under way change nothing."""
        self._ended = True

    def store(self, landing: Landing, effect: Store) -> None:
        """Have a chunk verified and written."""
        landing.store(effect.chunk, lambda failure: self._written(effect, failure))

    def _written(self, effect: Store, failure: Failure | None) -> None:
        try:
            if failure is None:
                self._stored(effect)
            else:
                self._not_stored(failure, effect)
        except Exception:
            self._failed(Failure())

    def store_hole(self, landing: Landing, effect: StoreHole) -> None:
        """Have chunks be zero."""
        writing = landing.store_hole(effect.file, effect.first, effect.stop)
        writing.addCallback(self._stored_hole, effect)
        writing.addErrback(self._failed)

    def _stored_hole(self, _: object, effect: StoreHole) -> None:
        if not self._ended:
            self._core.stored_hole(effect.path, effect.file, effect.first, effect.stop)
            self.acks_soon()

    def _stored(self, effect: Store) -> None:
        chunk = effect.chunk
        CHUNK_MEMORY.give(chunk.payload)
        if not self._ended:
            self._core.stored(effect.path, (chunk.file, chunk.index), chunk.hash)
            self.acks_soon()

    def _not_stored(self, failure: Failure, effect: Store) -> None:
        if self._ended:
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

    def acks_soon(self) -> None:
        """Acknowledge what waits for it when this turn of the reactor is over."""
        if self._ack_timer is None:
            self._ack_timer = self._reactor.callLater(0, self._flush_acks)

    def _flush_acks(self) -> None:
        self._ack_timer = None
        for path in self._paths.ordered():
            for effect in self._core.take_acks(path.facts.number):
                self.send(effect)

    def send(self, effect: Send) -> None:
        """Put a message on its path, if that is still there."""
        path = self._paths.get(effect.path)
        if path is not None:
            path.send(effect.message)
