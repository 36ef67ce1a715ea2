from __future__ import annotations

from p2pxfer.core.contact.codebook import CodeBook
from p2pxfer.core.contact.codes import Code, parse_code
from p2pxfer.core.contact.pairplace import CODES, place_in, slots_at
from p2pxfer.core.names import check_name
from p2pxfer.core.ownnames import PLACES, name_of, place_of

KEYS = [bytes([number]) * 32 for number in range(200)]


def test_a_place_follows_from_the_key_and_the_attempt() -> None:
    places = {place_of(key, attempt) for key in KEYS for attempt in range(3)}
    assert len(places) > 590
    assert all(place in PLACES for place in places)
    assert place_of(KEYS[0], 0) == place_of(KEYS[0], 0) != place_of(KEYS[0], 1)


def test_a_code_names_its_place() -> None:
    for place in (PLACES[0], PLACES[-1], place_of(KEYS[1], 0)):
        assert check_name(name_of(place)) == f"pair-{place}"
        codes = [Code(slot, ("acorn", "tulip", "zebra")) for slot in slots_at(place)]
        assert len(codes) == len(CODES)
        assert {place_in(code) for code in codes} == {place}


def test_codes_of_other_commands_name_none() -> None:
    for number in (1, 7, 99_999, 100_000, 1_000_000, 123_450, 999_999_999):
        assert place_in(parse_code(f"{number}-acorn-tulip-zebra")) is None


def test_the_book_goes_round_in_the_place() -> None:
    slots = slots_at(12_345)
    book = CodeBook(slots=slots)
    seen = []
    for now in range(20):
        slot = book.next_slot
        seen.append(slot)
        book.open(Code(slot, ("acorn", "tulip", "zebra")), now)
        book.close(slot)
    assert seen[:9] == list(slots)
    assert seen[9:18] == list(slots)
