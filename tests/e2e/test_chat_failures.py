"""Chats in which something fails: no line is lost, and what failed is said."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from pathlib import Path

import pytest

from scripts.product import BIN
from tests.chats import ChatEnd
from tests.e2e.conftest import Stage, check_failure, mounted, needs_mounts

pytestmark = pytest.mark.deadline(240)


def test_lines_that_a_program_did_not_read_come_again(room: Stage) -> None:
    """The reader of the events goes away: what could not be written has no receipt."""
    command: list[str | Path] = [
        BIN / "p2pxfer",
        "--json",
        "--server",
        room.address,
        "--home",
        room.alice,
        "chat",
        "bob",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as alice:
        room.callback(alice.kill)
        bob = ChatEnd(room, "bob")
        assert alice.stdout is not None and alice.stdin is not None
        bob.say("zero")
        while b'"zero"' not in alice.stdout.readline():
            assert alice.poll() is None
        alice.stdout.close()
        bob.say("one", "two")
        alice.wait(60)
    again = ChatEnd(room, "alice")
    again.wait_heard(2, 20)
    assert again.heard() == ["one", "two"]
    bob.finish()
    bob.ends(0)
    again.finish()


def test_words_that_are_compared_in_a_chat_that_runs_disturb_nothing(room: Stage) -> None:
    alice, bob = ChatEnd(room, "alice", "--commands"), ChatEnd(room, "bob", "--commands")
    bob.waits_for("alice is here")
    alice.waits_for("bob is here")
    alice.say("/verify")
    alice.waits_for("yes, or /same, if")
    bob.waits_for("/same if")
    alice.say("/same", "/same", "after")
    bob.wait_heard(1)
    alice.say("/quit")
    alice.ends(0)
    assert alice.said().count("bob is here") == 1
    assert bob.heard() == ["after"]
    bob.say("/quit")
    bob.ends(0)


def test_a_pipe_whose_lines_nobody_takes_ends_with_the_timeout(room: Stage) -> None:
    alice = ChatEnd(room, "alice", "--timeout", "1")
    alice.say(*map(str, range(300)))
    assert "256 wait, and what the input has beyond them is not kept" in alice.ends(75)
    alice.finish()
    ChatEnd(room, "alice").waits_for("256 earlier lines are waiting")


def test_commands_go_on_while_too_many_lines_wait(room: Stage) -> None:
    alice = ChatEnd(room, "alice", "--commands")
    alice.say(*map(str, range(257)), "/dance")
    alice.waits_for("256 lines wait for bob; this one was not taken")
    alice.waits_for("there is no command /dance")
    alice.say("/quit")
    alice.ends(0)


def nowhere(room: Stage) -> str:
    """The address of a server that does not run: that of the room at the port of discard."""
    return re.sub(r":\d+", ":9", room.address)


def test_without_a_server_the_lines_of_a_program_are_kept(room: Stage) -> None:
    """The server is away as the peer may be: who pipes a line into a chat does not type it again."""
    said = room.run("chat", "bob", server=nowhere(room), typed="important line\nanother\n")
    check_failure(said, 75, "2 lines for bob kept, and the next chat delivers them; the server at 127.0.0.1:")
    alice, bob = ChatEnd(room, "alice"), ChatEnd(room, "bob")
    bob.wait_heard(2)
    assert bob.heard() == ["important line", "another"]
    for end in (alice, bob):
        end.finish()
        end.ends(0)


def test_without_a_server_nothing_is_kept_of_an_empty_input(room: Stage) -> None:
    check_failure(room.run("chat", "bob", server=nowhere(room), typed=""), 3, "cannot be reached")


def test_without_a_server_an_input_that_does_not_end_is_kept_until_the_timeout(
    room: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "address", nowhere(room))
    alice = ChatEnd(room, "alice", "--timeout", "1")
    alice.say("important line")
    assert "1 line for bob kept, and the next chat delivers it; what the input has beyond is not kept" in alice.ends(75)


def test_without_a_server_commands_are_obeyed_that_need_none(room: Stage) -> None:
    said = room.run("chat", "bob", "--commands", server=nowhere(room), typed="hello\n/send x\n/quit\nlost\n")
    assert said.status == 75
    assert "1 line for bob kept" in said.err.splitlines()[-1]


@needs_mounts
def test_lines_that_a_full_disk_did_not_take_are_called_lost(room: Stage) -> None:
    lost = "1 line for bob is lost: not delivered, and the disk does not take it (No space left on device)"
    with mounted(room.alice / "chats", "size=64k") as disk:
        assert room.run("chat", "bob", "--timeout", "1", typed="of before\n").status == 75
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass
        kept = f"{lost}; 1 line kept, and delivered by the next chat"
        check_failure(room.run("chat", "bob", "--timeout", "1", typed="new\n"), 8, kept)
        check_failure(room.run("chat", "bob", "--commands", typed="new\n/quit\n"), 8, kept)
        check_failure(room.run("chat", "bob", server=nowhere(room), typed="new\n"), 8, f"{kept}; the server at ")
        alice = ChatEnd(room, "alice")
        alice.say("new")
        alice.waits_for("cannot be kept on the disk")
        alice.child.send_signal(signal.SIGINT)
        assert f"interrupted; {kept}" in alice.ends(130)
