"""Who gets into a service of an agent: the contacts of now, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from p2pxfer.core.agent.config import ServiceConfig
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.messages import Registered
from p2pxfer.core.ownnames import waiting_name
from p2pxfer.net.agent.exposing import Exposing
from p2pxfer.net.services.peeraddress import PeerAddress
from p2pxfer.net.services.streamsession import Streams
from p2pxfer.status import Exposed as Event
from tests.moments import for_now
from tests.net.machineworld import befriend, machine
from tests.net.sessionworld import World, world

__all__ = ["world"]

# The clock of these tests resolves no names, and nobody gets as far as the target.
pytestmark = pytest.mark.filterwarnings("ignore:Passing HostnameEndpoint a reactor:DeprecationWarning")


class Exposed:
    """A service of alice for bob and carol, who are contacts, by their names or ids."""

    def __init__(self, world: World, *, by_id: bool) -> None:
        self.world = world
        self.alice, *guests = self.all = [machine(world, name, clients=[]) for name in ("alice", "bob", "carol")]
        befriend(self.alice, *guests)
        to = tuple(str(guest.home.identity().id) if by_id else guest.name for guest in guests)
        self.told: list[str] = []
        self.exposing = Exposing(self.alice, ServiceConfig("127.0.0.1:80", to, "web"), self.told.append)

    def start(self) -> None:
        self.exposing.start()
        self.world.run()

    def meets(self, name: str) -> bool:
        """Whether a caller of that name is let in."""
        reactor: Any = self.world.clock
        streams = Streams(reactor, PeerAddress("here", None, "web"), PeerAddress("there", "alice", "web"))
        waiting = waiting_name(self.alice.home.identity().id.digest, "web")
        caller = self.world.caller(name, "alice", streams, waiting)
        self.world.run()
        return caller.session.met.called

    def stop(self) -> None:
        Deferred.fromCoroutine(self.exposing.stop())
        self.world.run()


@pytest.mark.parametrize("by_id", [True, False])
def test_who_was_removed_from_the_contacts_is_not_let_in_again(world: World, by_id: bool) -> None:
    exposed = Exposed(world, by_id=by_id)
    exposed.alice.home.remove_contact("bob")
    exposed.start()
    assert (exposed.meets("bob"), exposed.meets("carol")) == (False, True)
    stranger = f"service web: no connection with {exposed.all[1].home.identity().id} for web: it is no contact here"
    assert [line for line in exposed.told if "no connection" in line] == [f"{stranger}; p2pxfer pair makes one"]
    exposed.exposing._registered(Registered(bytes(32), "192.0.2.1:2000", "alice"))
    (line,) = [line for line in exposed.told if "is left out" in line]
    who = str(exposed.all[1].home.identity().id) if by_id else "bob"
    assert line == f"service web: {who} is not a contact, and is left out"
    assert exposed.exposing.exposed == Event("web", "127.0.0.1:80", ("carol",))
    assert exposed.exposing.left_out == (f"web: {who} is not a contact, and is left out",)
    exposed.stop()


def test_who_is_denied_services_is_told_and_left_out(world: World) -> None:
    exposed = Exposed(world, by_id=True)
    exposed.alice.home.set_rights("bob", [Right.SERVICES], allowed=False)
    exposed.start()
    assert exposed.meets("carol")
    exposed.meets("bob")
    assert "service web: bob is denied services here, and is left out" in exposed.told
    assert "service web: no connection with bob for web: that contact is denied services" in exposed.told
    exposed.stop()


@pytest.mark.parametrize("by_id", [True, False])
def test_contacts_that_come_later_get_in_without_a_restart(world: World, by_id: bool) -> None:
    """Also where there were none at all when it began."""
    exposed = Exposed(world, by_id=by_id)
    for name in ("bob", "carol"):
        exposed.alice.home.remove_contact(name)
    exposed.start()
    exposed.exposing._registered(Registered(bytes(32), "192.0.2.1:2000", "alice"))
    assert exposed.told[-1] == "service web: it is exposed to nobody yet"
    assert for_now(exposed.exposing.exposed) is None
    assert not exposed.meets("bob")
    befriend(exposed.alice, exposed.all[1])
    assert exposed.meets("bob")
    assert exposed.told.count("service web: bob may use it now") == 1
    peer = f"service web: peer bob {exposed.all[1].home.identity().id} (verified by contact)"
    assert exposed.told.count(peer) == 1
    assert exposed.exposing.exposed == Event("web", "127.0.0.1:80", ("bob",))
    assert not exposed.meets("carol")
    exposed.stop()
    assert exposed.exposing.exposed is None


def test_contacts_that_cannot_be_read_are_told_each_time_and_forgotten_when_they_can(world: World) -> None:
    exposed = Exposed(world, by_id=False)
    exposed.alice.home.remove_contact("carol")
    exposed.start()
    exposed.exposing._registered(Registered(bytes(32), "192.0.2.1:2000", "alice"))
    contacts = exposed.alice.home.path / "contacts.json"
    good, told = contacts.read_bytes(), "service web: it is exposed to nobody: "
    carol = "web, 127.0.0.1:80: carol is not a contact, and is left out"
    for times in (1, 2):
        contacts.write_bytes(b"damaged")
        assert for_now(exposed.exposing.exposed) is None
        assert for_now(exposed.exposing.closed).startswith("web, 127.0.0.1:80: it is exposed to nobody: ")
        assert "carol" not in for_now(exposed.exposing.closed)
        assert len([line for line in exposed.told if line.startswith(told)]) == times
        contacts.write_bytes(good)
        assert exposed.exposing.exposed is not None
        assert for_now(exposed.exposing.closed) == carol
    assert len([line for line in exposed.told if "carol" in line]) == 1
    exposed.stop()
