"""What a contact is denied is refused, also while the receiver runs, and what it is allowed again works at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Stage, check_failure, names_in
from tests.scene import events_of, random_file

pytestmark = pytest.mark.deadline(240)


@pytest.fixture
def source(pair: Stage) -> Path:
    path = pair.folder / "letter.bin"
    random_file(path, 100_000)
    return path


@pytest.mark.parametrize("accept", ["contacts", "all"])
def test_a_contact_that_is_denied_files_sends_none(pair: Stage, source: Path, accept: str) -> None:
    bob = pair.receive("--accept", accept)
    pair.send_good("before.bin")
    assert pair.run("contacts", "deny", "alice", "files", home=pair.bob).status == 0
    pair.fails(4, "E_DENIED", "takes no files from you", "send", source, "bob")
    assert names_in(pair.inbox) == ["before.bin"]
    assert pair.run("contacts", "allow", "alice", "files", home=pair.bob).status == 0
    pair.send_good("after.bin")
    bob.stop()
    said = [event["message"] for event in events_of(bob) if event["event"] == "note"]
    assert any("p2pxfer contacts allow alice files lets it" in text for text in said)


def test_a_code_does_not_give_a_right_back(pair: Stage, source: Path) -> None:
    assert pair.run("contacts", "deny", "alice", "all", home=pair.bob).status == 0
    bob = pair.receive()
    code = str(bob.wait_for("code")["code"])
    assert pair.run("contacts", "remove", "bob").status == 0
    check_failure(pair.run("send", source, "bob", env={"P2PXFER_CODE": code}), 4, "takes no files from you")
    assert names_in(pair.inbox) == []
    bob.stop()


def test_a_pipe_with_a_contact_that_is_denied_it_does_not_begin(pair: Stage) -> None:
    said = pair.run("contacts", "deny", "bob", "pipe", "chat")
    assert "bob may not: chat, pipe" in said.err
    (row,) = pair.run("contacts", as_json=True).events
    assert row["denied"] == ["chat", "pipe"]
    assert "denied: chat, pipe" in pair.run("contacts").out
    check_failure(pair.run("pipe", "bob"), 4, "bob is denied pipe here")
    (event,) = pair.run("contacts", "allow", "bob", "all", as_json=True).events
    assert event["state"] == "changed" and event["denied"] == []
    check_failure(pair.run("contacts", "deny", "bob", "money"), 2, "'money' is not one of")
    check_failure(pair.run("contacts", "deny", "bob"), 2, "Missing argument")
    check_failure(pair.run("contacts", "deny", "carol", "files"), 2, "no contact carol")
