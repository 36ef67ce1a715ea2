"""A person at a terminal who mistypes a code, or whom the peer has forgotten, is asked and need not start again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.acquainting import pair_up
from tests.e2e.conftest import Stage, check_failure
from tests.e2e.terminal import Terminal
from tests.scene import WORDS, file_hash, random_file


@pytest.fixture
def source(stage: Stage) -> Path:
    path = stage.folder / "letter.bin"
    random_file(path, 100_000)
    return path


def test_a_mistyped_code_is_asked_for_again(stage: Stage, source: Path, terminals: list[Terminal]) -> None:
    bob = stage.receive("--once")
    code = str(bob.wait_for("code")["code"])
    number, first, *rest = code.split("-")
    alice = Terminal(stage, "send", source, "bob")
    terminals.append(alice)
    alice.answer(1, f"{number}-nosuchword-{'-'.join(rest)}")
    alice.wait_for(re.compile("^p2pxfer: word 1 of the code is not in the word list", re.MULTILINE))
    alice.answer(2, "-".join([number, "acorn" if first != "acorn" else "zebra", *rest]))
    fresh = next(str(event["code"]) for event in bob.events(30) if event["event"] == "code")
    assert fresh != code
    alice.answer(3, fresh)
    assert alice.status() == 0, alice.text
    bob.succeed(20)
    assert file_hash(stage.inbox / source.name) == file_hash(source)


def test_a_misspelt_name_is_said_to_be_no_contact(stage: Stage, source: Path, terminals: list[Terminal]) -> None:
    pair_up(stage)
    alice = Terminal(stage, "send", source, "bbo")
    terminals.append(alice)
    alice.wait_for(re.compile(r"no contact is called bbo; did you mean bob\?\s.*code of bbo: ", re.DOTALL))
    stranger = Terminal(stage, "send", source, "zacharias")
    terminals.append(stranger)
    stranger.wait_for(
        re.compile(r"no contact is called zacharias; contacts are: bob\s.*code of zacharias: ", re.DOTALL)
    )
    check_failure(stage.run("send", source, "bbo"), 2, "bbo is not a contact (did you mean bob?): give the")
    check_failure(stage.run("chat", "bbo"), 2, "bbo is not a contact (did you mean bob?), and a chat")
    check_failure(stage.run("send", "--queue", source, "bbo"), 2, "bbo is not a contact (did you mean bob?), and what")


def test_a_contact_that_was_forgotten_is_asked_for_the_code(
    stage: Stage, source: Path, terminals: list[Terminal]
) -> None:
    pair_up(stage)
    assert stage.run("contacts", "remove", "alice", home=stage.bob).status == 0
    bob = stage.receive("--once", "--code", WORDS)
    code = str(bob.wait_for("code")["code"])
    alice = Terminal(stage, "send", source, "bob")
    terminals.append(alice)
    alice.wait_for(re.compile(r"^bob does not know this machine any more\r?\none-time code of bob", re.MULTILINE))
    alice.answer(1, code)
    assert alice.status() == 0, alice.text
    bob.succeed(20)
    assert file_hash(stage.inbox / source.name) == file_hash(source)


def test_what_was_said_before_the_second_question_is_not_said_again(
    stage: Stage, source: Path, terminals: list[Terminal]
) -> None:
    pair_up(stage)
    assert stage.run("contacts", "remove", "alice", home=stage.bob).status == 0
    bob = stage.receive("--once")
    number, first, *rest = str(bob.wait_for("code")["code"]).split("-")
    alice = Terminal(stage, "send", source, "bob")
    terminals.append(alice)
    alice.answer(1, "-".join([number, "acorn" if first != "acorn" else "zebra", *rest]))
    alice.answer(2, next(str(event["code"]) for event in bob.events(30) if event["event"] == "code"))
    assert alice.status() == 0, alice.text
    lines = [line for line in alice.text.splitlines() if line]
    assert len([line for line in lines if line.startswith("peer bob ")]) == 1
    assert len(set(lines)) == len(lines), alice.text


def test_nothing_typed_gives_up_with_the_reason(stage: Stage, source: Path, terminals: list[Terminal]) -> None:
    pair_up(stage)
    assert stage.run("contacts", "remove", "alice", home=stage.bob).status == 0
    stage.receive("--once", "--code", WORDS).wait_for("code")
    alice = Terminal(stage, "send", source, "bob")
    terminals.append(alice)
    alice.answer(1, "")
    assert alice.status() == 4, alice.text
    assert "does not know this key" in alice.text.splitlines()[-1]
