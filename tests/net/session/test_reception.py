"""One side waits for several contacts: who is met, whose session is whose, and what is bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from p2pxfer.core.messages import Introduction
from p2pxfer.core.session.channel import Asked, ChannelEvent
from p2pxfer.core.session.channelwire import Attach, Open
from p2pxfer.errors import Incomplete, LimitReached, P2pxferError, PeerStopped, ProtocolBreach, Refused, Unreachable
from p2pxfer.net.session.channelsession import ChannelSession
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.reception import ATTACH_S, MEETINGS_EACH, SESSIONS_EACH, Reception
from p2pxfer.status import Note
from tests.net.sessionworld import World, world

__all__ = ["world"]


class User:
    """Hears everything and says nothing."""

    def __init__(self) -> None:
        self.session: Any = None
        self.events: list[ChannelEvent] = []
        self.errors: list[P2pxferError] = []

    def attach(self, session: ChannelSession) -> None:
        self.session = session

    def event(self, event: ChannelEvent) -> None:
        self.events.append(event)

    def settled(self) -> None:
        """Everything was received."""

    def lost(self, error: P2pxferError) -> None:
        self.errors.append(error)


class House:
    """A host that knows some names; ``denied`` are contacts that may use nothing."""

    def __init__(self, world: World, *names: str, denied: str = "") -> None:
        self.keys = {world.identity(name).id.digest: name for name in names}
        self.denied = denied
        self.unread = False
        self.users: list[User] = []
        self.reception: Reception = world.host("host", self.admit, self.user_for)

    def admit(self, key: bytes) -> KnownPeer | None:
        name = self.keys.get(key)
        if self.unread:
            raise Unreachable("the contacts there cannot be read now")
        if name is not None and name == self.denied:
            raise Refused("nothing here is for you")
        return None if name is None else KnownPeer(key, name, "contact")

    def user_for(self, peer: KnownPeer) -> User:
        self.users.append(User())
        return self.users[-1]


def test_several_contacts_and_several_programs_of_one_have_sessions_of_their_own(world: World) -> None:
    house = House(world, "alice", "bob")
    callers = [world.caller(name, "host", User()) for name in ("alice", "alice", "bob")]
    world.run()
    for number, caller in enumerate(callers):
        caller.session.channels.open(f"service{number}")
        caller.session.link.flush()
    world.run()
    events = [event for user in house.users for event in user.events]
    asked = sorted(event.service for event in events if isinstance(event, Asked))
    assert len(asked) == len(events)
    assert asked == ["service0", "service1", "service2"]
    assert sorted(session.peer.name or "" for session in house.reception.sessions) == ["alice", "alice", "bob"]
    assert [caller.errors for caller in callers] == [[], [], []]


def test_all_paths_of_one_program_belong_to_one_session(world: World) -> None:
    house = House(world, "alice")
    caller = world.caller("alice", "host", User())
    world.run()
    world.join(next(iter(world.sides)), "direct")
    world.run()
    (session,) = house.reception.sessions
    assert sorted(path.facts.kind for path in session.paths.ordered()) == ["direct", "relay"]
    world.cut()
    world.run(10)
    assert house.reception.sessions == [session]
    assert len(session.paths) == 1
    caller.session.channels.open("late")
    caller.session.link.flush()
    world.run()
    assert len(house.users[0].events) == 1
    assert caller.errors == []


def test_a_stranger_is_not_answered_and_a_contact_without_right_is_told_so(world: World) -> None:
    house = House(world, "bob", denied="bob")
    world.joins = False
    stranger = world.caller("mallory", "host", User())
    world.run()
    assert not any("responder" in sides for sides in world.sides.values())
    assert stranger.errors == []
    world.joins = True
    bob = world.caller("bob", "host", User())
    world.run()
    assert [type(error) for error in bob.errors] == [Refused]
    assert "nothing here is for you" in bob.errors[0].message
    assert house.users == []


def test_who_is_no_contact_any_more_gets_no_further_session(world: World) -> None:
    house = House(world, "bob")
    world.caller("bob", "host", User())
    world.run()
    assert len(house.users) == 1
    house.keys.clear()
    late = world.caller("bob", "host", User())
    world.run()
    assert len(house.users) == 1
    assert late.session.met.called is False


class Refusable:
    """As much of a path as is needed to be turned away."""

    def __init__(self, key: bytes, refuse: Callable[[P2pxferError], None]) -> None:
        self.peer_key = key
        self.refuse = refuse


def test_while_nobody_can_be_known_nobody_is_met_and_who_is_there_already_is_told_why(world: World) -> None:
    """It is no refusal, after which the other side would not come back."""
    house = House(world, "bob")
    house.unread = True
    early = world.caller("bob", "host", User())
    world.run()
    assert not any("responder" in sides for sides in world.sides.values())
    early.session.close()
    house.unread = False
    bob = world.caller("bob", "host", User())
    world.run()
    assert bob.session.met.called
    (meeting,) = house.reception._meetings
    path: Any = meeting.paths[0]
    house.unread = True
    house.reception._meetings[meeting] = None
    with pytest.raises(Unreachable, match="cannot be read now"):
        house.reception.path_message(path, Attach(instance=bytes(16)))
    refused: list[P2pxferError] = []
    late: Any = Refusable(world.identity("carol").id.digest, refused.append)
    house.reception.path_up(meeting, late)
    assert [type(error) for error in refused] == [Unreachable]


def test_a_session_that_was_cut_goes_on_while_nobody_can_be_known(world: World) -> None:
    """Another program of the same contact is new, and gets none."""
    house = House(world, "bob")
    bob = world.caller("bob", "host", User())
    world.run()
    (session,) = house.reception.sessions
    house.unread = True
    world.cut()
    world.run(10)
    assert house.reception.sessions == [session]
    assert len(session.paths) == 1
    bob.session.channels.open("late")
    bob.session.link.flush()
    world.run()
    assert [type(event) for event in house.users[0].events] == [Asked]
    assert (bob.errors, house.users[0].errors) == ([], [])
    world.caller("bob", "host", User())
    world.run()
    assert house.reception.sessions == [session]


def test_a_program_that_was_started_anew_gets_a_new_session_and_the_old_one_ends(world: World) -> None:
    house = House(world, "bob")
    first = world.caller("bob", "host", User())
    world.run()
    world.waiting["elsewhere"] = world.waiting.pop("svc")
    world.cut()
    world.run(1)
    first.session.close()
    world.waiting["svc"] = world.waiting.pop("elsewhere")
    second = world.caller("bob", "host", User())
    world.run(1)
    assert len(house.reception.sessions) == 2
    world.run(40)
    assert len(house.reception.sessions) == 1
    assert [type(error) for error in house.users[0].errors] == [Incomplete]
    assert house.users[1].errors == second.errors == []


def test_a_host_that_was_started_anew_does_not_go_on_in_the_middle(world: World) -> None:
    House(world, "bob")
    bob = world.caller("bob", "host", User())
    world.run()
    house = House(world, "bob")
    world.cut()
    world.run(10)
    assert [type(error) for error in bob.errors] == [Incomplete]
    assert "started anew" in bob.errors[0].message
    assert house.users == []


def test_bye_ends_the_session_at_once(world: World) -> None:
    house = House(world, "bob")
    bob = world.caller("bob", "host", User())
    world.run()
    finishing = Deferred.fromCoroutine(bob.session.finish())
    world.run()
    assert finishing.called
    assert house.reception.sessions == []
    assert [type(error) for error in house.users[0].errors] == [Unreachable]


def test_programs_of_one_contact_are_bounded_and_one_without_path_gives_way(world: World) -> None:
    house = House(world, "bob", "carol")
    callers = [world.caller("bob", "host", User()) for _ in range(SESSIONS_EACH)]
    world.run()
    assert len(house.reception.sessions) == SESSIONS_EACH
    late = world.caller("bob", "host", User())
    world.run()
    assert [type(error) for error in late.errors] == [LimitReached]
    # Another contact is not shut out by that.
    carol = world.caller("carol", "host", User())
    world.run()
    assert carol.session.channels.current is not None
    late.session.close()
    callers[0].session.close()
    for path in list(house.reception.sessions[0].paths.ordered()):
        path.fail(Unreachable("gone"))
    world.run()
    again = world.caller("bob", "host", User())
    world.run()
    assert again.session.channels.current is not None
    assert len(house.reception.sessions) == SESSIONS_EACH + 1


def test_introductions_of_one_contact_are_bounded(world: World) -> None:
    house = House(world, "bob", "carol")
    world.joins = False
    key = world.identity("bob").id.digest
    for number in range(3 * MEETINGS_EACH):
        house.reception.introduced(Introduction(session=number.to_bytes(32, "little"), initiator=False, peer_id=key))
    assert sum("responder" in sides for sides in world.sides.values()) == MEETINGS_EACH
    world.joins = True
    carol = world.caller("carol", "host", User())
    world.run()
    assert carol.session.channels.current is not None


def test_who_has_a_relay_and_is_asked_for_a_direct_path_alone_repeats_no_plan(world: World) -> None:
    house = House(world, "bob")
    world.caller("bob", "host", User())
    key = world.identity("bob").id.digest
    sides: list[bool] = []
    for _ in range(2):
        session = bytes([len(sides)]) * 32
        house.reception.introduced(Introduction(session=session, initiator=False, peer_id=key))
        sides.append(world.sides[session]["responder"].party.beside)
        world.run()
    assert sides == [False, True]


def test_a_path_that_says_nothing_ends_and_one_that_says_something_else_is_refused(world: World) -> None:
    house = House(world, "bob")
    bob = world.caller("bob", "host", User())
    bob.session.link.flush = lambda: None  # type: ignore[method-assign]  # it does not attach itself
    world.run()
    ((here, there),) = [[side.paths[0] for side in sides.values()] for sides in world.sides.values()]
    world.joins = False
    world.run(ATTACH_S + 1)
    assert not there.meeting.paths
    world.joins = True
    bob.session._look_around()
    world.run(10)
    paths = [side.paths[0] for sides in world.sides.values() for side in sides.values() if side.paths]
    paths[0].send(Open(number=0, channel=0, service="x", credit=1))
    world.run()
    assert [type(error) for error in bob.errors] == [ProtocolBreach]
    assert house.reception.sessions == []
    assert here.open


def test_the_end_of_the_host_is_told(world: World) -> None:
    house = House(world, "bob")
    bob = world.caller("bob", "host", User())
    world.run()
    del world.waiting["svc"]
    ending = Deferred.fromCoroutine(house.reception.close(PeerStopped("it is over here")))
    world.run(1)
    assert ending.called
    assert house.users[0].errors[0].message == "it is over here"
    notes = [event.message for event in bob.told if isinstance(event, Note)]
    assert "host was stopped there" in notes[0]
    world.run(40)
    assert [type(error) for error in bob.errors] == [Incomplete]


def test_an_attach_of_a_session_that_is_over_is_answered_by_a_new_instance(world: World) -> None:
    """So the other end knows that what it had under way is lost, and gives up its side."""
    house = House(world, "bob")
    house.reception.patience = 5
    bob = world.caller("bob", "host", User())
    world.run()
    world.waiting["elsewhere"] = world.waiting.pop("svc")
    world.cut()
    world.run(10)
    assert house.reception.sessions == []
    world.waiting["svc"] = world.waiting.pop("elsewhere")
    world.run(10)
    assert [type(error) for error in bob.errors] == [Incomplete]
    assert "started anew" in bob.errors[0].message
    assert len(house.users) == 1
