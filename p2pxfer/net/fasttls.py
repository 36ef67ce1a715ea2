"""A Twisted transport for TLS on a TCP socket of its own.

Twisted's wrapper passes every byte through Python in pieces of 16 KiB and copies it twice more.  Here OpenSSL decrypts
into the memory where the bytes belong and encrypts from where they are, and :mod:`p2pxfer.net.bulktls` moves what is
encrypted in large blocks.

Laws of this file:

1. The descriptor leaves the reactor and is closed exactly once, on every way out, and never while the reactor works
   through a batch of events in which its number may appear again: an abort closes it in the next turn.
2. The reactor may call :meth:`doRead` and :meth:`doWrite` in one turn, also after the connection ended in the first.
3. What was encrypted and did not fit into the socket goes first, also before the goodbye.
4. Nothing is sent for the protocol, nothing is delivered to it, before the other end is verified.
5. One turn moves a bounded number of bytes, with or without data in them, so a fast connection does not starve the
   others.
"""

from __future__ import annotations

import enum
import errno
import socket
import struct
from collections.abc import Iterable
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    IPushProducer,
    IReadWriteDescriptor,
    ISystemHandle,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.core.messages import ALPN_SERVER
from p2pxfer.errors import P2pxferError
from p2pxfer.net.bulktls import BLOCK, SMALL_BLOCK, BulkTLS
from p2pxfer.net.outbuffer import RECORD, OutBuffer
from p2pxfer.net.tcpinfo import round_trip, silent_for
from p2pxfer.net.tls import Creator, Link, Octets, final_reason, tls_reason

TURN: Final = 1024 * 1024
"""Most bytes read, and most written, in one turn of the reactor: under a millisecond of encryption."""
DELIVERY: Final = 256 * 1024
"""Most bytes in one ``dataReceived``: 16 records, still inside a processor's second-level cache."""
LINGER_S: Final = 10.0
"""How long the other end may take to answer close_notify with its own, seconds."""


@runtime_checkable
class DirectReceiver(Protocol):
    """A protocol that may have memory of its own waiting for the next bytes, which saves a copy of each."""

    def memory_for_input(self) -> memoryview | None:
        """Where the next bytes belong, or ``None`` when they are to come through ``dataReceived``."""
        ...

    def input_arrived(self, size: int) -> None:
        """``size`` bytes were written to the start of what :meth:`memory_for_input` returned."""
        ...


class _Phase(enum.Enum):
    """What a connection is doing; it only moves down this list."""

    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    LINGERING = enum.auto()  # close_notify and FIN were sent; the other end's last bytes are read and dropped
    ENDED = enum.auto()


@implementer(IReadWriteDescriptor, ITransport, IConsumer, IPushProducer, ISystemHandle)
class TLSSocketTransport:
    """A TLS connection on a socket of its own; :class:`~p2pxfer.net.tls.TLSTransport` says what it can do."""

    log = Logger()
    piece: ClassVar[int] = RECORD
    """Bytes asked of OpenSSL at a time."""
    _scratch: ClassVar[memoryview] = memoryview(bytearray(DELIVERY))
    """Where all connections receive: what is in it is dealt with before the call that filled it returns."""

    def __init__(
        self,
        sock: socket.socket,
        ends: tuple[Any, Any],
        protocol: IProtocol,
        creator: Creator,
        *,
        is_client: bool,
        reactor: Any,
    ) -> None:
        """``sock`` is connected and from now on closed by this object; ``ends`` are its local and remote address."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.protocol = protocol
        self.connected = True
        self.disconnecting = False
        self._socket = sock
        self._ends = ends
        self._creator = creator
        self._reactor = reactor
        self._link = creator.link(is_client)
        # Connections to a rendezvous server are many and those between peers few: see Creator._make_context.
        block = SMALL_BLOCK if creator.alpn == ALPN_SERVER else BLOCK
        self._tls = BulkTLS(self._link, sock, block)
        self._most = block - RECORD  # encrypted it fits into one system call
        self._phase = _Phase.HANDSHAKE
        self._handshake_reads = False
        self._out = OutBuffer()
        self._parting = False
        self._paused = False
        self._watched: tuple[bool, bool] = (False, False)
        self._direct = protocol if isinstance(protocol, DirectReceiver) else None
        self._later: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None

    def start(self) -> None:
        """Tell the protocol of its transport; the handshake begins in the next turn of the reactor."""
        self.protocol.makeConnection(self)
        self._watch()

    # -- what the protocol asks for ------------------------------------------------------------------------------

    def write(self, data: Octets) -> None:
        """See :class:`~p2pxfer.net.tls.TLSTransport`."""
        self.writeSequence((data,))

    def writeSequence(self, data: Iterable[Octets]) -> None:
        """See :class:`~p2pxfer.net.tls.TLSTransport`."""
        if not self.connected or (self.disconnecting and not self._out.open):
            return
        self._out.add(data)
        self._watch()

    def loseConnection(self) -> None:
        """See :class:`~p2pxfer.net.tls.TLSTransport`; what arrives from now on is dropped."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if self._phase is _Phase.HANDSHAKE and not self._out:
                self.abortConnection()
            self._watch()

    def abortConnection(self) -> None:
        """See :class:`~p2pxfer.net.tls.TLSTransport`; harmless after the end."""
        self._abort(Failure(ConnectionAborted()))

    def getHandle(self) -> Link:
        """The OpenSSL connection."""
        return self._link

    def getHost(self) -> Any:
        """The local address."""
        return self._ends[0]

    def getPeer(self) -> Any:
        """The remote address."""
        return self._ends[1]

    @property
    def unsent(self) -> int:
        """Bytes that were written but not yet given to OpenSSL."""
        return self._out.unsent

    def silent_for(self) -> float:
        """See :class:`~p2pxfer.net.tls.TLSTransport`."""
        return silent_for(self._socket) if self.connected else 0.0

    @property
    def round_trip(self) -> float:
        """See :class:`~p2pxfer.net.tls.TLSTransport`."""
        return round_trip(self._socket) if self.connected else 0.0

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let ``producer`` write; a second one at a time is a mistake of the caller (``RuntimeError``)."""
        if self.connected:
            self._out.register(producer, streaming)
        else:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        """The producer has written everything; a close that waited for this goes on."""
        self._out.unregister()
        self._watch()

    def pauseProducing(self) -> None:
        """Stop reading from the socket once the protocol has returned."""
        self._paused = True
        self._watch()

    def resumeProducing(self) -> None:
        """Read on."""
        self._paused = False
        self._read_soon()
        self._watch()

    def stopProducing(self) -> None:
        """Close: a consumer of what this connection receives has gone."""
        self.loseConnection()

    # -- what the reactor asks for -------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The descriptor; -1 after the end."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """The name of the protocol on top."""
        return f"{type(self.protocol).__name__} (TLS)"

    def doRead(self) -> None:
        """The socket is readable."""
        if self._phase is _Phase.HANDSHAKE:
            self._handshake()
        self._receive()
        self._watch()

    def doWrite(self) -> None:
        """The socket is writable."""
        if self._phase is _Phase.HANDSHAKE:
            self._handshake()
            self._receive()  # what came with the last of it
        self._send()
        self._watch()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor noticed that the socket is finished, or is stopping."""
        lingering = self._phase is _Phase.LINGERING
        self._end(Failure(ConnectionDone()) if lingering else self._last_words(Failure(ConnectionLost())))

    def _watch(self) -> None:
        """Ask the reactor for exactly those events that there is something to do for."""
        match self._phase:
            case _Phase.HANDSHAKE:
                wanted = (self._handshake_reads, self._tls.unsent or not self._handshake_reads)
            case _Phase.OPEN:
                closing = self.disconnecting and not self._out.open
                wanted = (self.disconnecting or not self._paused, self._tls.unsent or bool(self._out) or closing)
            case _Phase.LINGERING:
                wanted = (True, False)
            case _:
                wanted = (False, False)
        self._ask(wanted)

    def _ask(self, wanted: tuple[bool, bool]) -> None:
        read, write = self._watched
        self._watched = wanted
        if wanted[0] != read:
            (self._reactor.addReader if wanted[0] else self._reactor.removeReader)(self)
        if wanted[1] != write:
            (self._reactor.addWriter if wanted[1] else self._reactor.removeWriter)(self)

    # -- the handshake -------------------------------------------------------------------------------------------

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._handshake_reads = True
        except SSL.Error:
            self._end(Failure())
        else:
            self._verify()

    def _verify(self) -> None:
        """Both ends have finished as far as this one can know; judge the other."""
        try:
            self._creator.judge(self._link)
        except P2pxferError:
            self._abort(Failure())
            return
        self._phase = _Phase.OPEN
        if IHandshakeListener.providedBy(self.protocol):
            self.protocol.handshakeCompleted()

    # -- reading -------------------------------------------------------------------------------------------------

    def _may_receive(self) -> bool:
        if self._phase is _Phase.OPEN:
            return self.disconnecting or not self._paused
        return self._phase is _Phase.LINGERING

    def _receive(self) -> None:
        """Read and deliver until there is nothing left, the protocol pauses, or the turn is over."""
        left = TURN
        enough = self._tls.taken + TURN + BLOCK  # what belongs to so much data, and what may be no data at all
        more = True
        while more and left > 0 and self._tls.taken < enough and self._may_receive():
            own = self._own_memory()
            size, stop = self._read_into(self._shared_memory() if own is None else own[: max(left, self.piece)])
            left -= size
            more = stop is None
            if size and self._phase is _Phase.OPEN and not self.disconnecting:
                self._deliver(size, own is not None)
            if stop is not None:
                self._read_stopped(stop)
        if more:
            self._read_soon()

    def _own_memory(self) -> memoryview | None:
        """Memory of the protocol that wants the next bytes, if there is enough of it to save a copy."""
        if self._direct is None or self.disconnecting or self._phase is not _Phase.OPEN:
            return None
        view = self._direct.memory_for_input()
        return view if view is not None and len(view) >= self.piece else None

    def _shared_memory(self) -> memoryview:
        """Memory for one delivery; short where the protocol has its own, so that the bulk finds its way there."""
        return self._scratch[: DELIVERY if self._direct is None else self.piece]

    def _deliver(self, size: int, direct: bool) -> None:
        if direct and self._direct is not None:
            self._direct.input_arrived(size)
            return
        with self._scratch[:size] as view:
            self.protocol.dataReceived(view)  # type: ignore[arg-type]  # as the module's users are told

    def _read_into(self, memory: memoryview) -> tuple[int, SSL.Error | None]:
        return self._tls.fill(memory, self.piece)

    def _read_stopped(self, stop: SSL.Error) -> None:
        if self._phase is _Phase.ENDED or isinstance(stop, SSL.WantReadError):
            return
        if isinstance(stop, SSL.ZeroReturnError):
            self._say_goodbye()
            self._end(Failure(ConnectionDone()))
        else:
            lingering = self._phase is _Phase.LINGERING
            self._end(Failure(ConnectionDone()) if lingering else Failure(stop))

    def _read_soon(self) -> None:
        """Bytes inside OpenSSL cause no event of the socket: come back for them in the next turn."""
        if self._later is None and self._may_receive() and self._tls.unread:
            self._later = self._reactor.callLater(0, self._read_now)

    def _read_now(self) -> None:
        self._later = None
        try:
            self._receive()
        except Exception:  # the reactor does the same for what its events cause
            self.log.failure("{protocol} failed", protocol=self.logPrefix())
            self.connectionLost(Failure())
        self._watch()

    # -- writing -------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Write until the socket is full, nothing is left, or the turn is over."""
        left = TURN
        try:
            self._tls.flush()
            while self._out and left > 0 and self._phase is _Phase.OPEN:
                sent = self._tls.send(self._out.first()[: min(self._most, left)])
                left -= sent
                self._out.sent(sent)
        except SSL.WantWriteError:
            pass
        except SSL.Error as error:
            self._end(self._last_words(Failure(error)))
            return
        if self._phase is _Phase.OPEN:
            self._out.ask_for_more()
        if self._phase is _Phase.OPEN and self.disconnecting and not self._out.open and not self._out:
            self._linger()

    # -- the end -------------------------------------------------------------------------------------------------

    def _last_words(self, reason: Failure) -> Failure:
        """Why the connection is lost: an alert that waits to be read explains more than an error of the socket."""
        if self._phase is _Phase.OPEN and (reason.check(ConnectionLost) or reason.check(SSL.SysCallError)):
            _, stop = self._read_into(self._shared_memory())
            if isinstance(stop, SSL.ZeroReturnError):
                return Failure(ConnectionDone())
            if stop is not None and tls_reason(stop) is not None:
                return Failure(stop)
        return reason

    def _say_goodbye(self) -> None:
        if not self._parting:
            self._parting = True
            try:
                self._tls.shutdown()
            except SSL.Error:
                pass  # the socket is gone: the other end sees a cut, as it must

    def _linger(self) -> None:
        """Everything was sent: say goodbye, and read to the end so that no reset destroys what is on its way."""
        self._say_goodbye()
        if self._tls.unsent:
            return  # comes back when there is room
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
        self._phase = _Phase.LINGERING
        self._deadline = self._reactor.callLater(LINGER_S, self._end, Failure(ConnectionDone()))

    def _abort(self, reason: Failure) -> None:
        if self._phase is _Phase.ENDED:
            return
        self._leave_reactor()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._reactor.callLater(0, self._close, reason)

    def _end(self, reason: Failure) -> None:
        if self._phase is not _Phase.ENDED:
            self._leave_reactor()
            self._close(reason)

    def _leave_reactor(self) -> None:
        """Nothing is read or written from here on."""
        self._phase = _Phase.ENDED
        self.disconnecting = True
        self._watch()
        for call in (self._later, self._deadline):
            if call is not None and call.active():
                call.cancel()
        self._out.drop()

    def _close(self, reason: Failure) -> None:
        """Close the descriptor and tell the protocol; called exactly once."""
        self.connected = False
        self._socket.close()
        self._out.stop_producer()
        aborted = reason.check(ConnectionAborted) is not None
        self.protocol.connectionLost(final_reason(self._creator, self._link, reason, aborted))
