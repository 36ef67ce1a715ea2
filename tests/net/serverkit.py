"""What the tests of the rendezvous server share: a server on loopback, clients that speak the protocol, and strangers
that do not."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar, cast

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.core.codec import Message
from p2pxfer.core.framing import FrameDecoder
from p2pxfer.core.messages import (
    ALPN_SERVER,
    SERVER,
    SERVER_MESSAGES,
    Introduce,
    Introduction,
    JoinRelay,
    Observe,
    Register,
    Registered,
    RelayReady,
)
from p2pxfer.core.server.effects import Listening, ServerSettings
from p2pxfer.net.connection.streams import SecureBootstrap
from p2pxfer.net.connection.tls import peer_tls
from p2pxfer.net.connection.transport import TLSTransport
from p2pxfer.net.private.identity import Identity, new_identity
from p2pxfer.net.server.admission import AdmissionSettings
from p2pxfer.net.server.server import RendezvousServer
from p2pxfer.net.server.store import NameStore, check_database
from tests.net.reactors import until

reactor: Any = _reactor
LIMITS = AdmissionSettings(pending_per_source=300, per_source=1000, accept_rate=1e6, accept_burst=1e6)
_M = TypeVar("_M", bound=Message)


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def dialled_from(host: str, port: int) -> socket.socket:
    """A connection to ``port`` of this machine that comes from ``host``, of 127.0.0.0/8."""
    return socket.create_connection(("127.0.0.1", port), 5.0, (host, 0))


def is_reset(far: socket.socket) -> bool:
    """Without waiting, since the reactor that resets it runs in this thread."""
    far.setblocking(False)
    try:
        data = far.recv(1)
    except ConnectionResetError:
        return True
    except BlockingIOError:
        return False
    raise AssertionError(f"{data!r} instead of a reset")


@dataclass
class Site:
    """A server that runs on two loopback ports."""

    server: RendezvousServer
    identity: Identity
    ports: tuple[int, int]
    clients: list[Any] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        return self.server.registry.counts

    async def client(self, identity: Identity | None = None, *, second: bool = False) -> Client:
        """A client whose TLS stands."""
        client = Client(identity or new_identity())
        self.clients.append(client)
        creator = peer_tls(client.identity, self.identity.id.digest, ALPN_SERVER)
        bootstrap = SecureBootstrap(reactor, client, creator, is_client=True)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.ports[second])
        await endpoint.connect(Factory.forProtocol(lambda: bootstrap))
        await client.secured
        return client

    async def registered(self, name: str | None = None, identity: Identity | None = None) -> Client:
        """A client that has registered."""
        client = await self.client(identity)
        client.send(Register(version=1, tag=client.port, name=name))
        await client.expect(Registered)
        return client

    async def stranger(self) -> Stranger:
        """A TCP connection that speaks no TLS yet."""
        stranger = Stranger()
        self.clients.append(stranger)
        await TCP4ClientEndpoint(reactor, "127.0.0.1", self.ports[0]).connect(Factory.forProtocol(lambda: stranger))
        return stranger

    async def works(self) -> bool:
        """True if a new client can register now."""
        client = await self.registered()
        client.abort()
        return True

    async def legs(self, limit: int = 0) -> tuple[Client, Client]:
        """Two clients whose relay stands, and who were told of this limit."""
        bob = await self.registered("bob")
        alice = await self.registered()
        alice.send(Introduce(to="bob", tag=alice.port))
        mine, theirs = await alice.expect(Introduction), await bob.expect(Introduction)
        legs = []
        for owner, told in ((alice, mine), (bob, theirs)):
            leg = await self.client(owner.identity)
            assert told.relay_token is not None
            leg.send(JoinRelay(version=1, token=told.relay_token))
            legs.append(leg)
        for leg in legs:
            assert (await leg.expect(RelayReady)).limit == limit
            leg.raw = True
        return legs[0], legs[1]


@asynccontextmanager
async def site(
    folder: Path,
    *,
    settings: ServerSettings | None = None,
    limits: AdmissionSettings = LIMITS,
    clock: Clock | None = None,
) -> AsyncIterator[Site]:
    """A server for the time of a test; all its connections are gone afterwards."""
    check_database(folder / "names.sqlite")
    identity = new_identity()
    server = RendezvousServer(
        reactor,
        identity,
        NameStore(folder / "names.sqlite", time.time, reactor),
        settings=settings or ServerSettings(),
        admission=limits,
        clock=clock,
    )
    ports = [await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(server.factory()) for _ in range(2)]
    numbers = tuple(cast(Any, port.getHost()).port for port in ports)
    server.start(Listening(tuple((ip_address("127.0.0.1"), number) for number in numbers)))
    running = Site(server, identity, cast(tuple[int, int], numbers))
    try:
        yield running
    finally:
        for port in ports:
            await port.stopListening()
        for client in running.clients:
            client.abort()
        server.stop()
        for client in running.clients:
            await client.gone
        await until(lambda: server.admission.total == 0)


@implementer(IHandshakeListener)
class Client(Protocol):
    """The client's end of a connection: keeps messages until they are asked for, or counts and hashes raw bytes."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.secured: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.lost = False
        self.messages: list[Message] = []
        self.raw = False
        self.taken = 0
        self.hash = hashlib.sha256()
        self._decoder = FrameDecoder(SERVER.caps(SERVER_MESSAGES))

    @property
    def tls(self) -> TLSTransport:
        return cast(TLSTransport, self.transport)

    @property
    def port(self) -> int:
        return int(self.tls.getHost().port)

    def handshakeCompleted(self) -> None:
        self.secured.callback(None)

    def dataReceived(self, data: bytes) -> None:
        if self.raw:
            self.taken += len(data)
            self.hash.update(data)
            return
        self.messages += [SERVER.decode(frame) for frame in self._decoder.feed(data)]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        if not self.secured.called:
            self.secured.errback(reason)
        self.gone.callback(None)

    def send(self, *messages: Message) -> None:
        self.tls.write(b"".join(map(SERVER.encode, messages)))

    def abort(self) -> None:
        if not self.lost:
            self.tls.abortConnection()

    async def expect(self, kind: type[_M]) -> _M:
        """The next message, which is of `kind`."""
        await until(lambda: self.messages or self.lost)
        assert self.messages, "the connection ended"
        message = self.messages.pop(0)
        assert isinstance(message, kind), message
        return message

    async def observe(self, tag: int) -> None:
        self.send(Observe(version=1, tag=tag))


class Stranger(Protocol):
    """A TCP connection and what came back on it."""

    def __init__(self) -> None:
        self.answer = b""
        self.gone: Deferred[None] = Deferred()
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.answer += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        self.gone.callback(None)

    def write(self, data: bytes) -> None:
        cast(Any, self.transport).write(data)

    def abort(self) -> None:
        if not self.lost:
            cast(Any, self.transport).abortConnection()
