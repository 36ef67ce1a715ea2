"""Two ends that change from TLS to sealed records as two peers do, and somebody between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from p2pxfer.core.messages import ALPN_PEER
from p2pxfer.core.session.records import SUITES, Direction, Opener, Sealer
from p2pxfer.net.connection.securing import start_tls
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.private.identity import new_identity
from tests.net.tlskit import Pair, Upper, reactor, tcp_pair

ANN, BOB = new_identity(), new_identity()
ANN_TLS = PeerTLS(ANN, BOB.id.digest, ALPN_PEER)
BOB_TLS = PeerTLS(BOB, ANN.id.digest, ALPN_PEER)
SUITE = SUITES["TLS_AES_128_GCM_SHA256"]
SECRETS: dict[Direction, bytes] = {"initiator": b"i" * 32, "responder": b"r" * 32}
LAST_IN_TLS = b"this is all in TLS"


class Changing(Upper):
    """Says something in TLS, and everything else in records; expects the same of the other end."""

    def __init__(self, role: Direction, first: bytes = b"") -> None:
        super().__init__()
        self.role = role
        self.first = first
        self.opens = False
        self.lively = 0

    def handshakeCompleted(self) -> None:
        self.transport.write(LAST_IN_TLS)
        self.transport.seal_from_here(Sealer(SECRETS[self.role], SUITE))
        if self.first:
            self.transport.write(self.first)
        super().handshakeCompleted()

    def dataReceived(self, data: bytes) -> None:
        if self.opens:
            self.lively += not data
            super().dataReceived(data)
            return
        assert data == LAST_IN_TLS
        self.opens = True
        other: Direction = "responder" if self.role == "initiator" else "initiator"
        self.transport.open_from_here(Opener(SECRETS[other], SUITE))


class Between(Protocol):
    """One end of somebody in the middle: ``change`` gets what comes and returns what goes on."""

    transport: Any
    other: Between

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        self.change = change

    def dataReceived(self, data: bytes) -> None:
        self.other.transport.write(self.change(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.other.transport.connected:
            self.other.transport.loseWriteConnection()


async def changing_pair(
    on_socket: tuple[bool, bool] = (True, True),
    between: Callable[[bytes], bytes] | None = None,
    client: Any = None,
    server: Any = None,
) -> Pair:
    """Two ends in the middle of their handshake; ``between`` changes what the client says on its way to the server."""
    dialling, listening = await tcp_pair()
    plain = dialling, listening
    if between is not None:
        near, far = await tcp_pair()
        plain = dialling, far
        middle = Between(between), Between(lambda data: data)
        for one, other, tcp in ((*middle, listening), (*middle[::-1], near)):
            one.other = other
            tcp.transport.protocol = one
            one.makeConnection(tcp.transport)  # type: ignore[no-untyped-call]  # Twisted's
    pair = Pair(client or Changing("initiator"), server or Changing("responder"), plain)
    start_tls(plain[1].transport, pair.server, BOB_TLS, is_client=False, reactor=reactor, on_socket=on_socket[1])
    start_tls(plain[0].transport, pair.client, ANN_TLS, is_client=True, reactor=reactor, on_socket=on_socket[0])
    return pair


async def changed_pair(*args: Any, **options: Any) -> Pair:
    """The same after both directions changed."""
    pair = await changing_pair(*args, **options)
    assert await pair.client.secured and await pair.server.secured
    for one, other in ((pair.client, pair.server), (pair.server, pair.client)):
        one.transport.write(b"!")
        await other.got(1)
        other.received.clear()
    return pair
