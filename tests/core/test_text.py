"""Foreign strings made printable."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.text import few_of, safe_text

BAD_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
any_text = st.text(st.characters(exclude_categories=())) | st.text(
    alphabet="a\u0301\u202e\x1b\n\\\ud800\U000e0001 \u2028\ufe0f", max_size=60
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, 100 %s {0}", "plain text, 100 %s {0}"),
        ("gr\u00fc\u00dfe \u4f60\u597d \U0001f600", "gr\u00fc\u00dfe \u4f60\u597d \U0001f600"),
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x7f\x85\x9b", "\\x7f\\x85\\x9b"),
        ("evil\u202egpj.exe", "evil\\u202egpj.exe"),
        ("\u2066\u2069\u200e\u061c", "\\u2066\\u2069\\u200e\\u061c"),
        ("a\u200bb\u200dc\ufeff\u00ad", "a\\u200bb\\u200dc\\ufeff\\xad"),
        ("line\u2028par\u2029", "line\\u2028par\\u2029"),
        ("\ud800x\udfff", "\\ud800x\\udfff"),
        ("\ue000\U000f0000\U000e0041", "\\ue000\\U000f0000\\U000e0041"),
        ("\u0378", "\\u0378"),
        ("no\u00a0break", "no\\xa0break"),
        ("\u3164\u2800\ufe0f", "\\u3164\\u2800\\ufe0f"),
        ("e\u0301", "e\u0301"),
        ("\u0301e", "\\u0301e"),
        ("z" + "\u0301" * 6, "z" + "\u0301" * 4 + "\\u0301" * 2),
        ("", ""),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert safe_text(text) == shown


def test_long_text_is_cut() -> None:
    assert safe_text("a" * 1024) == "a" * 1024
    assert safe_text("a" * 1025) == "a" * 1021 + "..."
    assert safe_text("x" * 2**20) == "x" * 1021 + "..."
    assert safe_text("abcdef", limit=5) == "ab..."


def test_an_escape_is_not_cut_in_two() -> None:
    assert safe_text("a\x1bbcdefgh", limit=8) == "a\\x1b..."
    assert safe_text("ab\x1bcdefgh", limit=8) == "ab..."
    assert safe_text("\x1b", limit=4) == "\\x1b"
    assert safe_text("\x1b", limit=3) == "..."


def test_the_limit_has_room_for_the_ellipsis() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        safe_text("abc", limit=2)


@given(any_text, st.integers(3, 80))
def test_only_printable_text_within_the_limit(text: str, limit: int) -> None:
    shown = safe_text(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    assert not BAD_CATEGORIES & {unicodedata.category(character) for character in shown}
    shown.encode("utf-8")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_printable_ascii_is_left_alone(text: str) -> None:
    assert safe_text(text, limit=max(3, len(text))) == text


@given(any_text)
def test_twice_is_once(text: str) -> None:
    once = safe_text(text, limit=10_000)
    assert safe_text(once, limit=10_000) == once


@pytest.mark.parametrize(
    ("names", "shown"),
    [([], ""), (["a"], "a"), (["a", "b", "c"], "a, b, c"), (["a", "b", "c", "d"], "a, b, c ..."), (["\x1b"], r"\x1b")],
)
def test_of_many_names_the_first_few_are_shown(names: list[str], shown: str) -> None:
    assert few_of(names) == shown


def test_of_names_a_long_one_is_cut() -> None:
    assert few_of(["a" * 100, "b"], 1) == "a" * 57 + "... ..."
