"""A Twisted transport for TLS, and for the sealed records that follow it between peers, on a TCP socket of its own.

Twisted's wrapper passes every byte through Python in pieces of 16 KiB and copies it twice more.  Here what comes is
decrypted into the memory where it belongs (:mod:`p2pxfer.net.connection.delivery`), what goes is encrypted from where
it is, and :mod:`p2pxfer.net.connection.wire` moves it in large blocks.

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

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Final

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
from p2pxfer.core.session.records import Opener, Sealer
from p2pxfer.errors import P2pxferError
from p2pxfer.net.connection.bulktls import BLOCK
from p2pxfer.net.connection.delivery import Delivery
from p2pxfer.net.connection.descriptor import SocketDescriptor
from p2pxfer.net.connection.outbuffer import OutBuffer
from p2pxfer.net.connection.phase import Phase
from p2pxfer.net.connection.tls import Creator, Link, Octets, final_reason, tls_reason
from p2pxfer.net.connection.wire import SecureWire, Stop

TURN: Final = 1024 * 1024
"""Most bytes read, and most written, in one turn of the reactor: under a millisecond of encryption, in a few calls."""
PIECE_COST: Final = 4096
"""What a delivery counts of it at least: bytes alone do not tell what a flood of tiny records costs."""
LINGER_S: Final = 10.0
"""How long the other end may take to answer the goodbye with its own, seconds."""


@implementer(IReadWriteDescriptor, ITransport, IConsumer, IPushProducer, ISystemHandle)
class TLSSocketTransport(SocketDescriptor):
    """A TLS connection on a socket of its own; :class:`~p2pxfer.net.connection.transport.TLSTransport` says what it can
    do."""

    log = Logger()
    _delivers: ClassVar[type[Delivery]] = Delivery

    def __init__(
        self, sock: Any, ends: tuple[Any, Any], protocol: IProtocol, creator: Creator, *, is_client: bool, reactor: Any
    ) -> None:
        """``sock`` is connected and from now on closed by this object; ``ends`` are its local and remote address."""
        super().__init__(sock, ends, reactor)
        self.disconnecting = False
        self._creator, self._link = creator, creator.link(is_client)
        self._wire = SecureWire(self._link, sock, reactor.seconds, changes=creator.alpn != ALPN_SERVER)
        self._phase = Phase.HANDSHAKE
        self._out = OutBuffer(self._wire.may_wait)
        self._words = b""
        self._paused = False
        self._delivery = self._delivers(protocol)
        self._later: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None

    def start(self) -> None:
        """Tell the protocol of its transport; the handshake begins in the next turn of the reactor."""
        self.protocol.makeConnection(self)
        self._watch()

    @property
    def protocol(self) -> IProtocol:
        """Who is on top: on a relay leg another one takes over."""
        return self._delivery.protocol

    @protocol.setter
    def protocol(self, protocol: IProtocol) -> None:
        self._delivery.protocol = protocol

    # -- what the protocol asks for ------------------------------------------------------------------------------

    def write(self, data: Octets) -> None:
        """See :class:`~p2pxfer.net.connection.transport.TLSTransport`."""
        self.writeSequence((data,))

    def writeSequence(self, data: Iterable[Octets]) -> None:
        """See :class:`~p2pxfer.net.connection.transport.TLSTransport`."""
        if not self.connected or (self.disconnecting and not self._out.open):
            return
        self._out.add(data)
        self._watch()

    def loseConnection(self) -> None:
        """See :class:`~p2pxfer.net.connection.transport.TLSTransport`; what arrives from now on is dropped."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if self._phase is Phase.HANDSHAKE and not self._out:
                self.abortConnection()
            self._watch()

    def end_with(self, words: bytes) -> bool:
        """See :class:`~p2pxfer.net.connection.transport.TLSTransport`."""
        if self._phase is not Phase.OPEN or not self._wire.seals or self.disconnecting:
            return False
        self._out.drop()
        self._words = words
        self.loseConnection()
        return True

    @property
    def last_words(self) -> bytes:
        """See :class:`~p2pxfer.net.connection.transport.TLSTransport`."""
        return self._wire.last_words

    def abortConnection(self) -> None:
        """See :class:`~p2pxfer.net.connection.transport.TLSTransport`; harmless after the end."""
        self._abort(Failure(ConnectionAborted()))

    def seal_from_here(self, sealer: Sealer) -> None:
        """See :class:`~p2pxfer.net.connection.transport.TLSTransport`."""
        self._change(self._wire.seal_from_here, sealer, self._out)

    def open_from_here(self, opener: Opener) -> None:
        """See :class:`~p2pxfer.net.connection.transport.TLSTransport`."""
        self._change(self._wire.open_from_here, opener)

    def _change(self, change: Callable[..., None], *how: object) -> None:
        try:
            if self._phase is Phase.OPEN:
                change(*how)
        except SSL.Error:
            self._abort(Failure())
        self._watch()

    def getHandle(self) -> Link:
        """The OpenSSL connection."""
        return self._link

    @property
    def unsent(self) -> int:
        """Bytes that were written but not yet given to the kernel."""
        return self._out.unsent + self._wire.waiting

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

    def logPrefix(self) -> str:
        """The name of the protocol on top."""
        return f"{type(self.protocol).__name__} (TLS)"

    def doRead(self) -> None:
        """The socket is readable."""
        if self._phase is Phase.HANDSHAKE:
            self._handshake()
        self._receive()
        self._watch()

    def doWrite(self) -> None:
        """The socket is writable."""
        if self._phase is Phase.HANDSHAKE:
            self._handshake()
            self._receive()  # what came with the last of it
        self._send()
        self._watch()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor noticed that the socket is finished, or is stopping."""
        lingering = self._phase is Phase.LINGERING
        self._end(Failure(ConnectionDone()) if lingering else self._explained(Failure(ConnectionLost())))

    def _watch(self) -> None:
        """Ask the reactor for exactly those events that there is something to do for."""
        waits = self._wire.unsent or bool(self._out) or (self.disconnecting and not self._out.open)
        wanted = (self._may_receive(), self._phase is Phase.OPEN and waits)
        if self._phase is Phase.HANDSHAKE:
            wanted = (True, self._wire.unsent)
        self._ask(wanted)

    # -- the handshake -------------------------------------------------------------------------------------------

    def _handshake(self) -> None:
        try:
            self._wire.do_handshake()
            self._creator.judge(self._link)
        except SSL.WantReadError:
            pass
        except SSL.Error:
            self._end(Failure())
        except P2pxferError:
            self._abort(Failure())
        else:
            self._phase = Phase.OPEN
            if IHandshakeListener.providedBy(self.protocol):
                self.protocol.handshakeCompleted()

    # -- reading -------------------------------------------------------------------------------------------------

    def _may_receive(self) -> bool:
        may = self.disconnecting or not self._paused
        return may if self._phase is Phase.OPEN else self._phase is Phase.LINGERING

    def _receive(self) -> None:
        """Read and deliver until there is nothing left, the protocol pauses, or the turn is over."""
        left = TURN
        enough = self._wire.taken + TURN + BLOCK  # what belongs to so much data, and what may be no data at all
        more = True
        while more and left > 0 and (taken := self._wire.taken) < enough and self._may_receive():
            wanted = self._phase is Phase.OPEN and not self.disconnecting
            size, stop = self._wire.fill(partial(self._delivery.memory, left) if wanted else self._delivery.shared)
            left -= max(size, PIECE_COST)
            more = stop is None
            if wanted and (size or self._wire.taken > taken):
                self._delivery.deliver(size)
            if stop is not None:
                self._read_stopped(stop)
        if more:
            self._read_soon()

    def _read_stopped(self, stop: Stop) -> None:
        if self._phase is Phase.ENDED or isinstance(stop, SSL.WantReadError):
            return
        orderly = isinstance(stop, SSL.ZeroReturnError)
        if orderly:
            self._wire.say_goodbye()
        self._end(Failure(ConnectionDone() if orderly or self._phase is Phase.LINGERING else stop))

    def _read_soon(self) -> None:
        """Bytes inside OpenSSL cause no event of the socket: come back for them in the next turn."""
        if self._later is None and self._may_receive() and self._wire.unread:
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
            self._wire.flush()
            while self._out and left > 0 and self._phase is Phase.OPEN:
                left -= self._wire.send(self._out, left)
        except SSL.WantWriteError:
            pass
        except SSL.Error as error:
            self._end(self._explained(Failure(error)))
            return
        if self._phase is Phase.OPEN:
            self._out.ask_for_more()
        if self._phase is Phase.OPEN and self.disconnecting and not self._out.open and not self._out:
            self._linger()

    # -- the end -------------------------------------------------------------------------------------------------

    def _explained(self, reason: Failure) -> Failure:
        """Why the connection is lost: an alert that waits to be read explains more than an error of the socket."""
        if self._phase is Phase.OPEN and (reason.check(ConnectionLost) or reason.check(SSL.SysCallError)):
            _, stop = self._wire.fill(self._delivery.shared)
            if isinstance(stop, SSL.ZeroReturnError):
                return Failure(ConnectionDone())
            if stop is not None and tls_reason(stop) is not None:
                return Failure(stop)
        return reason

    def _linger(self) -> None:
        """Everything was sent: say goodbye, and read to the end so that no reset destroys what is on its way."""
        self._wire.say_goodbye(self._words)
        if self._wire.unsent:
            return  # comes back when there is room
        self._send_end()
        self._phase = Phase.LINGERING
        self._deadline = self._reactor.callLater(LINGER_S, self._end, Failure(ConnectionDone()))

    def _abort(self, reason: Failure) -> None:
        if self._phase is Phase.ENDED:
            return
        self._leave_reactor()
        self._reset_on_close()
        self._reactor.callLater(0, self._close, reason)

    def _end(self, reason: Failure) -> None:
        if self._phase is not Phase.ENDED:
            self._leave_reactor()
            self._close(reason)

    def _leave_reactor(self) -> None:
        """Nothing is read or written from here on."""
        self._phase = Phase.ENDED
        self.disconnecting = True
        self._watch()
        for call in (self._later, self._deadline):
            if call is not None and call.active():
                call.cancel()
        self._out.drop()

    def _close(self, reason: Failure) -> None:
        """Close the descriptor and tell the protocol; called exactly once."""
        self.connected = False
        self._close_socket()
        self._out.stop_producer()
        aborted = reason.check(ConnectionAborted) is not None
        self.protocol.connectionLost(final_reason(self._creator, self._link, reason, aborted))
