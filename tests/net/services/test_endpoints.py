"""Sessions as Twisted endpoints: two machines in memory, and protocols that know nothing of them."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from zope.interface.verify import verifyObject

from p2pxfer.core.contact.rights import Right
from p2pxfer.endpoints import IDLE_S, PeerAddress, PeerClientEndpoint, PeerServerEndpoint
from p2pxfer.errors import P2pxferError, Refused, Unreachable, UsageError
from tests.moments import for_now
from tests.net.machineworld import WorldMachine, befriend, machine
from tests.net.services.noting import Noting
from tests.net.sessionworld import World, world

__all__ = ["world"]


class Two:
    """Alice, who offers an echo to bob, and bob."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alice: WorldMachine = machine(world, "alice", clients=[])
        self.bob: WorldMachine = machine(world, "bob", clients=[])
        befriend(self.alice, self.bob)
        self.there: list[Noting] = []
        self.factory = Factory.forProtocol(self.protocol)
        self.server = PeerServerEndpoint(self.alice, "echo", to=["bob"])
        self.port: Any = self.done(self.server.listen(self.factory))
        self.endpoint = PeerClientEndpoint(self.bob, "alice", "echo")

    def protocol(self) -> Noting:
        self.there.append(Noting())
        return self.there[-1]

    def done(self, waiting: Deferred[Any]) -> Any:
        """What it comes to."""
        found: list[Any] = []
        waiting.addBoth(found.append)
        self.world.run(1)
        assert found, "nothing came of it"
        return found[0]

    def connect(self) -> Any:
        return self.done(self.endpoint.connect(Factory.forProtocol(Noting)))

    def fails(self, endpoint: PeerClientEndpoint) -> P2pxferError:
        error = self.done(endpoint.connect(Factory.forProtocol(Noting))).value
        assert isinstance(error, P2pxferError)
        return error


@pytest.fixture
def two(world: World) -> Any:
    made = Two(world)
    yield made
    made.done(made.port.stopListening())


def test_they_are_what_twisted_expects(two: Two) -> None:
    verifyObject(IStreamServerEndpoint, two.server)
    verifyObject(IStreamClientEndpoint, two.endpoint)
    verifyObject(IListeningPort, two.port)
    here = two.connect()
    key = str(two.bob.home.identity().id)
    assert two.there[0].transport.getPeer() == PeerAddress(key, "bob", "echo")
    assert here.transport.getPeer() == PeerAddress(two.port.getHost().id, "alice", "echo")
    assert here.transport.getHost() == PeerAddress(key, None, "echo")


def test_all_connections_of_an_endpoint_share_a_session_that_ends_after_them(two: Two) -> None:
    ends = [two.connect() for _ in range(3)]
    assert len(two.bob.clients) == 1
    for number, here in enumerate(ends):
        here.transport.write(str(number).encode())
    two.world.run()
    assert [there.heard for there in two.there] == [b"0", b"1", b"2"]
    for here in ends:
        here.transport.loseConnection()
    two.world.run(IDLE_S / 2)
    assert not for_now(two.bob.clients[0].left)
    two.world.run(IDLE_S)
    assert two.bob.clients[0].left
    # And the next one begins another session.
    two.connect()
    assert len(two.bob.clients) == 2


def test_an_idle_session_that_is_wanted_again_stays(two: Two) -> None:
    two.connect().transport.loseConnection()
    two.world.run(IDLE_S / 2)
    two.connect()
    two.world.run(2 * IDLE_S)
    assert not two.bob.clients[0].left
    assert len(two.bob.clients) == 1


def test_who_stops_listening_is_not_there(two: Two) -> None:
    here = two.connect()
    two.done(two.port.stopListening())
    assert len(here.ends) == 1
    assert two.alice.clients[0].left
    two.world.run(IDLE_S + 100)
    assert isinstance(two.fails(PeerClientEndpoint(two.bob, "alice", "echo")), Unreachable)


def test_a_service_that_ends_by_itself_says_so(two: Two) -> None:
    """For one, another program of this machine offers it now."""
    here = two.connect()
    assert two.factory.numPorts == 1
    two.alice.clients[0].failed.callback(Unreachable("another program took its place"))
    assert isinstance(two.done(two.port.failed), Unreachable)
    assert two.factory.numPorts == 0
    two.world.run(1)
    assert len(here.ends) == 1
    two.done(two.port.stopListening())
    two.factory.doStart()  # somebody else's use of it
    two.done(two.port.stopListening())
    assert two.factory.numPorts == 1
    two.factory.doStop()


def test_the_factory_of_a_client_stops_with_its_connections(two: Two) -> None:
    factory = Factory.forProtocol(Noting)
    ends = [two.done(two.endpoint.connect(factory)) for _ in range(2)]
    assert factory.numPorts == 2
    for left, here in zip((1, 0), ends, strict=True):
        here.transport.loseConnection()
        two.world.run()
        assert factory.numPorts == left
    two.done(PeerClientEndpoint(two.bob, "alice", "other").connect(factory))
    assert factory.numPorts == 0


def test_a_service_that_nobody_offers(two: Two) -> None:
    error = two.fails(PeerClientEndpoint(two.bob, "alice", "other"))
    assert isinstance(error, Unreachable)
    assert error.message == "alice does not expose other now"


def test_a_contact_that_is_not_named_and_one_that_is_denied(two: Two) -> None:
    carol = machine(two.world, "carol", clients=[])
    befriend(two.alice, carol)
    error = two.fails(PeerClientEndpoint(carol, "alice", "echo"))
    assert isinstance(error, Refused)
    assert "echo is not exposed to this machine" in error.message
    two.alice.home.set_rights("bob", [Right.SERVICES], False)
    assert isinstance(two.fails(two.endpoint), Refused)
    assert two.there == []


def test_a_server_that_cannot_be_reached(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    made = two.bob.client

    def broken(*args: Any) -> Any:
        client = made(*args)
        client.fault = Unreachable("the server does not answer")
        return client

    endpoint = PeerClientEndpoint(two.bob, "alice", "echo")
    monkeypatch.setattr(WorldMachine, "client", lambda self, *args: broken(*args))
    assert two.fails(endpoint).message == "the server does not answer"


def test_names_that_mean_nobody(two: Two) -> None:
    with pytest.raises(UsageError):
        PeerClientEndpoint(two.bob, "carol", "echo")
    with pytest.raises(UsageError):
        PeerServerEndpoint(two.bob, "echo", to=["carol"])
    with pytest.raises(UsageError):
        PeerClientEndpoint(two.bob, "alice", "No Service")
    by_id = PeerClientEndpoint(two.bob, two.port.getHost().id, "echo")
    assert two.done(by_id.connect(Factory.forProtocol(Noting))).transport.getPeer().name == "alice"
