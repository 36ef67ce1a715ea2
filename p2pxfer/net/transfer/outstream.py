"""The sending of a stream: what is read from a descriptor goes over a channel, until the receiver has stored it all.

Laws of this file:

1. Nothing is read that the channel has no room for: who writes faster than the receiver takes has to wait, and memory
   stays flat.
2. It is sent when the receiver has ended its own direction with the same hash, which it does when everything is where
   it belongs; the end of the input alone means nothing.

``_Phase`` lists what it does in the order in which that comes: phases may be left out, and only ``READING`` goes back,
to ``READY``.

Reading blocks, so it has a thread; a read that never returns ends with the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import cast

from blake3 import blake3
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from p2pxfer.core.codec import Message
from p2pxfer.core.session.channel import Arrived, Asked, ChannelEvent, Gone, PeerEnded, Stands, Writable
from p2pxfer.core.session.channels import Channels
from p2pxfer.core.session.farewell import FAULT
from p2pxfer.core.transfer.pacing import Pace
from p2pxfer.core.transfer.streams import CANNOT_GO_ON, SERVICE, check_end, outcome_of
from p2pxfer.errors import DiskError, Incomplete, LimitReached, P2pxferError, PeerStopped, ProtocolBreach
from p2pxfer.net.blocking import READ, ReadBlocks, make_roomy, read_block
from p2pxfer.net.session.channelpaths import ChannelPaths
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer.cargo import Left
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker
from p2pxfer.status import Accepted, Event


class _Phase(Enum):
    OFFERED = "the receiver has not answered"
    READY = "what is read next waits for room, or for its time"
    READING = "a read is under way"
    ALL_READ = "the input has ended, and the receiver's end is awaited"
    GONE = "the channel is over"
    CLOSED = "nothing is read or sent any more"


class StreamPump:
    """What comes from ``source``, a descriptor, as a :class:`~p2pxfer.net.transfer.cargo.Cargo` called ``name``.

    ``limit`` in bytes a second, 0 for none.
    """

    after_cut = CANNOT_GO_ON
    left = Left()
    spreads = False

    def __init__(self, reactor: Reactor, source: int, name: str, limit: float = 0) -> None:
        self._reactor = reactor
        self._source = source
        self._name = name
        self._pace = Pace(limit, reactor.seconds())
        self._later: IDelayedCall | None = None
        self._channels = Channels(os.urandom(16), 0)
        self._channel = self._channels.open(SERVICE, name)
        self._link: ChannelPaths | None = None
        self._done: Callable[[bytes], None] | None = None
        self._failed: Callable[[Exception], None] | None = None
        self._reader = Worker(reactor, "input")
        self._blocks = ReadBlocks()
        make_roomy(source)
        self._hash = blake3()
        self._phase = _Phase.OFFERED
        self._told: list[Event] = []
        self._why = ""
        """By what error of its own it ends, for the peer."""
        self._read_bytes = 0
        self.introduced = False
        self.accepted = False
        self.parting = False

    def attach(self, paths: PathSet, done: Callable[[bytes], None], failed: Callable[[Exception], None]) -> None:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        self._done, self._failed = done, failed
        self._link = ChannelPaths(self._reactor, self._channels, paths, self._event, self._settled, failed)

    @property
    def _on(self) -> ChannelPaths:
        assert self._link is not None
        return self._link

    @property
    def offered(self) -> bool:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`: every path that is given to it is told at once."""
        return self.introduced

    @property
    def acked_bytes(self) -> int:
        """Bytes that the receiver's process has."""
        return self._read_bytes - self._channels.held_bytes

    # -- paths ---------------------------------------------------------------------------------------------------

    def open_path(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        self.introduced = True
        self._on.open_path(path)

    def close_path(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        self._on.close_path(path)

    def message(self, path: PeerPath, message: Message) -> list[Event]:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        try:
            self._on.message(path, message)
        except Incomplete as error:
            raise Incomplete(f"the receiver was started anew: {CANNOT_GO_ON}") from error
        self._on.flush()
        told, self._told = self._told, []
        return told

    def is_idle(self, path: PeerPath) -> bool:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`: one path carries the stream, and what it takes with it comes
        again."""
        return True

    def push(self) -> None:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        if self._phase is not _Phase.CLOSED:
            self._on.flush()

    def close(self) -> None:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`; a receiver that still waits is told that nothing more
        comes."""
        before, self._phase = self._phase, _Phase.CLOSED
        if before not in (_Phase.GONE, _Phase.CLOSED) and self._link is not None:
            self.parting = True
            # A peer that acknowledges nothing cannot be told.
            with suppress(LimitReached):
                self._channels.reset(self._channel, PeerStopped(f"the sender ended before the stream did{self._why}"))
            self._link.flush()
        self._stop_waiting()
        self._reader.stop()
        if self._link is not None:
            self._link.stop()

    def _fail(self, error: Exception) -> None:
        if self._failed is not None and self._phase is not _Phase.CLOSED:
            self._why = f": {error.abroad if isinstance(error, P2pxferError) else FAULT}"
            self._failed(error)

    # -- the channel ---------------------------------------------------------------------------------------------

    def _event(self, event: ChannelEvent) -> None:
        if self._phase is _Phase.CLOSED:
            return
        match event:
            case Stands(_, rate):
                self._phase, self.accepted = _Phase.READY, True
                self._pace.peer_wants(rate)
                self._told.append(Accepted())
                self._read()
            case Writable():
                self._read()
            case PeerEnded(_, digest):
                self._judge(digest)
            case Gone(_, error):
                self._phase = _Phase.GONE
                if error is not None:
                    self._fail(outcome_of(error))
            case Arrived() | Asked():
                self._fail(ProtocolBreach("the receiver of a stream sends data"))

    def _judge(self, digest: bytes) -> None:
        if self._phase is not _Phase.ALL_READ:
            self._fail(ProtocolBreach("the receiver ended a stream before its end"))
            return
        try:
            check_end(digest, self._hash.digest())
        except P2pxferError as error:
            self._fail(error)

    def _settled(self) -> None:
        """The receiver has heard everything, and has said its last if the channel is gone."""
        if self._phase is _Phase.GONE and self._done is not None:
            done, self._done = self._done, None
            done(self._hash.digest())

    # -- input ---------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        self._stop_waiting()
        if self._phase is not _Phase.READY:
            return
        room = self._channels.room(self._channel)
        if not room:
            return
        wait = self._pace.wait(self._reactor.seconds())
        if wait > 0:
            self._later = self._reactor.callLater(wait, self._read)
            return
        self._phase = _Phase.READING
        self._blocks.received(self._channels.waiting(self._channel))
        memory = self._blocks.take(min(room, READ))
        self._reader.do(self._take, memory).addCallbacks(self._taken, self._unreadable, callbackArgs=(memory,))

    def _take(self, memory: memoryview) -> int:
        """Read and hash; in the thread."""
        size = read_block(self._source, memory)
        self._hash.update(memory[:size])
        return size

    def _taken(self, size: int, memory: memoryview) -> None:
        if self._phase is not _Phase.READING:
            return
        if size:
            self._phase = _Phase.READY
            self._read_bytes += size
            self._pace.spend(size)
            self._channels.write(self._channel, self._blocks.read(memory, size))
            self._read()
        else:
            self._phase = _Phase.ALL_READ
            self._channels.end(self._channel, self._hash.digest())
        self._on.soon()

    def _unreadable(self, failure: Failure) -> None:
        error = cast(Exception, failure.value)
        if isinstance(error, OSError):
            reason = os.strerror(error.errno) if error.errno else ""
            what = f"standard input cannot be read{f': {reason}' if reason else ''}"
            error = DiskError(f"{what}; {CANNOT_GO_ON}", what)
        self._fail(error)

    def _stop_waiting(self) -> None:
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._later = None
