"""Registered names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.names import check_name, normalise_name, suggest_name
from p2pxfer.errors import NameInvalid


@pytest.mark.parametrize("name", ["bob", "a1b", "bob.laptop", "bob_2", "b-o-b", "0.0", "a" * 32, "con", "nul"])
def test_legal_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="N01"),
        pytest.param("a" * 33, id="N02"),
        pytest.param("Bob", id="N03"),
        pytest.param("bob ", id="N04"),
        pytest.param("-bob", id="N05"),
        pytest.param("bob.", id="N06"),
        pytest.param("..", id="N07"),
        pytest.param("a/b", id="N08"),
        pytest.param("b\x00b", id="N09"),
        pytest.param("b\nb", id="N10"),
        pytest.param("\x1b[31m", id="N11"),
        pytest.param("b\u043eb", id="N12"),
        pytest.param("bo\u202eb", id="N13"),
        pytest.param("bo\u0301b", id="N14"),
        pytest.param("\U0001f469\u200d\U0001f4bb", id="N15"),
        pytest.param("__proto__", id="N17"),
        pytest.param("%s%n{0}", id="N18"),
        pytest.param("a" * 4096, id="N19"),
        pytest.param("ab", id="two characters"),
        pytest.param("bob\n", id="trailing newline"),
        pytest.param("\uff42\uff4f\uff42", id="full width"),
        pytest.param("bo\u0663", id="Arabic digit"),
    ],
)
def test_illegal_names(name: str) -> None:
    with pytest.raises(NameInvalid):
        check_name(name)


def test_typed_names_are_normalised() -> None:
    assert normalise_name("  Bob.Laptop\n") == "bob.laptop"


@pytest.mark.parametrize("name", ["\u212aeith", "bo b", "", "  ", "B\u00d6B"])
def test_normalising_does_not_make_other_names_legal(name: str) -> None:
    with pytest.raises(NameInvalid):
        normalise_name(name)


@pytest.mark.parametrize(
    ("username", "name"),
    [
        ("bob", "bob"),
        ("Alice", "alice"),
        ("Jos\u00e9", "jose"),
        ("DOMAIN\\User Name", "domain-user-name"),
        ("_www", "www"),
        ("al", "al-peer"),
        ("x", "x-peer"),
        ("", "peer"),
        ("\u4f60\u597d", "peer"),
        ("../..", "peer"),
        ("a" * 31 + ".b", "a" * 31),
    ],
)
def test_suggested_names(username: str, name: str) -> None:
    assert suggest_name(username) == name


@given(st.text() | st.text(alphabet="aB1._- \u00e9", max_size=40))
def test_every_suggestion_is_legal(username: str) -> None:
    assert check_name(suggest_name(username))


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{1,30}[a-z0-9]", fullmatch=True))
def test_a_legal_name_suggests_itself(name: str) -> None:
    assert check_name(name) == normalise_name(name.upper()) == suggest_name(name) == name


@given(st.text() | st.text(alphabet="ab1._-\n", max_size=40))
def test_the_rule(text: str) -> None:
    legal = 3 <= len(text) <= 32 and re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", text) is not None
    try:
        check_name(text)
    except NameInvalid:
        assert not legal
    else:
        assert legal
