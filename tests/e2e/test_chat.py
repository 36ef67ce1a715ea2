"""`p2pxfer chat` with whole programs: every line once, whoever comes late, is killed, or has a full disk."""

from __future__ import annotations

import json
import re
import signal
import stat
from functools import partial
from pathlib import Path

import pytest

from p2pxfer.core.ids import PeerId
from p2pxfer.core.session.chatwire import MAX_TEXT
from p2pxfer.net.private.home import Home
from tests.chats import ChatEnd
from tests.e2e.acquainting import contacts_of
from tests.e2e.conftest import Stage, check_failure, mounted, names_in, needs_mounts, wait_until
from tests.e2e.terminal import Terminal
from tests.scene import file_hash, random_file

pytestmark = pytest.mark.deadline(240)


def files_of(stage: Stage, home: Path, other: Path) -> Path:
    """Where a home keeps its chat with the other one."""
    return home / "chats" / str(PeerId(Home(other).identity().id.digest))


def both(stage: Stage, *words: str) -> tuple[ChatEnd, ChatEnd]:
    alice, bob = ChatEnd(stage, "alice", *words), ChatEnd(stage, "bob", *words)
    alice.waits_for("bob is here")
    bob.waits_for("alice is here")
    return alice, bob


@pytest.mark.parametrize("path", ["auto", "relay"])
def test_lines_go_both_ways(room: Stage, path: str) -> None:
    alice, bob = both(room, "--path", path)
    alice.say("good morning", "", "what is new?")
    bob.wait_heard(3)
    bob.say("not much, /quit is no command here", "ä€😀")
    alice.wait_heard(2)
    assert bob.heard() == ["good morning", "", "what is new?"]
    assert alice.heard() == ["not much, /quit is no command here", "ä€😀"]
    alice.finish()
    alice.ends(0)
    bob.waits_for("alice has left")
    bob.finish()
    bob.ends(0)


def test_the_history_and_the_outbox_are_private(room: Stage) -> None:
    alice, bob = both(room)
    alice.say("one")
    bob.wait_heard(1)
    for end in (alice, bob):
        end.finish()
    alice.ends(0)
    kept = files_of(room, room.alice, room.bob)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.iterdir()} == {0o600}
    (row,) = [json.loads(line) for line in (kept / "history.jsonl").read_text().splitlines()]
    assert (row["side"], row["text"]) == ("here", "one")
    there = files_of(room, room.bob, room.alice) / "history.jsonl"
    wait_until(there.exists)
    assert "one" in there.read_text()


def test_without_history_nothing_of_what_was_said_stays(room: Stage) -> None:
    assert room.run("init", "--no-history", home=room.bob).status == 0
    alice, bob = ChatEnd(room, "alice", "--no-history"), ChatEnd(room, "bob")
    alice.say("a secret")
    bob.wait_heard(1)
    for end in (alice, bob):
        end.finish()
        end.ends(0)
    for home in (room.alice, room.bob):
        assert not [path for path in home.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    # The setting stays when something else is set, and an option goes before it.
    assert room.run("init", "--as", "bob", home=room.bob).status == 0
    assert not Home(room.bob).settings().history


def test_lines_for_a_peer_that_is_not_there_wait_for_it_also_over_a_restart(room: Stage) -> None:
    alice = ChatEnd(room, "alice", "--timeout", "1")
    alice.say("first", "second")
    alice.finish()
    assert "bob has not taken 2 lines within 1 seconds" in alice.ends(75)
    alice = ChatEnd(room, "alice")
    alice.waits_for("2 earlier lines are waiting to be delivered")
    alice.say("third")
    alice.finish()
    bob = ChatEnd(room, "bob")
    alice.ends(0)
    bob.wait_heard(3)
    assert bob.heard() == ["first", "second", "third"]
    bob.finish()
    bob.ends(0)


def test_who_waits_without_a_terminal_is_told_so_once(room: Stage) -> None:
    alice = ChatEnd(room, "alice")
    alice.say("are you there?")
    alice.waits_for("no connection with bob yet")
    program = room.program("alice", room.bob, "chat", "alice", "--stay")
    program.wait_for("line")
    alice.finish()
    assert alice.ends(0).count("no connection with bob") == 1


def test_programs_are_told_that_it_waits(room: Stage) -> None:
    alice = room.program("alice", room.alice, "chat", "bob", "--stay")
    while "no connection with bob yet" not in alice.wait_for("note")["message"]:
        pass


def holds(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text()


@pytest.mark.parametrize("killed", ["alice", "bob"])
def test_kills_lose_and_double_no_line(room: Stage, killed: str) -> None:
    """Either program is killed again and again while lines go both ways.

    Between showing a line and noting that, no program can do both at once: so the one that is killed may show what it
    showed in that moment once more, and nothing else.
    """
    ends = dict(zip(("alice", "bob"), both(room), strict=True))
    heard: dict[str, list[str]] = {"alice": [], "bob": []}
    said: dict[str, list[str]] = {"alice": [], "bob": []}
    for turn in range(4):
        for role, end in ends.items():
            lines = [f"{role} {turn} {number}" for number in range(20)]
            end.say(*lines)
            said[role] += lines
        # What the killed one was given is kept before it dies, and nothing is known of what it had delivered.
        outbox = files_of(room, getattr(room, killed), room.bob if killed == "alice" else room.alice) / "outbox.json"
        history = outbox.with_name("history.jsonl")
        wait_until(partial(holds, history, f'{killed} {turn} 19"'), 30)
        ends[killed].kill()
        heard[killed] += ends[killed].heard()
        ends[killed] = ChatEnd(room, killed)
    for role, end in ends.items():
        other = "bob" if role == "alice" else "alice"
        end.wait_heard(len(said[other]) - len(heard[role]))
        heard[role] += end.heard()
    survivor = "bob" if killed == "alice" else "alice"
    assert heard[survivor] == said[killed]
    assert list(dict.fromkeys(heard[killed])) == said[survivor]
    assert len(heard[killed]) - len(said[survivor]) <= 4


def test_many_lines_come_whole_and_in_order(room: Stage) -> None:
    lines = [f"{number} {'x' * (number % 300)}" for number in range(5000)]
    alice, bob = both(room)
    for at in range(0, len(lines), 100):
        alice.say(*lines[at : at + 100])
    alice.finish()
    alice.ends(0, 120)
    bob.wait_heard(len(lines))
    assert bob.heard() == lines


def test_two_pipes_that_stay_end_when_both_have_no_more(room: Stage) -> None:
    alice, bob = ChatEnd(room, "alice", "--stay"), ChatEnd(room, "bob", "--stay")
    alice.say("one")
    alice.finish()
    bob.wait_heard(1)
    bob.say("two")
    bob.finish()
    for end in (alice, bob):
        end.ends(0)
    assert alice.heard() == ["two"]


def test_an_input_that_was_empty_listens_where_the_chat_is_to_stay(room: Stage) -> None:
    alice = ChatEnd(room, "alice", "--stay")
    alice.finish()
    bob = ChatEnd(room, "bob")
    bob.say("anybody?")
    bob.finish()
    bob.ends(0)
    alice.ends(0)
    assert alice.heard() == ["anybody?"]


def test_what_the_peer_says_cannot_steer_a_terminal(room: Stage) -> None:
    alice, bob = both(room)
    alice.say("\x1b]0;owned\x07\x1b[2J", "\u202egnp.exe", "a\rb", "\x9b31m", "tab\there")
    bob.wait_heard(5)
    text = bob.out.read_text()
    assert all(line.isprintable() for line in text.splitlines())
    assert text.splitlines()[0] == r"\x1b]0;owned\x07\x1b[2J"
    history = files_of(room, room.bob, room.alice) / "history.jsonl"
    wait_until(lambda: history.exists() and len(history.read_text().splitlines()) == 5)
    assert all(line.isascii() and line.isprintable() for line in history.read_text().splitlines())


def test_a_line_that_is_too_long_is_refused_and_the_rest_goes_on(room: Stage) -> None:
    alice, bob = both(room)
    alice.say("x" * MAX_TEXT, "y" * (MAX_TEXT + 1), "z" * 60_000, "end")
    alice.finish()
    said = alice.ends(9)
    assert said.count(f"at most {MAX_TEXT} characters") == 2
    bob.wait_heard(2)
    assert bob.heard() == ["x" * MAX_TEXT, "end"]


def test_who_may_not_chat(room: Stage) -> None:
    check_failure(room.run("chat", "carol"), 2, "carol is not a contact")
    assert room.run("contacts", "deny", "bob", "chat").status == 0
    check_failure(room.run("chat", "bob"), 4, "bob is denied chat here")
    assert room.run("contacts", "allow", "bob", "chat").status == 0
    check_failure(room.run("chat", "bob", "--to", room.folder / "nowhere"), 2, "does not exist")


def test_a_second_chat_with_the_same_contact(room: Stage) -> None:
    both(room)
    check_failure(room.run("chat", "bob"), 2, "another chat with this contact runs on this machine")


@pytest.mark.parametrize(
    ("content", "says"),
    [('{"schema": 9}', "newer version"), ('{"schema": 1, "lines": [{}]}', "damaged"), ("", "damaged")],
)
def test_an_outbox_that_cannot_be_read_is_left_alone(room: Stage, content: str, says: str) -> None:
    kept = files_of(room, room.alice, room.bob)
    kept.mkdir(parents=True)
    (kept / "outbox.json").write_text(content)
    check_failure(room.run("chat", "bob", typed="hello\n"), 2, says)
    assert (kept / "outbox.json").read_text() == content


@needs_mounts
def test_a_full_disk_is_said_once_and_stops_nothing(room: Stage) -> None:
    with mounted(room.alice / "chats", "size=64k"):
        alice, bob = both(room)
        alice.say("before")
        bob.wait_heard(1)
        (room.alice / "chats" / "filler").write_bytes(b"x" * 20_000)
        with (room.alice / "chats" / "filler").open("ab", buffering=0) as filler:
            try:
                while filler.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        lines = [f"{'long ' * 200}{number}" for number in range(12)]
        alice.say(*lines)
        bob.say(*[f"{'answer ' * 200}{number}" for number in range(12)])
        bob.wait_heard(13)
        alice.wait_heard(12)
        alice.waits_for("cannot be kept on the disk (No space left on device)")
        (room.alice / "chats" / "filler").unlink()
        alice.say("after")
        bob.wait_heard(14)
        # What alice could not note has its receipt now that she can.
        outbox = files_of(room, room.bob, room.alice) / "outbox.json"
        wait_until(lambda: json.loads(outbox.read_text())["lines"] == [], 30)
        alice.finish()
        assert alice.ends(0).count("cannot be kept on the disk") == 1
        bob.child.send_signal(signal.SIGINT)
        bob.ends(130)
    assert bob.heard() == ["before", *lines, "after"]


def test_events_tell_what_became_of_each_line(room: Stage) -> None:
    alice = room.program("alice", room.alice, "chat", "bob", "--stay")
    bob = ChatEnd(room, "bob")
    bob.say("hello \x1b[31m")
    event = alice.wait_for("line")
    assert event == event | {"side": "there", "text": "hello \x1b[31m", "state": "received"}
    bob.finish()
    bob.ends(0)
    alice.succeed(20)


def test_a_terminal_has_marks_and_commands_and_sends_files(room: Stage, terminals: list[Terminal]) -> None:
    source = room.folder / "a photo.bin"
    digest = random_file(source, 300_000)
    alice = Terminal(room, "chat", "bob")
    terminals.append(alice)
    alice.wait_for(re.compile("/help names the commands"))
    alice.type("are you there?")
    alice.wait_for(re.compile("bob is not here; the line waits"))
    bob = ChatEnd(room, "bob", "--to", room.inbox)
    bob.wait_heard(1)
    alice.wait_for(re.compile("delivered: 'are you there"))
    bob.say("yes \x1b[2J")
    alice.wait_for(re.compile(r"\[\d\d:\d\d\] bob: yes \\x1b\[2J"))
    assert "\x1b[2J" not in alice.text
    alice.type(f"/send {source}")
    alice.wait_for(re.compile("done: 1 file"))
    assert file_hash(room.inbox / source.name) == digest
    alice.type("/send /nowhere/at/all")
    alice.wait_for(re.compile("not sent: .*nowhere"))
    alice.type("/dance")
    alice.wait_for(re.compile("there is no command /dance"))
    alice.type("//usr is a directory")
    bob.wait_heard(2)
    assert bob.heard()[1] == "/usr is a directory"
    alice.type("/history")
    alice.wait_for(re.compile("me: are you there"))
    alice.wait_for(re.compile(r"bob: yes \\x1b"))
    alice.type("/quit")
    assert alice.status() == 0, alice.text


WORDS = re.compile(r"compare by voice with (?:bob|alice): ((?:[a-z]+ ){7}[a-z]+)")


def say_yes(end: Terminal) -> None:
    """A plain yes; where something is shown behind the words, such as a path that is lost, they are shown once more."""
    for shown in range(1, 5):
        end.wait_for(WORDS, shown)
        end.type("yes")
        end.wait_for(re.compile(f"is verified by words|{WORDS.pattern}"), shown + 1)
        if "is verified by words" in end.text:
            return
    raise AssertionError(end.text)


def test_words_are_the_same_at_both_ends_and_hold_the_lines_until_then(room: Stage, terminals: list[Terminal]) -> None:
    alice = Terminal(room, "chat", "bob", "--verify")
    terminals.append(alice)
    alice.wait_for(re.compile("/help names"))
    alice.type("for your ears only")
    bob = ChatEnd(room, "bob", "--commands")
    bob.say("who is there?")
    alice.wait_for(WORDS)
    bob.waits_for("compare by voice with alice")
    assert WORDS.findall(alice.text) == WORDS.findall(bob.said())
    assert bob.heard() == []
    assert "who is there?" not in alice.text
    say_yes(alice)
    bob.wait_heard(1)
    alice.wait_for(re.compile("bob: who is there"))
    assert bob.heard() == ["for your ears only"]
    assert contacts_of(room.alice)["bob"][1] == "words"
    assert contacts_of(room.bob)["alice"][1] == "code"
    bob.say("/same", "/quit")
    bob.ends(0)
    assert contacts_of(room.bob)["alice"][1] == "words"
    alice.type("/quit")
    assert alice.status() == 0, alice.text


def test_words_that_differ_end_the_chat_at_both_ends(room: Stage, terminals: list[Terminal]) -> None:
    alice = Terminal(room, "chat", "bob")
    terminals.append(alice)
    bob = ChatEnd(room, "bob", "--commands", "--verify")
    bob.waits_for("no, or /differ, if not")
    alice.wait_for(WORDS)
    alice.type("/same")
    alice.wait_for(re.compile("bob is verified by words"))
    bob.say("/differ")
    assert "the words differ" in bob.ends(5)
    assert alice.status() == 5, alice.text
    assert "the words that were compared differ" in alice.text
    assert "Remove the contact and pair again" in alice.text
    assert contacts_of(room.alice)["bob"][1] == "code"
    assert contacts_of(room.bob)["alice"][1] == "code"
    check_failure(room.run("chat", "bob", "--verify"), 2, "somebody who answers")


def test_an_offer_is_asked_about_and_refused(room: Stage, terminals: list[Terminal]) -> None:
    source = room.folder / "letter.bin"
    digest = random_file(source, 100_000)
    alice = Terminal(room, "chat", "bob", "--accept", "ask", "--to", room.inbox)
    terminals.append(alice)
    bob = ChatEnd(room, "bob", "--commands")
    bob.say(f"/send {source}")
    alice.wait_for(re.compile("take letter.bin .*/accept or /refuse"))
    alice.type("/refuse")
    bob.waits_for("not sent")
    assert names_in(room.inbox) == []
    bob.say(f"/send {source}")
    alice.wait_for(re.compile("take letter.bin .*/accept or /refuse"), 2)
    alice.type("/accept")
    alice.wait_for(re.compile("saved letter.bin"))
    assert file_hash(room.inbox / "letter.bin") == digest
    bob.say("/quit")
    bob.ends(0)


@pytest.mark.parametrize("there", [True, False], ids=["bob is there", "bob is not there"])
def test_an_empty_input_ends_at_once(room: Stage, there: bool) -> None:
    """It says nothing, and nothing waits: `--stay` is for whoever wants to hear the peer."""
    bob = ChatEnd(room, "bob") if there else None
    alice = ChatEnd(room, "alice", "--timeout", "100")
    alice.finish()
    alice.ends(0, 30)
    if bob is not None:
        bob.finish()
        bob.ends(0, 30)


def test_a_chat_that_is_stopped_does_not_say_that_the_peer_has_left(room: Stage) -> None:
    alice, bob = both(room)
    alice.child.send_signal(signal.SIGTERM)
    said = alice.ends(130)
    assert said.endswith("p2pxfer: interrupted; lines that wait are kept\n")
    assert "has left" not in said
    bob.finish()
    bob.ends(0)
