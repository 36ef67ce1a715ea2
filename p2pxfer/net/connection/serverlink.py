"""Connections to the rendezvous server: frames on TLS, and a relay leg that hands its bytes to the peer protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IProtocol, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.core.codec import Message
from p2pxfer.core.framing import FrameDecoder
from p2pxfer.core.messages import SERVER, SERVER_MESSAGES, VERSION, JoinRelay, Ping, RelayReady
from p2pxfer.core.messages import Failure as ServerFailure
from p2pxfer.core.reported import from_wire
from p2pxfer.core.text import safe_text
from p2pxfer.errors import P2pxferError, ProtocolBreach
from p2pxfer.net.connection.liveness import Liveness, to_server
from p2pxfer.net.connection.securing import start_tls
from p2pxfer.net.connection.streams import lost_error
from p2pxfer.net.connection.tls import Creator
from p2pxfer.net.connection.transport import TLSTransport
from p2pxfer.net.types import Reactor

_CAPS = SERVER.caps(SERVER_MESSAGES)


@implementer(IHandshakeListener)
class ServerLink(Protocol):
    """A framed connection to the server.

    ``on_message(link, message)`` gets every message; ``on_lost(link, error)`` is called once, at the end.
    """

    def __init__(
        self,
        reactor: Reactor,
        on_message: Callable[[ServerLink, Message], None],
        on_lost: Callable[[ServerLink, P2pxferError], None],
    ) -> None:
        self._reactor = reactor
        self._on_message = on_message
        self._on_lost = on_lost
        self._decoder = FrameDecoder(_CAPS)
        self._liveness: Liveness | None = None
        self._error: P2pxferError | None = None
        self._over = False
        self.secured: Deferred[None] = Deferred()

    @property
    def tcp(self) -> ITCPTransport:
        """For the addresses of the two ends."""
        return cast(ITCPTransport, self.transport)

    def handshakeCompleted(self) -> None:
        """TLS stands and the server is the one asked for."""
        self.secured.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """Feed the frames."""
        if self._liveness is not None:
            self._liveness.byte()
        try:
            for frame in self._decoder.feed(data):
                self._on_message(self, SERVER.decode(frame))
        except P2pxferError as error:
            self.fail(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        if self._liveness is not None:
            self._liveness.stop()
        error = self._error or lost_error("the server", reason)
        if not self.secured.called:
            self.secured.errback(error)
        if not self._over:
            self._over = True
            self._on_lost(self, error)

    def send(self, message: Message) -> None:
        """Send one message."""
        if not self._over:
            cast(TLSTransport, self.transport).write(SERVER.encode(message))

    def keep_alive(self, interval: float) -> None:
        """Send a ping every ``interval`` seconds and give up when the server is gone."""
        if not self._over:
            self._liveness = Liveness(self._reactor, self, to_server(interval))
            self._liveness.start()

    @property
    def died_idle(self) -> bool:
        """A sign of life after a pause found nobody at the other end."""
        return self._liveness is not None and self._liveness.waiting

    def ping(self, number: int) -> None:
        """See :class:`~p2pxfer.net.connection.liveness.Watched`."""
        self.send(Ping())

    def silent_for(self) -> float:
        """See :class:`~p2pxfer.net.connection.liveness.Watched`."""
        return cast(TLSTransport, self.transport).silent_for()

    def fail(self, error: P2pxferError) -> None:
        """End the connection at once for this reason."""
        self._error = self._error or error
        self.close()

    def close(self) -> None:
        """End the connection with a reset; nothing that matters is on its way."""
        if self.transport is not None:
            cast(TLSTransport, self.transport).abortConnection()


@implementer(IHandshakeListener)
class RelayLeg(Protocol):
    """A connection to the server that carries ``inner`` under ``creator``'s TLS when the other leg stands too."""

    def __init__(self, reactor: Reactor, token: bytes, inner: IProtocol, creator: Creator, is_client: bool) -> None:
        self._reactor = reactor
        self._token = token
        self._inner = inner
        self._creator = creator
        self._is_client = is_client
        self._decoder = FrameDecoder(SERVER.caps([RelayReady, ServerFailure]))
        self.joined: Deferred[IProtocol] = Deferred(self._cancelled)

    def connectionMade(self) -> None:
        """TCP stands; who gave up before that had nothing to abort."""
        if self.joined.called:
            cast(TLSTransport, self.transport).abortConnection()

    def handshakeCompleted(self) -> None:
        """TLS to the server stands: show the token."""
        cast(TLSTransport, self.transport).write(SERVER.encode(JoinRelay(version=VERSION, token=self._token)))

    def dataReceived(self, data: bytes) -> None:
        """The answer to the token; every byte behind it is the peer's."""
        try:
            for frame in self._decoder.feed(data):
                match message := SERVER.decode(frame):
                    case RelayReady(limit):
                        self._hand_over(bytes(data[len(data) - self._decoder.unread :]), limit)
                        return
                    case ServerFailure():
                        raise from_wire(message.word, safe_text(message.message))
                    case _:
                        raise ProtocolBreach("the server sent something else than the answer to a relay token")
        except P2pxferError as error:
            self._give_up(error)

    def _hand_over(self, early: bytes, limit: int) -> None:
        assert self.transport is not None
        joined = self.joined
        start_tls(
            self.transport, self._inner, self._creator,
            is_client=self._is_client, reactor=self._reactor, early=early, on_socket=False, limit=limit,
        )  # fmt: skip
        if not joined.called:
            joined.callback(self._inner)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The server refused or went away before the other leg stood."""
        if not self.joined.called:
            self.joined.errback(lost_error("the relay", reason))

    def not_connected(self, failure: Failure) -> None:
        """The server could not be reached."""
        if not self.joined.called:
            self.joined.errback(lost_error("the relay", failure))

    def _give_up(self, error: P2pxferError) -> None:
        if not self.joined.called:
            self.joined.errback(error)
        cast(TLSTransport, self.transport).abortConnection()

    def _cancelled(self, deferred: Deferred[IProtocol]) -> None:
        if self.transport is not None:
            cast(TLSTransport, self.transport).abortConnection()
