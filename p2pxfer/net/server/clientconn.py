"""One connection at the rendezvous server, from the accepted socket to the relay leg.

Two objects in turn: a :class:`Door` while there is only TCP, a :class:`ServerConnection` on top of TLS, which first
waits for the handshake, then takes frames, and may end as one leg of a relay.
"""

from __future__ import annotations

import socket
from enum import Enum, auto
from typing import Any, cast
from typing import Protocol as Interface

from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPushProducer, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.core.addresses import observed_endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.framing import PRE_AUTH_CAP, FrameDecoder
from p2pxfer.core.messages import CLIENT_MESSAGES, FIRST_MESSAGES, SERVER
from p2pxfer.core.server.links import Role
from p2pxfer.core.text import safe_text
from p2pxfer.errors import FrameError, P2pxferError
from p2pxfer.net.connection.securing import start_tls
from p2pxfer.net.connection.tls import Creator, Octets
from p2pxfer.net.connection.transport import TLSTransport
from p2pxfer.net.server.admission import Admission, Visitor
from p2pxfer.net.server.relay import Relay

STALL_S = 60.0
"""A client that reads nothing for this long although messages wait for it is cut off, seconds."""
USER_TIMEOUT_MS = 60_000
"""TCP_USER_TIMEOUT (RFC 5482): data unacknowledged for this long ends a connection, milliseconds."""
RELAY_READ = 256 * 1024
"""Bytes that a relay leg reads at once where Twisted's own transport carries it."""

_CLIENT = (*FIRST_MESSAGES, *CLIENT_MESSAGES)
_FIRST_CAPS = SERVER.caps(_CLIENT, PRE_AUTH_CAP)
_CAPS = SERVER.caps(_CLIENT)


class Driver(Interface):
    """What a connection tells the server, and what it uses of it."""

    reactor: Any
    clock: IReactorTime
    creator: Creator
    admission: Admission

    def note(self, kind: str, text: str, **fields: object) -> None:
        """Write a line to the log."""

    def opened(self, connection: ServerConnection, key: bytes) -> int:
        """TLS stands; returns the connection's number."""

    def received(self, number: int, message: Message) -> Role:
        """A message came; returns what the connection is now."""

    def broken(self, number: int, error: FrameError) -> None:
        """Something came that is no message."""

    def lost(self, number: int) -> None:
        """The connection is gone; 0 stands for one that was never opened."""


class Doors(Factory):
    """Makes a door for each accepted socket."""

    noisy = False

    def __init__(self, server: Driver) -> None:
        self._server = server

    def buildProtocol(self, addr: Any) -> Door | None:
        """A door, or None to close the socket at once."""
        door = Door(self._server)
        endpoint = observed_endpoint(addr.host, addr.port)
        door.visitor = self._server.admission.admit(endpoint.host, door.abort)
        if door.visitor is None:
            self._server.note("admission", "refused a connection from {source}", source=str(endpoint.host))
            return None
        return door


class Door(Protocol):
    """One accepted socket until TLS takes it."""

    visitor: Visitor | None = None

    def __init__(self, server: Driver) -> None:
        self._server = server
        self._tls: TLSTransport | None = None

    def connectionMade(self) -> None:
        """TCP stands: start the handshake."""
        assert self.visitor is not None
        tcp = cast(Any, self.transport)
        _tune(tcp.getHandle())
        tcp.setTcpNoDelay(True)
        connection = ServerConnection(self._server, self.visitor, tcp)
        try:
            self._tls = start_tls(tcp, connection, self._server.creator, is_client=False, reactor=self._server.reactor)
        except P2pxferError as error:
            self._server.note("tls", "no TLS on a new connection: {why}", why=str(error))
            self.visitor.gone()
            tcp.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The socket ended before TLS took it."""
        if self.visitor is not None:
            self.visitor.gone()

    def abort(self) -> None:
        """End whatever the socket has become."""
        transport = self._tls if self._tls is not None else cast(Any, self.transport)
        if transport is not None:
            transport.abortConnection()


def _tune(sock: socket.socket) -> None:
    """Have the system notice a client that is gone, with or without data on its way."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 45),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT_MS),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class _State(Enum):
    """What a connection does with the bytes it gets."""

    HANDSHAKE = auto()
    FIRST = auto()
    FRAMES = auto()
    RELAY = auto()
    CLOSING = auto()


@implementer(IHandshakeListener, IPushProducer)
class ServerConnection(Protocol):
    """One client connection on top of TLS."""

    def __init__(self, server: Driver, visitor: Visitor, tcp: Any) -> None:
        self._server = server
        self._visitor = visitor
        self._tcp = tcp
        self._state = _State.HANDSHAKE
        self._decoder = FrameDecoder(_FIRST_CAPS)
        self._number = 0
        self._relay: Relay | None = None
        self._timer: IDelayedCall | None = None

    @property
    def tls(self) -> TLSTransport:
        """The transport."""
        return cast(TLSTransport, self.transport)

    # -- life ----------------------------------------------------------------------------------------------------

    def handshakeCompleted(self) -> None:
        """TLS stands and the client proved its key."""
        key = self.tls.getHandle().peer
        if key is None:
            self.abort()
            return
        self._state = _State.FIRST
        self._visitor.handshaken()
        self._number = self._server.opened(self, key)
        self.tls.registerProducer(self, True)

    def dataReceived(self, data: Octets) -> None:
        """Bytes for the decoder or for the other leg; what comes after the end is ignored."""
        if self._state is _State.RELAY:
            assert self._relay is not None
            self._relay.received(self, data)
        elif self._state in {_State.FIRST, _State.FRAMES}:
            self._feed(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        if isinstance(reason.value, P2pxferError) and self._state is _State.HANDSHAKE:
            self._server.note("tls", "a handshake failed: {why}", why=safe_text(str(reason.value), 200))
        self._state = _State.CLOSING
        self._stop_timer()
        self._visitor.gone()
        if self._relay is not None:
            self._relay.lost(self)
        self._server.lost(self._number)

    def close_within(self, seconds: float) -> None:
        """Send what was written, then close; abort after ``seconds``."""
        self._state = _State.CLOSING
        self._stop_timer()
        self._timer = self._server.clock.callLater(seconds, self.abort)
        self.tls.unregisterProducer()
        self.tls.resumeProducing()
        self.tls.loseConnection()

    def abort(self) -> None:
        """End the connection at once."""
        self._state = _State.CLOSING
        self._stop_timer()
        self.tls.abortConnection()

    # -- frames --------------------------------------------------------------------------------------------------

    def _feed(self, data: Octets) -> None:
        try:
            for frame in self._decoder.feed(cast(bytes, data)):
                self._settle()
                role = self._server.received(self._number, SERVER.decode(frame))
                if role is Role.LEG or role is Role.RELAYED:
                    self._decoder.allow({})
                if role is Role.CLOSED:
                    return
        except FrameError as error:
            self._refuse(error)
            return
        if self._state is _State.RELAY and not self._decoder.idle:
            self._refuse(FrameError("data came before the relay was ready"))

    def _refuse(self, error: FrameError) -> None:
        """What came is no message.  To a relay leg that stands already nothing can be said any more."""
        if self._state is _State.RELAY:
            self.abort()
        elif self._state in {_State.FIRST, _State.FRAMES}:
            self._settle()
            self._server.broken(self._number, error)

    def _settle(self) -> None:
        """The first frame came, good or bad: the limits for strangers end."""
        if self._state is _State.FIRST:
            self._state = _State.FRAMES
            self._visitor.settled()
            self._decoder.allow(_CAPS)

    def send(self, message: Message) -> None:
        """Write one message."""
        self.tls.write(SERVER.encode(message))

    # -- relay ---------------------------------------------------------------------------------------------------

    def prepare_relay(self) -> None:
        """Give the transport free for the relay's producers."""
        self._stop_timer()
        self.tls.unregisterProducer()
        self._tcp.bufferSize = RELAY_READ

    def become_leg(self, relay: Relay) -> None:
        """From now on every byte belongs to the other leg."""
        self._state = _State.RELAY
        self._relay = relay

    # -- back pressure -------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The client does not read its answers: take no more questions, and not for long."""
        if self._timer is None and self._state is _State.FRAMES:
            self.tls.pauseProducing()
            self._timer = self._server.clock.callLater(STALL_S, self.abort)

    def resumeProducing(self) -> None:
        """It has read them."""
        if self._timer is not None and self._state is _State.FRAMES:
            self._stop_timer()
            self.tls.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is going away; :meth:`connectionLost` follows."""

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
