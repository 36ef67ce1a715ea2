"""Chunks between the receiver's core and its disk: what the core wants stored, and the acknowledgements that follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.session.deltawire import Lack, Patch
from p2pxfer.core.session.transferwire import Listed
from p2pxfer.core.transfer.parts import begun
from p2pxfer.core.transfer.receiveeffect import Store, StoreHole, TellBasis
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.sendeffect import Send
from p2pxfer.errors import ChunkRefused, Damaged, ProtocolBreach
from p2pxfer.net.session.bodies import CHUNK_MEMORY
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer.landing import Landing
from p2pxfer.net.transfer.oldversions import VersionLost
from p2pxfer.net.transfer.rebuilding import Rebuilding
from p2pxfer.net.transfer.tally import Tally
from p2pxfer.net.types import Reactor


class Arriving:
    """The chunks of one transfer; ``failed`` hears of errors that end it, ``waits`` whether nobody brings them."""

    def __init__(
        self, reactor: Reactor, core: ReceiverCore, paths: PathSet, failed: Callable[[Failure], None],
        waits: Callable[[bool], None],
    ) -> None:  # fmt: skip
        self._waits = waits
        self._reactor = reactor
        self._core = core
        self._paths = paths
        self._failed = failed
        self.rebuilding: Rebuilding | None = None
        """Who tells of older versions, if there are any."""
        self._ack_timer: IDelayedCall | None = None
        self._ended = False

    def end(self) -> None:
        """The transfer has ended; results of what is still under way change nothing."""
        self._ended = True
        self._core.parts.end()

    def brought(self, tally: Tally, moved: Mapping[str, int]) -> None:
        """A path carries the transfer, and none had: let go of the mark, also while nobody has accepted it.

        ``moved`` is what came so far by kind of path, bytes.
        """
        self._waits(False)
        if not self._ended:
            tally.back(self._core.have_bytes, self._reactor.seconds(), moved)

    def close_path(self, path: PeerPath) -> int:
        """The path is gone: keep what came of a chunk in the middle of which it ended, and tell of it on the others.

        How many bytes that were.
        """
        cut = begun(*path.begun) if path.begun is not None else None
        try:
            told = self._core.parts.came(path.facts.number, cut) if cut is not None else []
        finally:
            self._core.close_path(path.facts.number)
        if not self._core.attached:
            self._waits(True)
        for effect in told:
            self.send(effect)
        return cut.came if cut is not None else 0

    def store(self, landing: Landing, effect: Store | StoreHole) -> None:
        """Have a chunk or a bundle verified and written, or chunks be zero."""
        if isinstance(effect, StoreHole):
            writing = landing.store_hole(effect.file, effect.first, effect.stop)
            writing.addCallback(self._stored_hole, effect)
            writing.addErrback(self._failed)
        else:
            landing.store(effect.chunk, lambda failure: self._written(effect, failure))

    def _written(self, effect: Store, failure: Failure | None) -> None:
        try:
            if failure is None:
                self._stored(effect)
            else:
                self._not_stored(failure, effect)
        except Exception:
            self._failed(Failure())

    def _stored_hole(self, _: object, effect: StoreHole) -> None:
        if not self._ended:
            self._core.stored_hole(effect.path, effect.file, effect.first, effect.stop)
            self.acks_soon()

    def _stored(self, effect: Store) -> None:
        chunk = effect.chunk
        if not isinstance(chunk, Patch):
            CHUNK_MEMORY.give(chunk.payload)
        if not self._ended:
            self._core.stored(effect.path, chunk)
            self.acks_soon()

    def _not_stored(self, failure: Failure, effect: Store) -> None:
        if self._ended:
            return
        chunk = effect.chunk
        for told in self._core.parts.not_stored(chunk):
            self.send(told)
        useless = ChunkRefused if effect.joined else VersionLost
        if not isinstance(chunk, Bundle) and failure.check(useless):
            self._core.lacking((chunk.file, chunk.index))
            span = (chunk.file, chunk.index, chunk.index + 1)
            self.send(Send(effect.path, Lack(handle=chunk.handle, chunks=[span])))
            return
        if not failure.check(ChunkRefused):
            failure.raiseException()
        path = self._paths.get(effect.path)
        try:
            self._core.damaged(chunk)
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
        for path in list(self._paths):
            for effect in self._core.take_acks(path.facts.number):
                self.send(effect)

    def send(self, effect: Send) -> None:
        """Put a message on its path, if that is still there."""
        path = self._paths.get(effect.path)
        if path is None:
            return
        path.send(effect.message)
        if self.rebuilding is not None and isinstance(effect.message, Listed) and effect.message.last:
            telling = Deferred.fromCoroutine(self.rebuilding.announce(path, effect.message))
            telling.addErrback(self._failed)

    def tell_basis(self, effect: TellBasis) -> None:
        """Tell the hashes of an older version's blocks.

        Raises:
            ProtocolBreach: the file was not named, or told on this path before.
        """
        path = self._paths.get(effect.path)
        if self.rebuilding is None:
            raise ProtocolBreach("an older version is wanted that was not named")
        self.rebuilding.check(effect.path, effect.want)
        if path is not None:
            Deferred.fromCoroutine(self.rebuilding.tell(path, effect.want)).addErrback(self._failed)
