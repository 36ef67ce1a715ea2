"""Two file descriptors as one channel: what is read from one here is written to the other one there.

Laws of this file:

1. Nothing is read that may not be written to the channel, and what came is consumed when the system has taken it: a
   slow reader at the far end holds the writer here, and memory stays flat.
2. The end of the input is told when everything before it was sent; the output is closed when everything was written.
3. It is over, and well, when both directions have ended and the peer has received all; or it fails with one error.

Reading and writing block, so each has a thread; a read that never returns ends with the process.
"""

from __future__ import annotations

import errno
from collections import deque
from contextlib import suppress
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.session.channel import Arrived, Asked, ChannelEvent, Gone, PeerEnded, Stands, Writable
from p2pxfer.errors import DiskError, Incomplete, Interrupted, LimitReached, P2pxferError, PeerStopped, Refused
from p2pxfer.net.blocking import READ, ReadBlocks, close_output, keep, make_roomy, read_block, write_all
from p2pxfer.net.session.bodies import CHUNK_MEMORY
from p2pxfer.net.session.pairsession import PairSession
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker

SERVICE = "pipe"
WRITE = 1024 * 1024
"""About so much is written by one job: as much more is welcome then."""
WRITES = 2
"""Jobs that the writing thread has at once, so that it does not wait for the reactor between two of them."""


class _Input(Enum):
    WAITING = "it is read when there is room in the channel"
    READING = "a thread reads it"
    ENDED = "nothing more is read"


class _Output(Enum):
    ON = "what comes is written"
    ENDING = "it is closed when everything was written"
    ENDED = "nothing more is written"


class Pipe:
    """The channel of a session, between ``source`` and ``target``; ``source`` is ``None`` where nothing is read.

    ``service`` is what the channel is opened to, or may be asked for.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, source: int | None, target: int, service: str = SERVICE) -> None:
        self._service = service
        self._source = source
        self._target = target
        self._reader = Worker(reactor, "input")
        self._writer = Worker(reactor, "output")
        self._session: PairSession | None = None
        self._channel: int | None = None
        self._input = _Input.WAITING
        self._blocks = ReadBlocks()
        self._pending: deque[bytes | bytearray | memoryview] = deque()
        self._writes = 0
        self._output = _Output.ON
        self._gone = False
        """The channel is over."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.done: Deferred[P2pxferError | None] = Deferred()
        for end in (source, target):
            if end is not None:
                make_roomy(end)

    def attach(self, session: PairSession) -> None:
        """The session whose events come to :meth:`event` and :meth:`settled`; one side opens the channel."""
        self._session = session
        session.failed.addCallback(self._end)
        if session.asks:
            self._channel = session.channels.open(self._service)

    def close(self) -> None:
        """Read and write nothing more."""
        self._input, self._output = _Input.ENDED, _Output.ENDED
        self._reader.stop()
        self._writer.stop()

    def give_up(self, error: P2pxferError) -> None:
        """Tell the peer that nothing more comes, and why."""
        if self._session is not None and self._channel is not None and not self._gone:
            self._end_channel()
            # A peer that acknowledges nothing cannot be told.
            with suppress(LimitReached):
                self._session.channels.reset(self._channel, error)
            self._session.link.flush()

    def _end_channel(self) -> None:
        self._gone = True
        self._input = _Input.ENDED

    def _end(self, error: P2pxferError | None) -> None:
        if not self.done.called:
            self.done.callback(error)

    @property
    def _on(self) -> PairSession:
        assert self._session is not None
        return self._session

    # -- from the session ------------------------------------------------------------------------------------------

    def event(self, event: ChannelEvent) -> None:
        """Something happened to a channel."""
        match event:
            case Asked(channel, service):
                if service == self._service and self._channel is None:
                    self._channel = channel
                    self._on.channels.accept(channel)
                    self._read()
                else:
                    self._on.channels.reset(channel, Refused("there is one pipe and nothing else here"))
            case Stands() | Writable():
                self._read()
            case Arrived():
                keep(self._pending, event.data)
                self._write()
            case PeerEnded():
                if self._output is _Output.ON:
                    self._output = _Output.ENDING
                self._write()
            case Gone():
                self._end_channel()
                if event.error is not None:
                    stopped = isinstance(event.error, PeerStopped)
                    self._end(Incomplete(event.error.message) if stopped else event.error)
        self._on.link.soon()

    def settled(self) -> None:
        """The peer has received everything."""
        if self._gone:
            self._end(None)

    # -- input -----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        if self._input is not _Input.WAITING or self._channel is None:
            return
        if self._source is None:
            self._input = _Input.ENDED
            self._on.channels.end(self._channel)
            return
        room = self._on.channels.room(self._channel)
        if room:
            self._input = _Input.READING
            self._blocks.received(self._on.channels.waiting(self._channel))
            memory = self._blocks.take(min(room, READ))
            reading = self._reader.do(read_block, self._source, memory)
            reading.addCallbacks(self._read_some, self._unreadable, callbackArgs=(memory,))

    def _read_some(self, size: int, memory: memoryview) -> None:
        if self._input is not _Input.READING or self._channel is None:
            return
        self._input = _Input.WAITING
        if size > self._on.channels.room(self._channel):
            return  # the peer has given the channel up, and the event for that is on its way
        if size:
            self.bytes_out += size
            self._on.channels.write(self._channel, self._blocks.read(memory, size))
            self._read()
        else:
            self._input = _Input.ENDED
            self._on.channels.end(self._channel)
        self._on.link.soon()

    def _unreadable(self, failure: Failure) -> None:
        self._broken(DiskError.plain("standard input cannot be read"), failure)

    # -- output ----------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        while self._pending and self._writes < WRITES and self._output is not _Output.ENDED:
            views = self._next_views()
            self._writes += 1
            writing = self._writer.do(write_all, self._target, [memoryview(view) for view in views])
            writing.addCallbacks(self._written, self._unwritable, callbackArgs=(views,))
        if self._output is _Output.ENDING and not self._pending:
            self._output = _Output.ENDED
            self._writer.do(close_output, self._target)

    def _next_views(self) -> list[bytes | bytearray | memoryview]:
        views: list[bytes | bytearray | memoryview] = []
        size = 0
        while self._pending and size < WRITE:
            views.append(self._pending.popleft())
            size += len(views[-1])
        return views

    def _written(self, size: int, views: list[bytes | bytearray | memoryview]) -> None:
        self._writes -= 1
        self.bytes_in += size
        for view in views:
            if isinstance(view, memoryview):
                CHUNK_MEMORY.give(view)
        if self._channel is not None:
            try:
                self._on.channels.consumed(self._channel, size)
            except P2pxferError as error:
                self._on.fail(error)
        self._write()
        self._on.link.soon()

    def _unwritable(self, failure: Failure) -> None:
        gone = isinstance(failure.value, OSError) and failure.value.errno == errno.EPIPE
        error = (
            Interrupted("nobody reads the output any more")
            if gone
            else DiskError.plain("standard output cannot be written")
        )
        self._broken(error, failure)

    def _broken(self, error: P2pxferError, failure: Failure) -> None:
        if not isinstance(failure.value, OSError):
            self.log.failure("the pipe broke", failure)
        self._end(error)
