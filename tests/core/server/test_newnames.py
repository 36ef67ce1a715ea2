"""New names of a day: by source, and names of the program's own by key."""

from __future__ import annotations

from ipaddress import ip_address

from msgspec.structs import replace

from p2pxfer.core.messages import Failure, Register
from p2pxfer.core.ownnames import common_name, name_of, place_of, waiting_name
from p2pxfer.core.server.effects import ServerSettings
from p2pxfer.core.server.newnames import DAY_S, Charge, NewNames
from tests.core.server.registryworld import ALICE, BOB, EVE, HOME_B, World, refused

HOME = ip_address("198.18.1.1")
AWAY = ip_address("198.18.2.1")
FEW = replace(ServerSettings(), new_names_per_source_a_day=2, own_names_per_key_a_day=3)


def own_names(key: bytes) -> list[str]:
    return [
        common_name("chat", key),
        common_name("chatfile", key),
        common_name("pipe", key),
        name_of(place_of(key, 0)),
        *(waiting_name(key, service) for service in ("web", "ssh", "files")),
    ]


def make(names: NewNames, key: bytes, name: str, now: float = 0.0) -> Charge:
    """Take ``name`` as a new one."""
    charge = names.take(key, name, HOME, now)
    names.decided(charge, key, name, HOME, charge is not Charge.NONE, now)
    return charge


def keys(count: int) -> list[bytes]:
    return [bytes([number + 10]) * 32 for number in range(count)]


def test_people_behind_one_address_use_every_command() -> None:
    world = World(replace(ServerSettings(), new_names_per_source_a_day=16))
    for key in keys(16):
        for name in ["chosen-" + key.hex()[:4], *own_names(key)][:4]:
            world.register(key, name)
    assert refused(world.say(world.open(EVE), Register(version=1, tag=1, name="one-more")), "E_LIMIT")


def test_what_one_key_chooses_costs_its_source_each_time() -> None:
    names = NewNames(FEW)
    assert [make(names, ALICE, name) for name in ("one", "two", "three")] == [Charge.SOURCE, Charge.SOURCE, Charge.NONE]


def test_a_key_has_so_many_of_its_own() -> None:
    names = NewNames(FEW)
    free = 4 * [Charge.KEY]
    charges = [make(names, ALICE, name) for name in own_names(ALICE)]
    assert charges == [Charge.SOURCE, *free[:3], Charge.SOURCE, Charge.NONE, Charge.NONE]


def test_names_of_somebody_else_s_key_are_chosen_names() -> None:
    names = NewNames(FEW)
    make(names, ALICE, "alice")
    assert make(names, ALICE, common_name("chat", BOB)) is Charge.SOURCE


def test_a_key_that_was_counted_elsewhere_today_is_counted() -> None:
    names = NewNames(FEW)
    make(names, ALICE, "alice")
    assert names.take(ALICE, common_name("chat", ALICE), AWAY, 1.0) is Charge.KEY


def test_the_next_day_a_key_is_counted_again() -> None:
    names = NewNames(FEW)
    chat, pipe = common_name("chat", ALICE), common_name("pipe", ALICE)
    assert make(names, ALICE, "alice", 0.0) is Charge.SOURCE
    assert make(names, ALICE, chat, DAY_S - 1) is Charge.KEY
    assert make(names, ALICE, pipe, DAY_S) is Charge.SOURCE


def test_what_made_no_name_is_given_back() -> None:
    names = NewNames(FEW)
    for _ in range(10):
        names.decided(names.take(ALICE, "alice", HOME, 0.0), ALICE, "alice", HOME, False, 0.0)
    assert make(names, ALICE, "alice") is Charge.SOURCE
    chat = common_name("chat", ALICE)
    for _ in range(10):
        assert names.take(ALICE, chat, HOME, 0.0) is Charge.KEY
        names.decided(Charge.KEY, ALICE, chat, HOME, False, 0.0)


def test_two_claims_of_one_key_at_once_cost_the_source_one() -> None:
    names = NewNames(FEW)
    chat, pipe = common_name("chat", ALICE), common_name("pipe", ALICE)
    for name in (chat, pipe):
        assert names.take(ALICE, name, HOME, 0.0) is Charge.SOURCE
    for name in (chat, pipe):
        names.decided(Charge.SOURCE, ALICE, name, HOME, True, 0.0)
    assert make(names, BOB, "bob") is Charge.SOURCE
    assert make(names, EVE, "eve") is Charge.NONE


def test_memory_is_bounded() -> None:
    names = NewNames(replace(FEW, new_names_per_source_a_day=100), max_keys=4)
    for key in keys(20):
        make(names, key, "chosen-" + key.hex()[:4])
        assert len(names) <= 4
    make(names, ALICE, "alice", DAY_S)
    assert len(names) == 1


def test_a_refusal_says_whose_limit_it_is_until_when_and_what_still_works() -> None:
    world = World(FEW)
    world.register(ALICE, "alice")
    world.register(BOB, "bob")
    (failure,) = world.say(world.open(EVE), Register(version=1, tag=1, name="eve"))
    assert isinstance(failure, Failure)
    assert failure.word == "E_LIMIT"
    assert "this server takes 2 new names a day from one network address" in failure.message
    assert "in 720 min" in failure.message
    assert "names that were registered before go on working" in failure.message
    assert "sending" in failure.message
    world.now += 720 * 60
    world.register(EVE, "eve")
    world.register(ALICE, "alice")
    world.register(EVE, "elsewhere", HOME_B)
