"""The client's connection to the server when the server misbehaves."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IHandshakeListener, ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from p2pxfer.core.backoff import Backoff
from p2pxfer.core.framing import FrameDecoder
from p2pxfer.core.messages import ALPN_SERVER, SERVER, Failure, Introduce, Introduction, Ping, Registered
from p2pxfer.core.traversal.keepalive import SOON_S
from p2pxfer.errors import Replaced, Unreachable
from p2pxfer.net.connection.securing import start_tls
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.connection.servertrust import ServerTrust
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.private.identity import new_identity
from p2pxfer.net.traversal import rendezvous
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.traversal.serverdial import ServerAddress
from tests.net.reactors import reactor, time_only, until

SERVER_KEY = new_identity()


class Plain(Protocol):
    """Takes the TCP connection and lets the double decide what becomes of it."""

    transport: ITransport

    def __init__(self, double: Double) -> None:
        self.double = double

    def connectionMade(self) -> None:
        self.double.connections += 1
        if self.double.silent:
            self.double.held.append(self.transport)
        else:
            creator = PeerTLS(SERVER_KEY, None, ALPN_SERVER)
            start_tls(self.transport, Answering(self.double), creator, is_client=False, reactor=reactor)


@implementer(IHandshakeListener)
class Answering(Protocol):
    transport: Any

    def __init__(self, double: Double) -> None:
        self.double = double
        self.decoder = FrameDecoder(SERVER.caps([Introduce, Ping]))

    def handshakeCompleted(self) -> None:
        self.double.held.append(self.transport)

    answered = False

    def dataReceived(self, data: bytes) -> None:
        if self.answered and not self.double.babbles:
            said = map(SERVER.decode, self.decoder.feed(bytes(data)))
            self.double.asked += [message for message in said if isinstance(message, Introduce)]
            return
        self.answered = True
        self.double.registrations += 1
        link = self.transport.getHandle()
        for answer in self.double.answers:
            known = isinstance(answer, Registered)
            message = Registered(id=link.peer, observed=answer.observed, name=answer.name) if known else answer
            self.transport.write(SERVER.encode(message))


class Double:
    """A server that answers every registration with ``answers``, or never says anything."""

    def __init__(self) -> None:
        self.silent = False
        self.babbles = False
        self.answers: list = []  # type: ignore[type-arg]  # messages
        self.asked: list[Introduce] = []
        """On any connection, behind its registration."""
        self.connections = 0
        self.registrations = 0
        self.held: list = []  # type: ignore[type-arg]  # transports

    async def start(self) -> None:
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        factory = Factory.forProtocol(lambda: Plain(self))
        factory.noisy = False
        self.port = await endpoint.listen(factory)

    async def stop(self) -> None:
        for transport in self.held:
            transport.abortConnection()
        await self.port.stopListening()

    def client(self, name: str | None = "bob") -> RendezvousClient:
        self.notes: list[str] = []
        number = self.port.getHost().port
        address = ServerAddress("127.0.0.1", number, ServerTrust("127.0.0.1", SERVER_KEY.id))
        return RendezvousClient(
            reactor, new_identity(), address, name=name, policy="auto",
            on_registered=lambda answer: None, on_introduction=lambda one: None, on_note=self.notes.append,
        )  # fmt: skip


GOOD = Registered(id=b"?" * 32, observed="127.0.0.1:20000", name="bob")


@pytest_twisted.ensureDeferred
async def test_a_server_that_accepts_and_says_nothing_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "CONNECT_S", 0.5)
    double = Double()
    double.silent = True
    await double.start()
    client = double.client()
    with pytest.raises(Unreachable, match="did not answer"):
        await client.start()
    client.stop()
    await double.stop()


@pytest_twisted.ensureDeferred
async def test_a_server_that_never_answers_a_registration_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    double = Double()
    double.answers = [GOOD]
    await double.start()
    client = double.client()
    await client.start()
    double.answers = []
    monkeypatch.setattr(rendezvous, "CONNECT_S", 0.5)
    double.held[-1].abortConnection()
    await until(lambda: double.registrations >= 3)
    monkeypatch.setattr(rendezvous, "CONNECT_S", 30.0)
    double.answers = [GOOD]
    await until(lambda: client.registered is not None)
    assert any("gone" in note for note in double.notes)
    assert double.notes[-1] == "the server is back"
    assert not client.failed.called
    client.stop()
    await double.stop()


@pytest_twisted.ensureDeferred
async def test_an_error_of_the_server_that_may_pass_does_not_end_a_registered_client() -> None:
    double = Double()
    double.answers = [GOOD]
    await double.start()
    client = double.client()
    await client.start()
    double.answers = [Failure(word="E_IO", message="cannot store names now", fatal=True)]
    double.held[-1].abortConnection()
    await until(lambda: double.registrations >= 3)
    assert not client.failed.called
    client.stop()
    await double.stop()


@pytest_twisted.ensureDeferred
async def test_a_name_registered_again_elsewhere_ends_the_client() -> None:
    double = Double()
    double.answers = [GOOD, Failure(word="E_REPLACED", message="replaced", fatal=True)]
    await double.start()
    client = double.client()
    await client.start()
    error = await client.failed
    assert isinstance(error, Replaced)
    client.stop()
    await double.stop()


@pytest_twisted.ensureDeferred
async def test_a_wanted_renewal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "next", lambda backoff: 1000.0)
    double = Double()
    double.answers = [GOOD]
    await double.start()
    client = double.client()
    await client.start()
    ports = {client.port}
    for _ in range(4):
        await Deferred.fromCoroutine(client.renew())
        ports.add(client.port)
    assert len(ports) > 1
    assert double.notes == []
    client.stop()
    await double.stop()


@pytest_twisted.ensureDeferred
async def test_what_others_asked_is_asked_again_when_a_fresh_port_is_wanted() -> None:
    """One of those who share a connection leaves it; the others hear the answer of the next one, in their order."""
    double = Double()
    double.answers = [GOOD]
    await double.start()
    client = double.client()
    await client.start()
    answers = [client.introduce("ann", "auto", 20), client.introduce("eve", "relay"), client.introduce("dora", "auto")]
    answers[1].addErrback(lambda failure: None).cancel()
    before, asked = client.port, double.asked
    await until(lambda: len(asked) == 3)
    await Deferred.fromCoroutine(client.renew())
    await until(lambda: len(asked) == 5)
    assert [(one.to, one.tag, one.wait_s) for one in asked[:3]] == [
        ("ann", before, 20), ("eve", before, 0), ("dora", before, 0),
    ]  # fmt: skip
    assert [(one.to, one.tag, one.path) for one in asked[3:]] == [
        ("ann", client.port, "auto"), ("dora", client.port, "auto"),
    ]  # fmt: skip
    for number in (1, 2):
        found = Introduction(session=bytes([number]) * 32, initiator=True, peer_id=bytes([number]) * 32)
        double.held[-1].write(SERVER.encode(found))
    assert [(await answers[0]).peer_id[0], (await answers[2]).peer_id[0]] == [1, 2]
    client.stop()
    await double.stop()


@pytest_twisted.ensureDeferred
async def test_what_was_asked_fails_with_the_client_where_the_next_connection_does_not_come() -> None:
    """Or after its own time."""
    double = Double()
    double.answers = [GOOD]
    await double.start()
    client = double.client()
    await client.start()
    answer = client.introduce("ann", "auto")
    client.reconnect()
    await double.stop()
    await until(lambda: client.trouble[0])
    assert not answer.called
    client.stop()
    with pytest.raises(Unreachable, match="the program is ending"):
        await answer


@pytest_twisted.ensureDeferred
async def test_a_server_that_answers_everything_as_a_registration_is_left_alone() -> None:
    double = Double()
    double.babbles = True
    double.answers = [GOOD]
    await double.start()
    client = double.client()
    await client.start()
    await until(lambda: double.connections >= 2)
    assert double.registrations < 20
    client.stop()
    await double.stop()


@pytest_twisted.ensureDeferred
async def test_whoever_stops_between_tcp_and_tls_loses_no_error(
    monkeypatch: pytest.MonkeyPatch, lost_errors: Any
) -> None:
    """The dial has brought a connection and has not said so yet: nobody waits for its TLS, which fails now."""
    double = Double()
    double.answers = [GOOD]
    await double.start()
    client = double.client()
    await client.start()

    class Stopping(ServerLink):
        def connectionMade(self) -> None:
            client.stop()
            stopped.append(self)

    stopped: list[ServerLink] = []
    monkeypatch.setattr(rendezvous, "ServerLink", Stopping)
    client.reconnect()
    await until(lambda: stopped and stopped[0].secured.called)
    await double.stop()
    stopped.clear()
    assert lost_errors.flush() == []


def test_a_fault_of_the_program_is_said_though_nobody_waits_for_tls(
    monkeypatch: pytest.MonkeyPatch, lost_errors: Any
) -> None:
    def never(self: Faked, link: Any, local: int | None) -> Deferred[None]:
        self.links.append(link)
        return Deferred()

    monkeypatch.setattr(Faked, "_dial", never)
    faked = Faked(monkeypatch)
    faked.links[-1].secured.errback(ZeroDivisionError())
    faked.client.stop()
    assert len(lost_errors.flush(ZeroDivisionError)) == 1


class _Silent:
    """A transport to which anything may be written; what the kernel says of it is ``silence``."""

    def __init__(self, link: Any) -> None:
        self.link = link
        self.silence = 0.0
        self.aborted = False

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 30000)

    getPeer = getHost

    def write(self, data: bytes) -> None:
        """Nobody reads."""

    def abortConnection(self) -> None:
        if not self.aborted:
            self.aborted = True
            self.link.connectionLost()

    def silent_for(self) -> float:
        return self.silence


class Faked:
    """A client whose connections are fakes, on a clock of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = MemoryReactorClock()
        self.identity = new_identity()
        self.links: list[Any] = []
        self.client = RendezvousClient(
            time_only(self.clock), self.identity, ServerAddress("127.0.0.1", 1, ServerTrust("127.0.0.1")), name=None,
            policy="relay", on_registered=lambda answer: None, on_introduction=lambda introduction: None,
            on_note=lambda text: None,
        )  # fmt: skip
        monkeypatch.setattr(self.client._dialler, "dial", self._dial)
        self.client.start()

    def _dial(self, link: Any, local: int | None) -> Deferred[None]:
        link.transport = _Silent(link)
        self.links.append(link)
        return succeed(None)

    def secure(self) -> Any:
        self.links[-1].secured.callback(None)
        return self.links[-1]

    def register(self, ping_s: int = 25) -> Registered:
        """The server answers the registration on the newest connection."""
        answer = Registered(id=self.identity.id.digest, observed="198.18.1.1:5555", ping_s=ping_s)
        self.client._on_message(self.links[-1], answer)
        return answer


def test_a_nat_that_forgets_idle_connections_is_noticed_and_kept_busier(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server asks for a ping every 20 seconds; behind this NAT each one meets a connection that is dead."""
    faked = Faked(monkeypatch)
    for pause in (20, 10, 5):
        link = faked.secure()
        faked.register(ping_s=20)
        link.dataReceived(b"")
        faked.clock.pump([0.5] * (2 * pause - 1))
        assert faked.links[-1] is link
        link.transport.silence = 30.0  # from the next ping on the kernel repeats it in vain
        faked.clock.pump([0.5] * 20)
        assert faked.links[-1] is not link
    faked.client.stop()
    assert faked.clock.getDelayedCalls() == []


@pytest.mark.parametrize("secured", [True, False])
def test_a_server_that_was_not_there_at_once_clears_the_nat(monkeypatch: pytest.MonkeyPatch, secured: bool) -> None:
    """The connection after the one that died is lost as well, before it is registered: the server went away."""
    faked = Faked(monkeypatch)
    link = faked.secure()
    faked.register(ping_s=20)
    link.dataReceived(b"")
    faked.clock.pump([0.5] * 39)
    link.transport.silence = 30.0  # from the next ping on
    while faked.links[-1] is link:
        faked.clock.advance(0.5)
    died = faked.clock.seconds()
    second = faked.links[-1]
    if secured:
        faked.secure()
    second.transport.abortConnection()
    while faked.links[-1] is second:
        faked.clock.advance(0.1)
    faked.secure()
    assert faked.clock.seconds() - died < SOON_S
    faked.register(ping_s=20)
    assert faked.client._nats.pause("198.18.1.1", 20, faked.clock.seconds()) == 20
    faked.client.stop()


def test_two_paths_that_die_together_cost_one_connection_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second loss comes while the client registers again, and must not spoil that."""
    faked = Faked(monkeypatch)
    faked.secure()
    faked.register()
    faked.client.reconnect()
    faked.secure()
    faked.client.reconnect()
    assert len(faked.links) == 2
    answer = faked.register()
    assert faked.client.registered is answer
    faked.client.stop()
