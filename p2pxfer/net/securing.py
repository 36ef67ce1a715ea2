"""Puts TLS on a connection that stands, whoever dialled it, under a protocol that wants to be told when it is safe.

Two stacks do the same work. A socket is driven in large blocks (:mod:`p2pxfer.net.fasttls`); everything else, such as
TLS inside TLS on a relay leg, goes through Twisted's own wrapper.

What the protocol on top sees, with either stack::

    makeConnection(transport)       at once; what it writes now is sent after the handshake
    handshakeCompleted()            the other end is verified (only called on an IHandshakeListener)
    dataReceived(data)*             never before that; ``data`` may be a memoryview that is valid during the call only
    connectionLost(Failure)         exactly once: ConnectionDone after an orderly close, ConnectionAborted after its
                                    own abort, and a P2pxferError for everything else

There is no deadline here: the protocol on top sets one for the handshake and aborts.
"""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IProtocol, IReactorFDSet, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.errors import P2pxferError
from p2pxfer.net.fasttls import TLSSocketTransport
from p2pxfer.net.tls import Creator, Link, TLSTransport, final_reason


def start_tls(
    transport: ITransport,
    protocol: IProtocol,
    creator: Creator,
    *,
    is_client: bool,
    reactor: Any,
    early: bytes = b"",
    on_socket: bool = True,
) -> TLSTransport:
    """Start the handshake on ``transport`` and put ``protocol`` on top of it; returns the new transport.

    From here on the old protocol of ``transport`` hears nothing.  ``early`` are bytes of the handshake that the old
    protocol received already.  ``on_socket=False`` forces memory buffers.

    Raises:
        ConfigError: this side's key or roots cannot be used.
    """
    creator.context(is_client)  # whatever is wrong with it is said before the transport changes hands
    if on_socket and not early and can_take_over(transport, reactor):
        ends = transport.getHost(), transport.getPeer()
        tls = TLSSocketTransport(take_over(transport), ends, protocol, creator, is_client=is_client, reactor=reactor)
        tls.start()
        return tls
    return wrap(transport, protocol, creator, is_client=is_client, reactor=reactor, early=early)


def can_take_over(transport: object, reactor: object) -> bool:
    """True if ``transport`` is a plain TCP connection of a reactor that watches descriptors, and nothing is unsent."""
    return (
        isinstance(transport, tcp.Connection)
        and IReactorFDSet.providedBy(reactor)
        and bool(transport.connected)
        and not transport.disconnecting
        and not transport.TLS
        and not transport.dataBuffer
        and not transport._tempDataBuffer  # Twisted has no public way to ask
    )


def _nothing() -> None:
    """What a transport does whose socket was taken out."""


def take_over(transport: Any) -> socket.socket:
    """Take the socket out of a connected Twisted TCP transport; the connection itself does not notice.

    The old transport ends without touching the connection, and its protocol hears nothing more.
    """
    transport.stopReading()
    transport.stopWriting()
    # The event that is being carried out may have a second half: a dial becomes readable and writable at once.
    transport.doRead = transport.doWrite = _nothing
    transport.protocol = Protocol()
    # A detached socket object has no descriptor left that its owner could shut down or close.
    sock = socket.socket(fileno=transport.getHandle().detach())
    transport.connectionLost(Failure(ConnectionDone()))
    return sock


def wrap(
    transport: ITransport, protocol: IProtocol, creator: Creator, *, is_client: bool, reactor: Any, early: bytes = b""
) -> TLSTransport:
    """:func:`start_tls` with memory buffers, on any transport: a socket, TLS, or a simulation."""
    factory = TLSMemoryBIOFactory(creator, is_client, Factory(), reactor)
    tls: Any = cast(Any, _MemoryTLS)(factory, _Verifying(protocol, creator))
    if isinstance(transport, ProtocolWrapper):
        transport.wrappedProtocol = tls
    else:
        cast(Any, transport).protocol = tls
    tls.makeConnection(transport)
    if early:
        tls.dataReceived(early)
    return cast(TLSTransport, tls)


class _MemoryTLS(TLSMemoryBIOProtocol):
    """Twisted's wrapper, which may be aborted at any time and remembers that it was."""

    aborted = False
    round_trip = 0.0

    def silent_for(self) -> float:
        """See :class:`~p2pxfer.net.tls.TLSTransport`: what is underneath need not be a socket."""
        return 0.0

    def abortConnection(self) -> None:
        """See :class:`~p2pxfer.net.tls.TLSTransport`; harmless after the end."""
        if self.connected and not self.aborted:
            self.aborted = True
            cast(Any, super()).abortConnection()


@implementer(IHandshakeListener)
class _Verifying(Protocol):
    """Stands between Twisted's wrapper and the protocol on top, which it shields from an unverified other end."""

    _link: Link
    transport: _MemoryTLS

    def __init__(self, upper: IProtocol, creator: Creator) -> None:
        self._upper = upper
        self._creator = creator
        self._error: P2pxferError | None = None

    def connectionMade(self) -> None:
        self._link = cast(Any, self.transport).getHandle()
        self._upper.makeConnection(self.transport)

    def handshakeCompleted(self) -> None:
        try:
            self._creator.judge(self._link)
        except P2pxferError as error:
            self._error = error
            self.transport.abortConnection()
            return
        if IHandshakeListener.providedBy(self._upper):
            self._upper.handshakeCompleted()

    def dataReceived(self, data: bytes) -> None:
        if self._link.peer is not None:
            self._upper.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        aborted = self.transport.aborted
        reason = Failure(self._error) if self._error is not None else reason
        self._upper.connectionLost(final_reason(self._creator, self._link, reason, aborted))
