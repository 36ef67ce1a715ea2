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
import os
import socket
import stat
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.session.channel import Arrived, Asked, ChannelEvent, Gone, PeerEnded, Stands, Writable
from p2pxfer.errors import DiskError, LimitReached, P2pxferError, Refused
from p2pxfer.net.session.pairsession import PairSession
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker

SERVICE = "pipe"
READ = 1024 * 1024
"""Most bytes read at once."""


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
        self._reading = False
        self._pending = bytearray()
        self._writing = False
        self._peer_ended = False
        self._closed = False
        self._gone = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.done: Deferred[P2pxferError | None] = Deferred()

    def attach(self, session: PairSession) -> None:
        """The session whose events come to :meth:`event` and :meth:`settled`; one side opens the channel."""
        self._session = session
        session.failed.addCallback(self._end)
        if session.asks:
            self._channel = session.channels.open(self._service)

    def close(self) -> None:
        """Read and write nothing more."""
        self._closed = True
        self._reader.stop()
        self._writer.stop()

    def give_up(self, error: P2pxferError) -> None:
        """Tell the peer that nothing more comes, and why."""
        if self._session is not None and self._channel is not None and not self._gone:
            self._gone = True
            # A peer that acknowledges nothing cannot be told.
            with suppress(LimitReached):
                self._session.channels.reset(self._channel, error)
            self._session.link.flush()

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
                self._pending += event.data
                self._write()
            case PeerEnded():
                self._peer_ended = True
                self._write()
            case Gone():
                self._gone = True
                if event.error is not None:
                    self._end(event.error)
        self._on.link.soon()

    def settled(self) -> None:
        """The peer has received everything."""
        if self._gone:
            self._end(None)

    # -- input -----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        if self._reading or self._closed or self._gone or self._channel is None:
            return
        if self._source is None:
            self._on.channels.end(self._channel)
            return
        room = self._on.channels.room(self._channel)
        if room:
            self._reading = True
            self._reader.do(os.read, self._source, min(room, READ)).addCallbacks(self._read_some, self._unreadable)

    def _read_some(self, data: bytes) -> None:
        self._reading = False
        if self._closed or self._gone or self._channel is None:
            return
        if data:
            self.bytes_out += len(data)
            self._on.channels.write(self._channel, data)
            self._read()
        else:
            self._source = None
            self._on.channels.end(self._channel)
        self._on.link.soon()

    def _unreadable(self, failure: Failure) -> None:
        self._broken(DiskError("standard input cannot be read"), failure)

    # -- output ----------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        if self._writing or self._closed:
            return
        if self._pending:
            data, self._pending = self._pending, bytearray()
            self._writing = True
            self._writer.do(write_whole, self._target, data).addCallbacks(self._written, self._unwritable)
        elif self._peer_ended:
            self._peer_ended = False
            self._writer.do(close_output, self._target)

    def _written(self, size: int) -> None:
        self._writing = False
        self.bytes_in += size
        if self._channel is not None:
            try:
                self._on.channels.consumed(self._channel, size)
            except P2pxferError as error:
                self._on.fail(error)
        self._write()
        self._on.link.soon()

    def _unwritable(self, failure: Failure) -> None:
        gone = isinstance(failure.value, OSError) and failure.value.errno == errno.EPIPE
        why = "was closed by whoever read it" if gone else "cannot be written"
        self._broken(DiskError(f"standard output {why}"), failure)

    def _broken(self, error: P2pxferError, failure: Failure) -> None:
        if not isinstance(failure.value, OSError):
            self.log.failure("the pipe broke", failure)
        if not self._closed:
            self._end(error)


def write_whole(target: int, data: bytes | bytearray | memoryview) -> int:
    """Write all of ``data``, however long that takes; returns its size."""
    with memoryview(data) as view:
        at = 0
        while at < len(view):
            at += os.write(target, view[at:])
    return len(data)


def close_output(target: int) -> None:
    """Let whoever reads see the end; the number stays taken, so that nothing else gets it.

    A socket may be open under other numbers too, as where it is the input as well, so its direction is shut by itself.
    """
    if stat.S_ISSOCK(os.fstat(target).st_mode):
        # One that the other end has reset is closed already.
        with socket.socket(fileno=os.dup(target)) as other, suppress(OSError):
            other.shutdown(socket.SHUT_WR)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, target)
    os.close(nothing)
