"""One session after the other with who offers a service: who waits for the next one, and what ends it for good."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost

from p2pxfer.core.ownnames import waiting_name
from p2pxfer.errors import Interrupted, LimitReached, P2pxferError, Refused, Unreachable
from p2pxfer.net.services.calling import MAX_WAITING, Calling
from p2pxfer.net.services.peeraddress import PeerAddress
from p2pxfer.net.services.streamsession import Asking, Streams
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.reception import Reception
from tests.net.services.noting import Noting
from tests.net.sessionworld import World, WorldClient, world

__all__ = ["world"]
PATIENCE = 30.0
HOST, GUEST = PeerAddress("host", None, "web"), PeerAddress("guest", "guest", "web")


class Stand:
    """A guest who calls, and a host that is there only if the test says so."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.refusing = False
        self.accepted: list[Noting] = []
        self.ended: list[P2pxferError] = []
        self.calling: Calling

    def call(self, *, expected: bool) -> None:
        machine = self.world.machine("guest", patience=PATIENCE)
        host = KnownPeer(self.world.identity("host").id.digest, "host", "contact")
        self.calling = Calling(machine, host, "web", expected=expected)
        self.calling.ended.addCallback(self.ended.append)
        client: Any = WorldClient(self.world, machine.identity, lambda introduction: None)
        self.calling.start(client)
        self.world.ends.append(lambda: Deferred.fromCoroutine(self.calling.close()))
        self.world.run()

    def host(self) -> Reception:
        """The host starts, perhaps anew."""
        at = waiting_name(self.world.identity("host").id.digest, "web")
        return self.world.host("host", self.admit, self.user_for, at)

    def admit(self, key: bytes) -> KnownPeer:
        if self.refusing:
            raise Refused("not for you")
        return KnownPeer(key, "guest", "contact")

    def user_for(self, peer: KnownPeer) -> Streams:
        reactor: Any = self.world.clock
        return Streams(reactor, HOST, GUEST, self.asked)

    def asked(self, asking: Asking) -> None:
        self.accepted.append(Noting())
        asking.accept(lambda address: self.accepted[-1])

    def connect(self) -> list[Any]:
        """A place for what comes of it: a protocol or an error."""
        found: list[Any] = []
        waiting = self.calling.connect(lambda address: Noting())
        waiting.addCallbacks(found.append, lambda failure: found.append(failure.value))
        return found


@pytest.fixture
def stand(world: World) -> Stand:
    return Stand(world)


def test_a_host_that_was_never_there_ends_it(stand: Stand) -> None:
    stand.call(expected=False)
    assert [str(error) for error in stand.ended] == ["host does not expose web now"]
    (error,) = stand.connect()
    assert isinstance(error, Unreachable)


def test_who_waits_for_an_expected_host_is_connected_when_it_comes(stand: Stand) -> None:
    stand.call(expected=True)
    first, second = stand.connect(), stand.connect()
    stand.world.run(PATIENCE - 5)
    assert first == second == []
    stand.host()
    stand.world.run(6)
    assert [type(found) for found in (*first, *second)] == [Noting, Noting]
    assert len(stand.accepted) == 2


def test_waiting_has_an_end_and_the_search_has_none(stand: Stand) -> None:
    stand.call(expected=True)
    found = stand.connect()
    stand.world.run(PATIENCE + 1)
    assert [type(error) for error in found] == [Unreachable]
    stand.world.run(10 * PATIENCE)
    assert stand.ended == []
    stand.host()
    late = stand.connect()
    stand.world.run(10)
    assert [type(one) for one in late] == [Noting]


def test_a_host_that_is_started_anew_gets_the_next_connection(stand: Stand) -> None:
    stand.host()
    stand.call(expected=False)
    before = stand.connect()
    stand.world.run()
    stand.host()
    stand.world.cut()
    stand.world.run(10)
    assert before[0].ends == [ConnectionLost]
    assert "started anew" in before[0].said[0]
    assert stand.ended == []
    after = stand.connect()
    stand.world.run()
    assert [type(one) for one in after] == [Noting]
    assert len(stand.accepted) == 2


def test_a_refusal_ends_it_although_there_was_a_session(stand: Stand) -> None:
    stand.host()
    stand.call(expected=False)
    stand.refusing = True
    stand.world.cut()
    stand.world.run(10)
    assert [type(error) for error in stand.ended] == [Refused]
    assert [type(error) for error in stand.connect()] == [Refused]


def test_so_many_wait_and_no_more_and_who_gives_up_makes_room(stand: Stand) -> None:
    stand.call(expected=True)
    waiting = [stand.calling.connect(lambda address: Noting()) for _ in range(MAX_WAITING)]
    assert [type(error) for error in stand.connect()] == [LimitReached]
    waiting[0].cancel()
    stand.connect()
    stand.world.run(PATIENCE + 1)
    errors: list[Any] = []
    for one in waiting:
        one.addErrback(lambda failure: errors.append(failure.type))
    assert errors == [CancelledError, *(MAX_WAITING - 1) * [Unreachable]]


def test_the_end_resets_what_there_is(stand: Stand) -> None:
    house = stand.host()
    stand.call(expected=False)
    found = stand.connect()
    stand.world.run()
    closing = Deferred.fromCoroutine(stand.calling.close())
    stand.world.run(1)
    assert closing.called
    assert found[0].ends == stand.accepted[0].ends == [ConnectionLost]
    assert [type(error) for error in stand.connect()] == [Interrupted]
    assert house.sessions == []
    assert stand.ended == []
