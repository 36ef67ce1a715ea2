"""A command that is started a second time with the same key and name: the first one ends, and says why."""

from __future__ import annotations

import shutil

import pytest

from p2pxfer.net.private.home import Home
from tests.e2e.conftest import MIB, Stage, end_of, until_bytes
from tests.scene import random_file

pytestmark = pytest.mark.deadline(240)

COMMANDS = [
    (["receive", "--as", "bob"], "registered", "receive as bob was started again", "--as NAME"),
    (["expose", "127.0.0.1:9", "--to", "alice"], "exposed", "expose of default was started again", "--as NAME"),
    (["pair"], "code", "pair was started again", "code of the newer one"),
]


@pytest.mark.parametrize(("words", "sign", "says", "then"), COMMANDS, ids=lambda value: str(value)[:20])
def test_the_first_one_says_that_it_was_displaced(
    pair: Stage, words: list[str], sign: str, says: str, then: str
) -> None:
    first = pair.program("bob", pair.bob, *words)
    first.wait_for(sign)
    pair.program("bob", pair.bob, *words).wait_for(sign)
    status, events = end_of(first)
    assert (status, events[-1]["event"], events[-1]["code"]) == (4, "error", "E_REPLACED")
    assert says in events[-1]["message"]
    assert then in events[-1]["message"]


def test_what_was_under_way_goes_on_at_the_newer_one(pair: Stage) -> None:
    source = pair.folder / "large.bin"
    random_file(source, 32 * MIB)
    first = pair.receive()
    sender = pair.send(source, "--limit", "4M")
    until_bytes(first, 4 * MIB)
    second = pair.receive()
    status, events = end_of(first)
    assert status == 4
    assert f"what arrived is kept in {pair.inbox}; it goes on when a receive into" in events[-1]["message"]
    assert second.wait_for("resumed")["have_bytes"] > 0
    sender.stop()


def test_a_chat_is_displaced_by_a_copy_of_the_home(pair: Stage) -> None:
    """The end with the larger key is the one that waits under a name at the server."""
    ends = [("alice", pair.alice, "bob"), ("bob", pair.bob, "alice")]
    who, home, peer = max(ends, key=lambda end: Home(end[1]).identity().id.digest)
    first = pair.program(who, home, "chat", peer, "--stay")
    first.wait_for("note")
    copy = pair.folder / "copy"
    shutil.copytree(home, copy)
    pair.program(who, copy, "chat", peer, "--stay").wait_for("note")
    status, events = end_of(first)
    assert (status, events[-1]["event"], events[-1]["code"]) == (4, "error", "E_REPLACED")
    assert f"the chat with {peer} was started again with the key of this machine" in events[-1]["message"]
    assert "lines that wait are kept here" in events[-1]["message"]
