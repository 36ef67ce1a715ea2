"""Who is met and who may bring what, for every sort of peer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from p2pxfer.core.contact.codebook import CODE_LIFETIME, CodeBook
from p2pxfer.core.contact.codes import parse_code
from p2pxfer.errors import CodeNeeded, P2pxferError, Refused, Unreachable
from p2pxfer.net.transfer.admittance import Acceptance, Admittance
from p2pxfer.net.transfer.inboxowner import Known

CONTACT, DENIED, STRANGER = (bytes([n]) * 32 for n in (1, 2, 3))
NOW = 1000.0


class World:
    """A machine with one contact, one that is denied files, and a list that may be out of reach."""

    def __init__(self, acceptance: Acceptance) -> None:
        self.codes = CodeBook()
        contacts = {CONTACT: Known("dora", "contact"), DENIED: Known("eve", "contact", files=False)}
        self.owner: Any = SimpleNamespace(unread="", known=lambda key: None if self.owner.unread else contacts.get(key))
        self.admittance = Admittance("bob", acceptance, self.codes, self.owner)

    def lose_contacts(self) -> None:
        self.owner.unread = "contacts.json cannot be read"

    def open_code(self) -> None:
        self.codes.open(parse_code("4-acid-acorn-acre"), NOW)


def outcome(world: World, key: bytes, *, goes_on: bool) -> type[P2pxferError] | None:
    try:
        world.admittance.check_offer(key, goes_on=goes_on)
    except P2pxferError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("acceptance", "code", "met"),
    [("ask", False, False), ("contacts", False, False), ("all", False, True), ("ask", True, True)],
)
def test_a_stranger_is_met_while_a_code_is_open_or_where_everybody_may_send(
    acceptance: Acceptance, code: bool, met: bool
) -> None:
    world = World(acceptance)
    if code:
        world.open_code()
    assert world.admittance.welcome(STRANGER, NOW) is met
    assert world.admittance.welcome(CONTACT, NOW)
    assert world.admittance.welcome(DENIED, NOW), "it hears that it may not"


def test_a_code_that_has_expired_opens_nothing() -> None:
    world = World("contacts")
    world.open_code()
    assert world.admittance.welcome(STRANGER, NOW + CODE_LIFETIME - 1)
    assert not world.admittance.welcome(STRANGER, NOW + CODE_LIFETIME + 1)


@pytest.mark.parametrize("acceptance", ["ask", "contacts", "all"])
def test_while_contacts_cannot_be_read_nobody_new_is_met_and_nobody_is_called_a_stranger(
    acceptance: Acceptance,
) -> None:
    world = World(acceptance)
    world.open_code()
    world.lose_contacts()
    for key in (CONTACT, DENIED, STRANGER):
        assert not world.admittance.welcome(key, NOW)
        assert world.admittance.known(key) is None
        with pytest.raises(Unreachable) as raised:
            world.admittance.turn_away(key)
        assert raised.value.retry
        assert outcome(world, key, goes_on=False) is Unreachable
        assert outcome(world, key, goes_on=True) is None


@pytest.mark.parametrize("key", [CONTACT, STRANGER])
def test_while_contacts_cannot_be_read_what_was_said_of_whoever_goes_on_holds(key: bytes) -> None:
    world = World("all")
    before = world.admittance.known(key)
    world.lose_contacts()
    assert world.admittance.welcome(key, NOW, goes_on=True)
    assert world.admittance.known(key, before) == before


def test_who_goes_on_and_is_no_contact_any_more_is_not_met() -> None:
    world = World("contacts")
    assert not world.admittance.welcome(STRANGER, NOW, goes_on=True)
    assert world.admittance.known(STRANGER, Known("dora", "contact")) is None


def test_a_stranger_is_asked_for_a_code() -> None:
    with pytest.raises(CodeNeeded, match="ask for the one-time code"):
        World("contacts").admittance.turn_away(STRANGER)


def test_only_where_everybody_may_send_a_stranger_is_known_by_its_key() -> None:
    assert World("all").admittance.known(STRANGER) == Known("", "id")
    assert World("ask").admittance.known(STRANGER) is None
    assert World("all").admittance.known(CONTACT) == Known("dora", "contact")


@pytest.mark.parametrize("goes_on", [False, True])
def test_what_a_contact_may_is_asked_each_time(goes_on: bool) -> None:
    world = World("contacts")
    assert outcome(world, CONTACT, goes_on=goes_on) is None
    world.owner.known = lambda key: Known("dora", "contact", files=False)
    assert outcome(world, CONTACT, goes_on=goes_on) is Refused
