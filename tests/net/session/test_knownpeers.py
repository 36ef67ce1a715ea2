"""What is said of a PEER that is no contact."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pxfer.core.ids import PeerId
from p2pxfer.errors import UsageError
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.session.knownpeers import known_peer, not_a_contact


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def meet(home: Home, *names: str) -> None:
    for number, name in enumerate(names):
        home.add_contact(Contact(name, PeerId(bytes([number]) * 32), "code", "2026-11-21"))


def test_who_is_no_contact_is_told_what_makes_one(home: Home) -> None:
    with pytest.raises(UsageError) as caught:
        known_peer(home, "dave", "a chat")
    assert caught.value.message == (
        "dave is not a contact, and a chat is made between contacts only: p2pxfer pair makes one, and so does a first"
        " send with a code"
    )


def test_the_contacts_that_may_be_meant_are_named(home: Home) -> None:
    meet(home, "bob", "carol")
    assert not_a_contact(home, "bbo") == "bbo is not a contact (did you mean bob?)"
    assert not_a_contact(home, "zacharias") == "zacharias is not a contact (contacts are: bob, carol)"


def test_of_many_contacts_some_are_named_and_where_the_others_are(home: Home) -> None:
    """Whoever mistook a name is not sent for a code that cannot exist."""
    assert not_a_contact(home, "zzz") == "zzz is not a contact"
    meet(home, "anna", "bob", "carol", "dora", "erika", "frida", "gustav")
    assert not_a_contact(home, "zzz") == (
        "zzz is not a contact (contacts are: anna, bob, carol, dora, erika and 2 more, which p2pxfer contacts lists)"
    )
