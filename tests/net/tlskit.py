"""What the TLS tests share: keys, a certificate authority, handshakes in memory, and connections on loopback."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.net.connection.securing import start_tls
from p2pxfer.net.connection.tls import Creator
from p2pxfer.net.private.identity import Identity
from tests.net.reactors import sleep

reactor: Any = _reactor
DAY = datetime.timedelta(days=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def certificate_for(
    key: Any,
    sans: Sequence[x509.GeneralName] | None,
    *,
    issuer: Identity | None = None,
    ca: bool = False,
    subject: str = "test",
    start: datetime.datetime | None = None,
    end: datetime.datetime | None = None,
) -> x509.Certificate:
    """A certificate; self-signed without an `issuer`, without a subjectAltName if `sans` is None."""
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(issuer.certificate.subject if issuer else name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start or now() - DAY)
        .not_valid_after(end or now() + DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if sans is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    digest = hashes.SHA256() if isinstance(signer, ec.EllipticCurvePrivateKey) else None
    return builder.sign(signer, digest)  # type: ignore[arg-type]  # a key that signs


class Authority:
    """A certificate authority; `roots` is a PEM file with its certificate."""

    def __init__(self, folder: Path, title: str = "test authority") -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self.identity = Identity(key, certificate_for(key, None, ca=True, subject=title))
        self.roots = folder / "roots.pem"
        self.roots.write_bytes(self.identity.certificate.public_bytes(Encoding.PEM))

    def issue(self, *sans: x509.GeneralName, san: bool = True, **options: Any) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        return Identity(key, certificate_for(key, sans if san else None, issuer=self.identity, **options))


def dns(text: str) -> x509.DNSName:
    return x509.DNSName(text)


def ip(text: str) -> x509.IPAddress:
    return x509.IPAddress(ipaddress.ip_address(text))


# -- in memory ---------------------------------------------------------------------------------------------------


@dataclass
class End:
    """One end of a handshake in memory."""

    link: SSL.Connection
    done: bool = False
    error: SSL.Error | None = None
    received: bytearray = field(default_factory=bytearray)

    def step(self) -> None:
        if self.error is not None:
            return
        try:
            if not self.done:
                self.link.do_handshake()
                self.done = True
            while True:
                self.received += self.link.recv(65536)
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self.error = error

    def give(self, other: End) -> bool:
        """Carry what this end has to say; False if it has nothing."""
        try:
            data = self.link.bio_read(1 << 20)
        except (SSL.WantReadError, SSL.Error):
            return False
        other.link.bio_write(data)
        return True


def shake(client: SSL.Connection, server: SSL.Connection) -> tuple[End, End]:
    """Carry bytes between two ends until neither has any left."""
    ends = End(client), End(server)
    moved = True
    while moved:
        for end in ends:
            end.step()
        moved = any([ends[0].give(ends[1]), ends[1].give(ends[0])])
    return ends


def raw_context(
    identity: Identity | None, change: Callable[[SSL.Context], object] = lambda context: None
) -> SSL.Context:
    """A context of somebody who follows no rule of this project but those that `change` sets."""
    context = SSL.Context(SSL.TLS_METHOD)
    if identity is not None:
        context.use_certificate(identity.certificate)
        for certificate in identity.chain:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(identity.key)  # type: ignore[arg-type]  # a key that signs
    change(context)
    return context


def raw_link(context: SSL.Context, *, is_client: bool) -> SSL.Connection:
    link = SSL.Connection(context, None)
    (link.set_connect_state if is_client else link.set_accept_state)()
    return link


# -- on loopback -------------------------------------------------------------------------------------------------


@implementer(IHandshakeListener)
class Upper(Protocol):
    """A protocol on top of TLS that notes everything; `ended` fires with the exception at the end."""

    transport: Any

    def __init__(self) -> None:
        self.secured: Deferred[bool] = Deferred()
        self.ended: Deferred[BaseException | None] = Deferred()
        self.is_secured = False
        self.lost = 0
        self.received = bytearray()
        self.sizes: list[int] = []
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def handshakeCompleted(self) -> None:
        assert not self.is_secured
        self.is_secured = True
        self.secured.callback(True)

    def dataReceived(self, data: bytes) -> None:
        assert self.is_secured and not self.lost
        self.received += data
        self.sizes.append(len(data))
        ready = [each for each in self._waiting if each[0] <= len(self.received)]
        self._waiting = [each for each in self._waiting if each not in ready]
        for _, deferred in ready:
            deferred.callback(None)

    def got(self, size: int) -> Deferred[None]:
        """Fires when so many bytes are there."""
        deferred: Deferred[None] = Deferred()
        if len(self.received) >= size:
            deferred.callback(None)
        else:
            self._waiting.append((size, deferred))
        return deferred

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost += 1
        assert self.lost == 1
        if not self.secured.called:
            self.secured.callback(False)
        self.ended.callback(reason.value)


class Plain(Protocol):
    """The protocol of a TCP connection before TLS; `made` fires with it, and it must hear nothing afterwards."""

    transport: Any

    def __init__(self) -> None:
        self.made: Deferred[Plain] = Deferred()
        self.heard: list[object] = []

    def connectionMade(self) -> None:
        self.made.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(bytes(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.heard.append(reason.value)


async def tcp_pair() -> tuple[Plain, Plain]:
    """Two ends of a TCP connection on loopback: who dialled and who listened."""
    listening = Plain()
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(lambda: listening))
    dialling = Plain()
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    await endpoint.connect(Factory.forProtocol(lambda: dialling))
    await listening.made
    await port.stopListening()
    return dialling, listening


@dataclass
class Pair:
    """Two protocols joined by TLS; the client is the one that dialled unless told otherwise."""

    client: Upper
    server: Upper
    plain: tuple[Plain, Plain]

    async def close(self) -> None:
        """End both, whatever state they are in."""
        for upper in (self.client, self.server):
            if not upper.lost:
                upper.transport.abortConnection()
        for upper in (self.client, self.server):
            if not upper.ended.called:
                await upper.ended


STACKS = pytest.mark.parametrize(
    "on_socket", [(True, True), (True, False), (False, True), (False, False)], ids=["ss", "sm", "ms", "mm"]
)
"""Which of client and server uses the socket itself, and which memory buffers."""


async def tls_pair(
    client_tls: Creator,
    server_tls: Creator,
    *,
    on_socket: tuple[bool, bool] = (True, True),
    dialler_is_client: bool = True,
    client: Upper | None = None,
    server: Upper | None = None,
) -> Pair:
    """Start TLS on both ends of a fresh connection; the handshake is under way when this returns."""
    plain = await tcp_pair()
    pair = Pair(client or Upper(), server or Upper(), plain)
    mine, theirs = plain if dialler_is_client else plain[::-1]
    start_tls(theirs.transport, pair.server, server_tls, is_client=False, reactor=reactor, on_socket=on_socket[1])
    start_tls(mine.transport, pair.client, client_tls, is_client=True, reactor=reactor, on_socket=on_socket[0])
    return pair


async def by_hand(link: SSL.Connection, server: Upper, creator: Creator) -> Plain:
    """A server whose client's TLS is `link`, which the test drives itself; returns the client's TCP end."""
    dialling, listening = await tcp_pair()
    start_tls(listening.transport, server, creator, is_client=False, reactor=reactor)
    while not server.is_secured:
        try:
            link.do_handshake()
        except SSL.WantReadError:
            pass
        flush(link, dialling.transport)
        await sleep(0.005)
        while dialling.heard:
            received = dialling.heard.pop(0)
            assert isinstance(received, bytes)
            link.bio_write(received)
    return dialling


def flush(link: SSL.Connection, transport: Any) -> None:
    """Send what OpenSSL has to say."""
    try:
        transport.write(link.bio_read(1 << 20))
    except SSL.WantReadError:
        pass
