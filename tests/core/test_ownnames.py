"""Names that commands take by themselves, and that the server can tell whose they are not."""

from __future__ import annotations

import pytest

from p2pxfer.core.ids import PeerId
from p2pxfer.core.names import check_name
from p2pxfer.core.ownnames import PLACES_EACH, common_name, follows_from, name_of, place_of, waiting_name

ALICE, BOB = bytes([1]) * 32, bytes([2]) * 32


@pytest.mark.parametrize("purpose", ["pipe", "chat", "chatfile"])
def test_the_name_of_a_command_of_one_peer_follows_from_that_key_alone(purpose: str) -> None:
    name = check_name(common_name(purpose, ALICE))
    assert follows_from(ALICE, name)
    assert not follows_from(BOB, name)


def test_a_place_follows_from_that_key_alone() -> None:
    for attempt in range(PLACES_EACH):
        assert follows_from(ALICE, name_of(place_of(ALICE, attempt)))
        assert not follows_from(BOB, name_of(place_of(ALICE, attempt)))
    assert not follows_from(ALICE, name_of(place_of(ALICE, PLACES_EACH)))


def test_which_service_is_meant_is_not_known() -> None:
    assert follows_from(ALICE, waiting_name(ALICE, "web"))
    assert follows_from(BOB, waiting_name(ALICE, "web"))


@pytest.mark.parametrize(
    "name",
    ["", "-", "bob", "pair-", "pair-bob", "pair-99999999", "svc-", "svc-web", "svc-" + 28 * "1", "pipe-bob", "chat-"],
)
def test_what_a_person_may_choose_follows_from_no_key(name: str) -> None:
    assert not follows_from(ALICE, name)


def test_a_long_word_before_little_of_the_key_is_what_a_person_chose() -> None:
    """Otherwise any long name would do whose last characters are those of the id."""
    body = str(PeerId(ALICE)).replace("-", "")[5:]
    word = "the-house-of-bob".replace("-", "_")
    assert common_name(word, ALICE).endswith(body[:15])
    assert not follows_from(ALICE, common_name(word, ALICE))
