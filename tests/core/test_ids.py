"""Peer id text: round trips, error detection, one text per key."""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.ids import PeerId, parse_id
from p2pxfer.errors import IdInvalid

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
digests = st.binary(min_size=32, max_size=32)


def luhn_is_zero(text: str) -> bool:
    """Luhn modulo 32 over data and check character, written as the sum that a receiver checks."""
    total = 0
    for place, character in enumerate(reversed(text)):
        value = ALPHABET.index(character) * (1 + place % 2)
        total += value // 32 + value % 32
    return total % 32 == 0


def test_the_form() -> None:
    text = str(PeerId(bytes(range(32))))
    assert re.fullmatch(r"p2px1(-[a-z2-7]{7}){8}", text)
    plain = text.removeprefix("p2px1").replace("-", "")
    blocks = [plain[at : at + 14] for at in range(0, 56, 14)]
    assert all(luhn_is_zero(block) for block in blocks)
    data = "".join(block[:13] for block in blocks)
    assert data == b32encode(bytes(range(32))).decode().rstrip("=").lower()


def test_a_known_id() -> None:
    assert str(PeerId(bytes(32))) == "p2px1" + "-aaaaaaa" * 8
    assert str(PeerId(b"\xff" * 32)) == ("p2px1-7777777-777777n-7777777-777777n-7777777-777777n-7777777-77777ql")


def test_the_id_of_a_key() -> None:
    peer = PeerId(hashlib.sha256(b"a public key").digest())
    assert str(peer).split("-")[1] == peer.short
    assert repr(peer) == f"PeerId({peer})"


@given(digests)
def test_round_trip(digest: bytes) -> None:
    peer = PeerId(digest)
    assert parse_id(str(peer)) == peer


@given(digests, st.data())
def test_case_and_dashes_do_not_matter(digest: bytes, data: st.DataObject) -> None:
    text = str(PeerId(digest)).replace("-", "")
    upper = data.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    dashes = data.draw(st.lists(st.integers(0, 2), min_size=len(text), max_size=len(text)))
    typed = "".join(
        "-" * count + (character.upper() if big else character)
        for character, big, count in zip(text, upper, dashes, strict=True)
    )
    assert parse_id(typed).digest == digest


@given(digests, st.integers(0, 55), st.sampled_from(ALPHABET))
def test_any_single_wrong_character_is_found(digest: bytes, place: int, wrong: str) -> None:
    plain = str(PeerId(digest)).removeprefix("p2px1").replace("-", "")
    if plain[place] == wrong:
        wrong = ALPHABET[(ALPHABET.index(wrong) + 1) % 32]
    with pytest.raises(IdInvalid):
        parse_id("p2px1-" + plain[:place] + wrong + plain[place + 1 :])


def test_every_single_wrong_character_of_one_id_is_found() -> None:
    plain = str(PeerId(hashlib.sha256(b"key").digest())).removeprefix("p2px1").replace("-", "")
    for place in range(56):
        for wrong in set(ALPHABET) - {plain[place]}:
            with pytest.raises(IdInvalid):
                parse_id("p2px1-" + plain[:place] + wrong + plain[place + 1 :])


def test_most_swaps_of_neighbours_are_found() -> None:
    found = tried = 0
    for number in range(40):
        plain = str(PeerId(hashlib.sha256(bytes([number])).digest())).removeprefix("p2px1").replace("-", "")
        for place in range(55):
            swapped = plain[:place] + plain[place + 1] + plain[place] + plain[place + 2 :]
            if swapped == plain:
                continue
            tried += 1
            try:
                parse_id("p2px1-" + swapped)
            except IdInvalid:
                found += 1
    assert found / tried > 0.95


def test_the_error_names_the_place() -> None:
    with pytest.raises(IdInvalid, match="groups 3 and 4"):
        parse_id("p2px1" + "-aaaaaaa" * 3 + "-aabaaaa" + "-aaaaaaa" * 4)


def test_unused_bits_must_be_zero() -> None:
    # The last data character carries one bit of the digest; "b" sets unused bits, and its check character is right.
    last = next(f"aaaaaaaaaaaab{check}" for check in ALPHABET if luhn_is_zero(f"aaaaaaaaaaaab{check}"))
    with pytest.raises(IdInvalid, match="unused bits"):
        parse_id("p2px1" + "a" * 42 + last)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p2px1",
        "p2px1-",
        "p2px2" + "-aaaaaaa" * 8,
        "a" * 56,
        "p2px1" + "-aaaaaaa" * 7,
        "p2px1" + "-aaaaaaa" * 9,
        "p2px1" + "-aaaaaaa" * 7 + "-aaaaaa1",
        "p2px1" + "-aaaaaaa" * 7 + "-aaaaaa\u00e4",
        "p2px1" + "-aaaaaaa" * 7 + "-aaaaaa\n",
        "p2px1" + "-aaaaaaa" * 8 + "\n",
        "p2px1" + "-aaaaaaa" * 7 + "-aaaaaa=",
        "p2px1" + "-kaaaaaa" * 7 + "-\u212aaaaaaa",
        "p2px1" + "-" * 10_000_000 + "a" * 56,
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(IdInvalid):
        parse_id(text)


@given(st.text() | st.from_regex(r"p2px1-[a-z2-7]{56}", fullmatch=True))
def test_any_text_parses_or_is_an_invalid_id(text: str) -> None:
    try:
        peer = parse_id(text)
    except IdInvalid:
        return
    assert str(peer).replace("-", "") == text.lower().replace("-", "")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_an_id_is_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PeerId(bytes(size))


@given(digests, digests)
def test_ids_compare_by_digest(left: bytes, right: bytes) -> None:
    assert (PeerId(left) == PeerId(right)) is (left == right)
    assert (str(PeerId(left)) == str(PeerId(right))) is (left == right)
    assert hash(PeerId(left)) == hash(PeerId(left))
