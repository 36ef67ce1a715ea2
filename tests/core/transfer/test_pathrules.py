"""The judge of names."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.text import safe_text
from p2pxfer.core.transfer.pathrules import check_component, check_dangerous, check_path, collision_key
from p2pxfer.errors import PathRefused
from tests.core.paths_corpus import Row, cases


@pytest.mark.parametrize("row", cases("E_PATH"))
def test_corpus_refused(row: Row) -> None:
    with pytest.raises(PathRefused) as caught:
        check_path(row.texts()[-1])
    assert caught.value.message == safe_text(caught.value.message), "the sentence is printable"
    assert caught.value.word == "E_PATH"


@pytest.mark.parametrize("row", cases("ok", "E_COLLISION"))
def test_corpus_taken(row: Row) -> None:
    for path in row.texts():
        check_path(path)


@pytest.mark.parametrize("row", cases("E_COLLISION"))
def test_corpus_collisions(row: Row) -> None:
    keys = [collision_key(path) for path in row.texts()]
    if row.id == "F51":
        assert keys[1].startswith(f"{keys[0]}/")
    else:
        assert len(set(keys)) < len(keys)


@pytest.mark.parametrize("row", cases("ok"))
def test_corpus_distinct(row: Row) -> None:
    keys = [collision_key(path) for path in row.texts()]
    assert len(set(keys)) == len(keys)


@given(st.text())
def test_what_is_accepted_stays_below(path: str) -> None:
    try:
        check_path(path)
    except PathRefused as error:
        assert error.message.isprintable()
        return
    parts = path.split("/")
    assert all(part not in {"", ".", ".."} for part in parts)
    assert not set(path) & set("\\:\0")
    assert path == path.encode().decode()


@given(st.text(st.characters(categories=["Cc", "Cf", "Cs", "Co", "Zl", "Zp"]), min_size=1, max_size=1))
def test_controls_anywhere_are_refused(character: str) -> None:
    for name in (character, f"a{character}b", f"a{character}", f"{character}b"):
        with pytest.raises(PathRefused):
            check_component(name)


@given(st.text(max_size=20))
def test_collision_key_is_a_key(text: str) -> None:
    key = collision_key(text)
    assert collision_key(key) == key
    assert collision_key(unicodedata.normalize("NFD", text)) == collision_key(unicodedata.normalize("NFC", text)) == key


@pytest.mark.parametrize("name", ["com", "com10", "console", "auxiliary", "nul1", "a.con", "prn-1", "lpt", "conin"])
def test_names_that_resemble_devices(name: str) -> None:
    check_component(name)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(".ssh/authorized_keys", id="F55"),
        pytest.param(".bashrc", id="F56"),
        pytest.param(".git/hooks/post-checkout", id="F57"),
        pytest.param("autorun.inf", id="F58"),
        pytest.param("Desktop.ini", id="F58 desktop"),
        ".profile",
        ".config/autostart/x.desktop",
        ".config",
        "bin/ls",
        "BIN",
        "Library/LaunchAgents/x.plist",
        "AppData/Roaming/x",
    ],
)
def test_dangerous_in_a_home_directory(path: str) -> None:
    with pytest.raises(PathRefused, match="home directory"):
        check_dangerous(["ok.txt", path], destination_is_home=True)
    check_dangerous(["ok.txt", path], destination_is_home=False)


@pytest.mark.parametrize("path", ["project/.git/hooks/pre-commit", "a/.ssh/x", "binary", "Library/x", "x/autorun.inf"])
def test_ordinary_in_a_home_directory(path: str) -> None:
    check_dangerous([path], destination_is_home=True)


def test_reasons_name_the_fault() -> None:
    for name, reason in (("a\\b", "backslash"), ("a:b", "colon"), ("\udcff", "UTF-8"), ("a\u202eb", "U\\+202E")):
        with pytest.raises(PathRefused, match=reason):
            check_component(name)
