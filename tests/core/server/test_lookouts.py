"""Waiting at the server for a peer that is not here: introduced the moment it registers, and never for ever."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from p2pxfer.core.codec import Message
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Failure, Introduce, Introduction, Ping, Pong, Registered
from p2pxfer.core.server.effects import Send, ServerSettings
from tests.core.server.registryworld import ALICE, BOB, EVE, HOME_B, World, refused


def ask(world: World, conn: int, to: str = "bob", wait_s: int = 20, path: Any = "auto") -> list[Message]:
    return world.say(conn, Introduce(to=to, tag=20001, path=path, wait_s=wait_s))


@pytest.mark.parametrize("to", ["bob", str(PeerId(BOB)), str(PeerId(BOB)).upper()])
def test_who_waits_is_introduced_the_moment_the_peer_registers(world: World, to: str) -> None:
    alice = world.register(ALICE)
    assert ask(world, alice, to) == []
    assert world.registry.counts["waiting"] == 1
    before = len(world.effects)
    bob = world.register(BOB, "bob", HOME_B)
    (mine,) = world.told(alice, before)
    registered, theirs = world.told(bob, before)  # never before it knows that it is registered
    assert isinstance(registered, Registered)
    assert isinstance(mine, Introduction)
    assert isinstance(theirs, Introduction)
    assert (mine.peer_id, mine.initiator, theirs.peer_id, theirs.initiator) == (BOB, True, ALICE, False)
    assert mine.session == theirs.session
    assert mine.responder_name == theirs.responder_name == ("bob" if to == "bob" else None)
    assert world.registry.counts["waiting"] == 0


def test_nobody_else_ends_the_wait(world: World) -> None:
    alice = world.register(ALICE)
    ask(world, alice)
    world.register(EVE, "eve")
    world.register(BOB)  # without a name it cannot be found
    assert len(world.told(alice)) == 1


def test_who_waits_for_an_id_is_not_led_to_a_connection_that_is_found_by_its_name_only(world: World) -> None:
    """Neither do files for the receiver come to a pipe when they wait for it."""
    alice, eve = world.register(ALICE), world.register(EVE)
    ask(world, alice, str(PeerId(BOB)))
    ask(world, eve, "pipe-bob")
    world.register(BOB, "pipe-bob", HOME_B, by_key=False)
    assert [len(world.told(conn)) for conn in (alice, eve)] == [1, 2]
    world.register(BOB, "bob", HOME_B)
    assert isinstance(world.told(alice)[-1], Introduction)


def test_the_wait_ends_with_the_same_answer_as_for_somebody_unknown(world: World) -> None:
    world.lose(world.register(BOB, "bob", HOME_B))
    alice, eve = world.register(ALICE), world.register(EVE)
    ask(world, alice, "bob")
    ask(world, eve, "nobody")
    world.tick(19)
    assert (len(world.told(alice)), len(world.told(eve))) == (1, 1)
    world.tick(1)
    assert world.told(alice)[1:] == world.told(eve)[1:]
    assert refused(world.told(alice)[1:], "E_PEER_GONE", fatal=False)
    world.register(BOB, "bob", HOME_B)
    assert len(world.told(alice)) == 2


def test_the_server_waits_no_longer_than_it_wants() -> None:
    world = World(replace(ServerSettings(), wait_s=5))
    alice = world.register(ALICE)
    ask(world, alice, wait_s=60)
    world.tick(5)
    assert refused(world.told(alice)[1:], "E_PEER_GONE", fatal=False)


def test_another_request_ends_the_wait_and_answers_keep_their_order(world: World) -> None:
    alice = world.register(ALICE)
    world.register(EVE, "eve")
    ask(world, alice, "bob")
    first, second = ask(world, alice, "eve", wait_s=0)
    assert isinstance(first, Failure)
    assert isinstance(second, Introduction)
    assert second.peer_id == EVE
    ask(world, alice, "bob")
    assert refused(ask(world, alice, "bob"), "E_PEER_GONE", fatal=False)  # the first one's; the second one waits
    assert world.registry.counts["waiting"] == 1


def test_other_messages_leave_the_wait_alone(world: World) -> None:
    alice = world.register(ALICE)
    ask(world, alice)
    assert world.say(alice, Ping()) == [Pong()]
    world.register(BOB, "bob", HOME_B)
    assert isinstance(world.told(alice)[-1], Introduction)


def test_who_went_away_waits_no_more(world: World) -> None:
    alice = world.register(ALICE)
    ask(world, alice)
    world.lose(alice)
    assert world.registry.counts["waiting"] == 0
    before = len(world.effects)
    world.register(BOB, "bob", HOME_B)
    assert not any(isinstance(one, Send) and one.conn == alice for one in world.effects[before:])


def test_so_many_wait_for_one_peer() -> None:
    world = World(replace(ServerSettings(), waits_per_peer=2))
    conns = [world.register(key) for key in (ALICE, EVE, b"x" * 32)]
    assert [len(ask(world, conn)) for conn in conns] == [0, 0, 1]
    assert refused(world.told(conns[2])[1:], "E_PEER_GONE", fatal=False)
    world.lose(conns[0])
    assert ask(world, conns[2]) == []


def test_the_limits_hold_for_those_who_waited() -> None:
    world = World(replace(ServerSettings(), introductions_per_target=1))
    alice, eve = world.register(ALICE), world.register(EVE)
    ask(world, alice)
    ask(world, eve)
    world.register(BOB, "bob", HOME_B)
    assert isinstance(world.told(alice)[-1], Introduction)
    assert refused(world.told(eve)[1:], "E_RATE", fatal=False)


def test_paths_that_do_not_go_together_are_refused_when_the_peer_comes(world: World) -> None:
    alice = world.register(ALICE)
    ask(world, alice, path="relay")
    world.register(BOB, "bob", HOME_B, path="direct")
    assert refused(world.told(alice)[1:], "E_PATH_NONE", fatal=False)


def test_lookups_count_whether_they_wait_or_not() -> None:
    world = World(replace(ServerSettings(), lookups_per_key=1))
    alice = world.register(ALICE)
    ask(world, alice)
    first, second = ask(world, alice)
    assert [getattr(one, "word", "") for one in (first, second)] == ["E_PEER_GONE", "E_RATE"]
