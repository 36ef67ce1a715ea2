"""Moves chunks from the disk to the paths: reads and hashes ahead in threads, writes while a path has room.

Laws of this file:

1. What is read ahead is bounded (:mod:`p2pxfer.net.transfer.ready`).
2. Of the paths that carry (:mod:`p2pxfer.core.session.pathchoice`) the next chunk goes to the first one that has room:
   each gets as much as it delivers.  When all are full the next chunk waits.
3. When nothing is left to be read, a path with nothing under way sends again what another one is slow with.
4. While chunks go out, the reactor's thread waits for no disk: files are looked for and looked up in one thread
   (:mod:`p2pxfer.net.transfer.search`), read in another.  It waits for the record of hashes when a sending begins, if
   one that has ended still writes there, and when everything was confirmed, to remove it.
5. A chunk of which a path was told a part goes there before others: on a line on which no path lasts, what was begun is
   brought to an end before something else is begun.
6. A file that changed or cannot be read is left out, and nothing else waits for it or ends with it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from p2pxfer.core.codec import Message
from p2pxfer.core.session.deltawire import Basis, Lack, Older
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.pacing import Pace
from p2pxfer.core.transfer.sendeffect import AcceptedByPeer, Finished, HashChunks, NothingLeft, Send, SenderEffect
from p2pxfer.core.transfer.sender import SenderCore
from p2pxfer.errors import P2pxferError
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer.cargo import Left
from p2pxfer.net.transfer.comparing import Comparing
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.leftfiles import LeftFiles
from p2pxfer.net.transfer.loaded import HANDLE, Loaded, Lost
from p2pxfer.net.transfer.readahead import ReadAhead
from p2pxfer.net.transfer.ready import Ready
from p2pxfer.net.transfer.search import Search
from p2pxfer.net.transfer.source import Source
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker
from p2pxfer.status import Accepted, Event, Resumed

AHEAD_BATCHES = 8
"""Most batches being read at the same time."""
BATCH_BYTES = 256 * 1024
BATCH_CHUNKS = 128
"""Small chunks are read in batches that end with the chunk that reaches one of these two: handing each to the thread by
itself costs several times what reading it costs."""


class ChunkPump:
    """The sending of one source, as a :class:`~p2pxfer.net.transfer.cargo.Cargo`."""

    after_cut = "what arrived is kept there, run the same command again to go on"
    parting = False
    spreads = True

    def __init__(
        self,
        reactor: Reactor,
        source: Source,
        cache: HashCache,
        limit: float = 0,
        listed: Callable[[], None] | None = None,
        *,
        delta: bool = False,
    ) -> None:
        """``limit`` in bytes a second, 0 for none; ``listed`` is called when all that is to be sent is known.

        ``delta``: ask for older versions that the receiver has.
        """
        self._listed_all = listed
        self._reactor = reactor
        self._pace = Pace(limit, reactor.seconds())
        self._later: IDelayedCall | None = None
        self._source = source
        self._cache = cache
        instance = os.urandom(16)
        self._core = SenderCore(HANDLE, source.manifest, cache.load(), source.holes(), delta=delta, instance=instance)
        self._comparing = Comparing(reactor, source.manifest, self._core, self.push)
        self._files = ReadAhead(source, cache)
        self._left = LeftFiles(source.manifest)
        self._search = Search(reactor, source, cache, self._grown, self._unreadable)
        self._ready = Ready(self._core)
        self._reading = 0
        self._paths: PathSet | None = None
        self._done: Callable[[bytes], None] | None = None
        self._failed: Callable[[Exception], None] | None = None
        self._reader = Worker(reactor, "reader")
        self._stopping: list[Deferred[None]] = []
        self._closed = False
        self.introduced = False
        self.accepted = False

    def attach(self, paths: PathSet, done: Callable[[bytes], None], failed: Callable[[Exception], None]) -> None:
        """Where chunks may go, and whom to tell the root hash at the end or an error of the disk."""
        self._paths = paths
        self._done = done
        self._failed = failed
        self._search.go_on()

    def close(self) -> None:
        """Read and send nothing more."""
        self._closed = True
        self._stopping = [self._reader.stop(), self._search.stop()]
        self._ready.clear()
        self._comparing.stop()
        self._stop_waiting()

    async def quiet(self) -> None:
        """Wait, after :meth:`close`, until no thread reads any more."""
        for stopping in self._stopping:
            await stopping

    @property
    def offered(self) -> bool:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`: every path that is given to it is told at once."""
        return self.introduced

    @property
    def left(self) -> Left:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        return self._left.of(self._core.left_out)

    @property
    def acked_bytes(self) -> int:
        """Bytes that the receiver has confirmed."""
        return self._core.acked_bytes

    def is_idle(self, path: PeerPath) -> bool:
        """Nothing that was sent on ``path`` waits for its acknowledgement."""
        return self._core.is_idle(path.facts.number)

    @property
    def paths(self) -> PathSet:
        """The paths in use."""
        assert self._paths is not None
        return self._paths

    # -- paths ---------------------------------------------------------------------------------------------------

    def open_path(self, path: PeerPath) -> None:
        """Offer the transfer on a path."""
        self.introduced = True
        self._carry_out(self._core.open_path(path.facts.number))

    def close_path(self, path: PeerPath) -> None:
        """A path is gone."""
        self._ready.make_room()
        self._carry_out(self._core.close_path(path.facts.number))
        self._comparing.lost(path.facts.number)
        self.push()

    def message(self, path: PeerPath, message: Message) -> list[Event]:
        """A transfer message came; returns what the user is to be told before :meth:`push`.

        Raises:
            P2pxferError: see :meth:`~p2pxfer.core.transfer.sender.SenderCore.receive`.
        """
        if isinstance(message, (Older, Basis, Lack)):
            self._comparing.message(path.facts.number, message)
            return []
        return self._carry_out(self._core.receive(path.facts.number, message))

    def _carry_out(self, effects: list[SenderEffect]) -> list[Event]:
        events: list[Event] = []
        for effect in effects:
            match effect:
                case Send():
                    path = self.paths.get(effect.path)
                    if path is not None:
                        path.send(effect.message)
                case HashChunks():
                    hashing = self._reader.do(self._files.hashes, effect.addresses)
                    hashing.addCallback(self._hashed)
                    hashing.addErrback(self._unreadable)
                case AcceptedByPeer():
                    self.accepted = True
                    self._pace.peer_wants(effect.rate)
                    self._comparing.accepted(tells=effect.older)
                    events.append(Accepted())
                    if effect.have_bytes:
                        events.append(Resumed(have_bytes=effect.have_bytes))
                case NothingLeft():
                    self._fail(self._left.too_many())
                case Finished():
                    self._cache.forget()
                    self._left.published(effect.left, self._source.denied)
                    if self._done is not None:
                        self._done(effect.root)
        return events

    def _grown(self, known: list[tuple[ChunkAddress, bytes]], files: int) -> None:
        """The list has another page; see :class:`~p2pxfer.net.transfer.search.Search`."""
        self._carry_out(self._core.grow(known, self._source.holes(files)))
        if self._source.manifest.complete and self._listed_all is not None:
            self._listed_all()
        self.push()

    # -- chunks --------------------------------------------------------------------------------------------------

    def push(self) -> None:
        """Write what is ready to the paths that have room, and read ahead."""
        if self._closed:
            return
        carriers = self.paths.carriers(self._core.is_open)
        self._tell_holes(carriers)
        self._comparing.ask(carriers)
        while self._may_go() and (path := self._taker(carriers)) is not None:
            loaded = self._ready.take_for(path.facts.number)
            chunks = (loaded.address, path.facts.number, loaded.count)
            if not self._core.may_go(*chunks) or self._comparing.is_vain(loaded):
                self._core.drop_chunk(loaded.address, loaded.count)
                continue
            self._comparing.goes(loaded)
            loaded = loaded.rest(self._core.rests, path.facts.number)
            self._pace.spend(loaded.wire_size)
            path.send_frame(loaded.frame())
            self._core.chunk_sent(*chunks)
            self.paths.carried(path, loaded.wire_size)
        self._read_ahead(carriers)
        busy = self._reading or self._ready or not all(self.is_idle(path) for path in carriers)
        self._comparing.idle(bool(carriers) and not busy)

    def _tell_holes(self, carriers: list[PeerPath]) -> None:
        for path in carriers:
            for effect in self._core.take_holes(path.facts.number) if path.writable else ():
                path.send(effect.message)

    def _may_go(self) -> bool:
        """Whether a chunk is ready and the limit lets it go; if it does not, the chunk goes when it does."""
        self._stop_waiting()
        if not self._ready or not self._core.is_told(self._ready.first.last):
            return False
        wait = self._pace.wait(self._reactor.seconds())
        if wait > 0:
            self._later = self._reactor.callLater(wait, self.push)
        return wait <= 0

    def _stop_waiting(self) -> None:
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._later = None

    def _taker(self, carriers: list[PeerPath]) -> PeerPath | None:
        """The best path that has room, if any has; not the one that is slow with the next chunk."""
        free = [path for path in carriers if path.writable]
        if len(carriers) == 1 or not free:
            return free[0] if free else None
        first = self._ready.first
        may_take = (path for path in free if self._core.may_go(first.address, path.facts.number, first.count))
        return next(may_take, free[0])

    def _read_ahead(self, carriers: list[PeerPath]) -> None:
        if not carriers and not self.accepted:
            return  # without a path what the last one carried is read again, to be there when the next one comes
        while self._reading < AHEAD_BATCHES and self._ready.has_room:
            batch = self._next_batch() or self._late_batch(carriers)
            if not batch:
                return
            self._reading += 1
            self._ready.reading(batch)
            reading = self._reader.do(self._files.read, [(address, self._comparing.of(address)) for address in batch])
            reading.addCallback(self._loaded)
            reading.addErrback(self._unreadable)

    def _late_batch(self, carriers: list[PeerPath]) -> list[ChunkAddress]:
        """Nothing is missing: what a path without work may take over."""
        if len(carriers) == 1 or self._reading or self._ready:
            return []
        late = (self._core.late_chunk(path.facts.number) for path in carriers if path.writable)
        return list(itertools.islice((address for address in late if address is not None), 1))

    def _next_batch(self) -> list[ChunkAddress]:
        batch: list[ChunkAddress] = []
        size = 0
        while size < BATCH_BYTES and len(batch) < BATCH_CHUNKS:
            address = self._comparing.next_chunk()
            if address is None:
                break
            batch.append(address)
            size += self._core.length(address)
        return batch

    def _loaded(self, batch: tuple[list[Loaded], list[Lost]]) -> None:
        self._reading -= 1
        if self._closed:
            return
        loaded, lost = batch
        self._ready.came(loaded)
        for gone in lost:
            self._ready.lost(gone)
            self._leave_out(gone)
        self.push()

    def _hashed(self, found: tuple[list[tuple[ChunkAddress, bytes]], list[Lost]]) -> None:
        """Claims for which the record of earlier runs was lost can be proved."""
        if self._closed:
            return
        hashes, lost = found
        for address, digest in hashes:
            self._core.chunk_read(address, digest)
        for gone in lost:
            self._leave_out(gone)
        self._carry_out(self._core.hashed())
        self.push()

    def _leave_out(self, lost: Lost) -> None:
        self._left.add(lost.file, lost.error)
        try:
            self._carry_out(self._core.leave_out(lost.file))
        except P2pxferError as error:
            self._fail(error)
        self._comparing.left_out(lost.file)

    def _unreadable(self, failure: Failure) -> None:
        """The disk, or a fault of the program: either ends the job."""
        self._fail(cast(Exception, failure.value))

    def _fail(self, error: Exception) -> None:
        failed, self._failed = self._failed, None
        if not self._closed and failed is not None:
            failed(error)
