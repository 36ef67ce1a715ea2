"""Code text, the word list and the drawing of codes."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.contact.codes import MAX_SLOT, RANDOM_BYTES, Code, make_code, normalise_code, parse_code, typed_code
from p2pxfer.core.contact.wordlist import WORD_SET, WORDS
from p2pxfer.errors import CodeInvalid

slots = st.integers(1, MAX_SLOT)
words = st.sampled_from(WORDS)


def test_the_word_list() -> None:
    assert len(WORDS) == len(WORD_SET) == 6**4
    assert list(WORDS) == sorted(WORDS)
    assert all(re.fullmatch(r"[a-z]{3,6}", word) for word in WORDS)


def test_a_code() -> None:
    code = parse_code("7-acorn-tulip-zebra")
    assert code == Code(7, ("acorn", "tulip", "zebra"))
    assert code.secret == "acorn-tulip-zebra"
    assert str(code) == "7-acorn-tulip-zebra"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="N23"),
        pytest.param("7", id="N24"),
        pytest.param("7-", id="N25"),
        pytest.param("7--", id="N26"),
        pytest.param("7-acorn", id="N27"),
        pytest.param("7-acorn-tulip", id="N28"),
        pytest.param("7-acorn-tulip-qwert", id="N29"),
        pytest.param("7-Acorn-tulip-zebra", id="N30"),
        pytest.param("\uff17-acorn-tulip-zebra", id="N31"),
        pytest.param("18446744073709551616-acorn-tulip-zebra", id="N32"),
        pytest.param("7-acorn-tulip-zebra\n", id="N33 newline"),
        pytest.param("7-acorn-tulip-zebra ", id="N33 space"),
        pytest.param("7-../x-y", id="N34"),
        pytest.param("0-acorn-tulip-zebra", id="slot zero"),
        pytest.param("07-acorn-tulip-zebra", id="leading zero"),
        pytest.param("-7-acorn-tulip-zebra", id="negative"),
        pytest.param("1000000000-acorn-tulip-zebra", id="slot beyond the limit"),
        pytest.param("7-acorn-tulip-zebra-zero", id="four words"),
        pytest.param("7 acorn tulip zebra", id="spaces"),
        pytest.param("7-acorn--zebra", id="empty word"),
        pytest.param("acorn-tulip-zebra", id="no slot"),
        pytest.param("7-\u212aeg-tulip-zebra", id="Kelvin sign"),
        pytest.param("7-acorn-tulip-" + "z" * 100_000, id="long"),
    ],
)
def test_malformed_codes(text: str) -> None:
    with pytest.raises(CodeInvalid):
        parse_code(text)


def test_typed_text_is_normalised_apart_from_parsing() -> None:
    assert normalise_code(" 7-Acorn-TULIP-zebra\r\n") == "7-acorn-tulip-zebra"
    assert parse_code(normalise_code("7-ACORN-tulip-zebra\n")).slot == 7


@pytest.mark.parametrize(
    "text",
    [
        "7 acorn tulip zebra", "7, acorn, tulip, zebra.", "  7  Acorn\tTULIP  zebra\r\n", "7 - acorn - tulip - zebra",
        "7\u2013acorn\u2014tulip\u2011zebra", "7_acorn_tulip_zebra", "7;acorn:tulip/zebra",
    ],
)  # fmt: skip
def test_a_code_as_people_write_down_what_they_hear(text: str) -> None:
    assert typed_code(text) == parse_code("7-acorn-tulip-zebra")


@pytest.mark.parametrize(
    "text", ["7 acorn tulip", "7acorntulipzebra", "7 acorn tulip zebra zinc", "a 7 tulip zebra", "- 7"]
)
def test_what_could_mean_something_else_is_no_code(text: str) -> None:
    with pytest.raises(CodeInvalid):
        typed_code(text)
    for text in ("7-\u212aeg-tulip-zebra", "\uff17-acorn-tulip-zebra"):
        with pytest.raises(CodeInvalid):
            parse_code(normalise_code(text))


@given(slots, words, words, words)
def test_code_round_trip(slot: int, first: str, second: str, third: str) -> None:
    code = Code(slot, (first, second, third))
    assert parse_code(str(code)) == code


@given(
    st.text()
    | st.from_regex(r"[0-9]{0,12}-[a-z]{0,8}-[a-z]{0,8}-[a-z]{0,8}\s?")
    | st.lists(st.sampled_from(["7", "-", "acorn", "zebra", "\n", "A", "\u0669"])).map("".join)
)
def test_any_text_parses_or_is_a_malformed_code(text: str) -> None:
    try:
        code = parse_code(text)
    except CodeInvalid:
        return
    assert str(code) == text
    assert code.secret not in repr(code)


def test_errors_do_not_repeat_the_words() -> None:
    with pytest.raises(CodeInvalid) as caught:
        parse_code("7-acorn-qwert-zebra")
    assert "qwert" not in str(caught.value)
    assert "word 2" in str(caught.value)


@pytest.mark.parametrize("slot", [0, -1, MAX_SLOT + 1])
def test_a_code_checks_its_slot(slot: int) -> None:
    with pytest.raises(CodeInvalid):
        Code(slot, ("acorn", "tulip", "zebra"))


@pytest.mark.parametrize("wrong", [(), ("acorn",), ("acorn", "tulip", "zebra", "zero"), ("acorn", "tulip", "")])
def test_a_code_checks_its_words(wrong: tuple[str, ...]) -> None:
    with pytest.raises(CodeInvalid):
        Code(1, wrong)


@given(slots, st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES).filter(lambda data: data.count(255) < 10))
def test_made_codes_parse(slot: int, random_bytes: bytes) -> None:
    code = make_code(slot, random_bytes)
    assert code.slot == slot
    assert parse_code(str(code)) == code


def test_every_word_is_drawn_equally_often() -> None:
    drawn: Counter[str] = Counter()
    refused = 0
    tail = bytes(4)  # two draws of the first word complete the code
    for value in range(2**16):
        try:
            drawn[make_code(1, value.to_bytes(2, "big") + tail).words[0]] += 1
        except ValueError:
            refused += 1
    assert set(drawn) == WORD_SET
    assert set(drawn.values()) == {50}
    assert refused == 2**16 - 50 * 1296


def test_a_refused_draw_is_skipped() -> None:
    assert make_code(1, b"\xff\xff\0\0\xfd\x20\0\1\0\2").words == WORDS[:3]
    assert make_code(1, b"\xfd\x1f\0\0\0\1").words == (WORDS[-1], WORDS[0], WORDS[1])


@pytest.mark.parametrize("data", [b"", bytes(5), b"\xff" * RANDOM_BYTES])
def test_too_little_randomness_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not enough random bytes"):
        make_code(1, data)


@pytest.mark.parametrize(
    "line",
    [
        "enter it there: p2pxfer pair 248641-food-lend-fever",
        "p2pxfer pair 248641-Food-Lend-Fever\r\n",
        "one-time code for the other machine: 248641-food-lend-fever   (valid 10 minutes)",
        "248641-food-lend-fever 248641-food-lend-fever",
    ],
)
def test_a_code_is_taken_out_of_the_line_that_it_was_shown_in(line: str) -> None:
    assert str(typed_code(line)) == "248641-food-lend-fever"


@pytest.mark.parametrize(
    "line",
    [
        "1-food-lend-fever 2-food-lend-fever",
        "pair x1-food-lend-fever",
        "pair 1-food-lend-fever-fever",
        "pair 0-food-lend-fever",
        "pair 248641 food lend fever",
    ],
)
def test_a_line_with_two_codes_or_with_none_is_no_code(line: str) -> None:
    with pytest.raises(CodeInvalid):
        typed_code(line)
