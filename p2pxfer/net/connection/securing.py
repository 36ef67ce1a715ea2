"""Puts TLS on a connection that stands, whoever dialled it, under a protocol that wants to be told when it is safe.

A socket is taken out of its Twisted transport; everything else, such as TLS inside TLS on a relay leg, is made to look
like one (:mod:`p2pxfer.net.connection.streamsocket`).  Both are driven by :mod:`p2pxfer.net.connection.fasttls`.

What the protocol on top sees::

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
from twisted.internet.interfaces import IProtocol, IReactorFDSet, ITransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from p2pxfer.net.connection.fasttls import TLSSocketTransport
from p2pxfer.net.connection.streamsocket import StreamSocket
from p2pxfer.net.connection.streamtls import TLSStreamTransport
from p2pxfer.net.connection.tls import Creator
from p2pxfer.net.connection.transport import TLSTransport


def start_tls(
    transport: ITransport,
    protocol: IProtocol,
    creator: Creator,
    *,
    is_client: bool,
    reactor: Any,
    early: bytes = b"",
    on_socket: bool = True,
    limit: int = 0,
) -> TLSTransport:
    """Start the handshake on ``transport`` and put ``protocol`` on top of it; returns the new transport.

    From here on the old protocol of ``transport`` hears nothing.  ``early`` are bytes of the handshake that the old
    protocol received already.  ``on_socket=False`` leaves the socket to its transport, as does a ``limit``, for which
    see :class:`~p2pxfer.net.connection.streamsocket.StreamSocket`.

    Raises:
        ConfigError: this side's key or roots cannot be used.
    """
    creator.context(is_client)  # whatever is wrong with it is said before the transport changes hands
    ends = transport.getHost(), transport.getPeer()
    tls: TLSSocketTransport
    if on_socket and not early and not limit and can_take_over(transport, reactor):
        tls = TLSSocketTransport(take_over(transport), ends, protocol, creator, is_client=is_client, reactor=reactor)
    else:
        stream: Any = StreamSocket(reactor, early, limit)
        tls = TLSStreamTransport(stream, ends, protocol, creator, is_client=is_client, reactor=reactor)
        cast(Any, transport).protocol = stream
        stream.makeConnection(transport)
    tls.start()
    return tls


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
