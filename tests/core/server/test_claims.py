"""Names at the server: who may have one, who holds it, and what waits until that is known."""

from __future__ import annotations

from typing import Any

import pytest

from p2pxfer.core.messages import (
    Introduce,
    Introduction,
    Ping,
    Pong,
    Register,
    Registered,
)
from p2pxfer.core.server.effects import (
    ClaimName,
    TouchName,
)
from tests.core.server.registryworld import ALICE, BOB, EVE, HOME_A, HOME_B, World, refused


def test_a_name_belongs_to_one_key_whether_it_is_here_or_not(world: World) -> None:
    conn = world.register(BOB, "bob")
    assert refused(world.say(world.open(EVE), Register(version=1, tag=1, name="bob")), "E_NAME")
    world.lose(conn)
    assert TouchName("bob", BOB) in world.effects
    eve = world.open(EVE)
    assert refused(world.say(eve, Register(version=1, tag=1, name="bob")), "E_NAME")
    assert world.closed(eve)


def test_the_newest_connection_of_a_key_holds_its_name(world: World) -> None:
    old = world.register(BOB, "bob", HOME_B)
    new = world.register(BOB, "bob", "198.18.2.1:20009")
    assert refused(world.told(old)[1:], "E_REPLACED")
    assert "replaced" in str(world.told(old)[-1])
    assert world.closed(old)
    alice = world.register(ALICE)
    assert world.introduce(alice, "bob").observed == ["198.18.2.1:20009"]
    world.lose(old)
    assert world.introduce(alice, "bob").peer_id == BOB
    assert world.told(new)[-1].initiator is False  # type: ignore[attr-defined]  # an Introduction


@pytest.mark.parametrize("name", ["", "ab", "Bob", "bob ", "-bob", "..", "a/b", "b\x00b", "b\nb", "\u0431ob", "x" * 33])
def test_illegal_names_are_refused(world: World, name: str) -> None:
    conn = world.open(BOB)
    assert refused(world.say(conn, Register(version=1, tag=1, name=name)), "E_NAME")
    assert not any(isinstance(effect, ClaimName) for effect in world.effects)


@pytest.mark.parametrize(
    ("claim", "word"),
    [("io", "E_IO"), ("key-limit", "E_LIMIT"), ("source-limit", "E_LIMIT"), ("taken", "E_NAME")],
)
def test_what_the_store_refuses_is_said(world: World, claim: Any, word: str) -> None:
    world.hold_claims = True
    conn = world.open(BOB)
    assert world.say(conn, Register(version=1, tag=1, name="bob")) == []
    world.note(world.registry.name_claimed(conn, claim, world.now))
    assert refused(world.told(conn), word)
    assert world.closed(conn)


def test_s02_many_names_of_one_key_and_of_one_source() -> None:
    world = World()
    for n in range(4):
        world.register(BOB, f"bob-{n}")
    assert refused(world.say(world.open(BOB), Register(version=1, tag=1, name="bob-4")), "E_LIMIT")
    world = World()
    for n in range(16):
        world.register(bytes([n]) * 32, f"name-{n}")
    assert refused(world.say(world.open(EVE), Register(version=1, tag=1, name="one-more")), "E_LIMIT")
    world.register(bytes([3]) * 32, "name-3")
    world.register(EVE, "elsewhere", HOME_B)
    world.now += 86_400 / 16 + 1
    world.register(EVE, "one-more")


def test_names_that_were_known_do_not_count_as_new(world: World) -> None:
    world.register(BOB, "bob")
    for _ in range(50):
        world.register(BOB, "bob")
    for n in range(15):
        world.register(bytes([n + 50]) * 32, f"name-{n}")


def test_a_claim_decided_after_the_connection_was_lost_changes_nothing(world: World) -> None:
    world.hold_claims = True
    conn = world.open(BOB)
    world.say(conn, Register(version=1, tag=1, name="bob"))
    world.lose(conn)
    assert world.registry.name_claimed(conn, "new", world.now) == []
    assert world.registry.counts["names"] == 0


def test_messages_behind_a_registration_wait_for_it(world: World) -> None:  # W40
    world.register(ALICE, "alice", HOME_A)
    world.hold_claims = True
    conn = world.open(BOB, HOME_B)
    for message in (Register(version=1, tag=20002, name="bob"), Ping(), Introduce(to="alice", tag=20002), Ping()):
        assert world.say(conn, message) == []
    world.note(world.registry.name_claimed(conn, "new", world.now))
    assert [type(one) for one in world.told(conn)] == [Registered, Pong, Introduction, Pong]
    flood = world.open(EVE)
    world.say(flood, Register(version=1, tag=1, name="eve"))
    for _ in range(64):
        assert world.say(flood, Ping()) == []
    assert refused(world.say(flood, Ping()), "E_RATE")
