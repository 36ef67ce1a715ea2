"""Files within a chat come only from whom the user lets, and only as far as the user has said yes."""

from __future__ import annotations

import signal

import pytest

from tests.chats import ChatEnd
from tests.e2e.conftest import MIB, Stage, names_in, wait_until
from tests.scene import events_of, file_hash, last, random_file

pytestmark = pytest.mark.deadline(240)


@pytest.fixture
def room(room: Stage) -> Stage:
    random_file(room.folder / "letter.bin", 100_000)
    return room


def test_a_contact_that_is_denied_files_sends_none_in_a_chat(room: Stage) -> None:
    alice = ChatEnd(room, "alice", "--to", room.inbox)
    bob = ChatEnd(room, "bob", "--commands")
    bob.waits_for("alice is here")
    assert room.run("contacts", "deny", "bob", "files").status == 0
    bob.say(f"/send {room.folder / 'letter.bin'}")
    bob.waits_for("not sent: ")
    assert "takes no files from you" in bob.said()
    assert names_in(room.inbox) == []
    # Asked each time: what is allowed again works at once.
    assert room.run("contacts", "allow", "bob", "files").status == 0
    bob.say(f"/send {room.folder / 'letter.bin'}")
    bob.waits_for("done: 1 file")
    assert names_in(room.inbox) == ["letter.bin"]
    bob.say("/quit")
    bob.ends(0)
    alice.finish()


def test_files_wait_both_ways_until_the_words_were_compared(room: Stage) -> None:
    random_file(room.folder / "reply.bin", 100_000)
    there = room.folder / "there"
    there.mkdir()
    alice = ChatEnd(room, "alice", "--verify", "--commands", "--to", room.inbox)
    alice.say(f"/send {room.folder / 'reply.bin'}")
    alice.waits_for("files wait until the words were compared")
    bob = ChatEnd(room, "bob", "--commands", "--to", there)
    bob.say(f"/send {room.folder / 'letter.bin'}")
    bob.waits_for("letter.bin")  # sent or waiting, by whether the chat stands there already
    alice.waits_for("compare by voice")
    # The answer to this comes over the same connection as the words, so whatever was let through had its chance.
    bob.say("/verify")
    bob.waits_for("compare by voice")
    assert "sending" not in alice.said()
    assert names_in(room.inbox) == names_in(there) == []
    alice.say("/same")
    alice.waits_for("saved letter.bin")
    bob.waits_for("saved reply.bin")
    alice.say("/quit")
    alice.ends(0)
    bob.say("/quit")
    bob.ends(0)


def test_the_end_of_the_input_waits_for_the_file_that_is_sent(room: Stage) -> None:
    bob = ChatEnd(room, "bob", "--commands")
    bob.say("here it comes", f"/send {room.folder / 'letter.bin'}")
    bob.finish()
    alice = ChatEnd(room, "alice", "--to", room.inbox)
    said = bob.ends(0)
    assert "done: 1 file" in said
    alice.waits_for("saved letter.bin")
    assert alice.heard() == ["here it comes"]
    alice.finish()


def test_a_file_that_was_not_sent_is_no_success(room: Stage) -> None:
    alice, bob = ChatEnd(room, "alice", "--accept", "none"), ChatEnd(room, "bob", "--commands")
    bob.say("here it comes", f"/send {room.folder / 'letter.bin'}")
    bob.finish()
    assert "takes no files from you" in bob.ends(4)
    alice.finish()


def test_a_file_that_nobody_takes_ends_with_the_timeout(room: Stage) -> None:
    bob = ChatEnd(room, "bob", "--commands", "--timeout", "1")
    alice = ChatEnd(room, "alice", "--accept", "ask")
    bob.say("here it comes", f"/send {room.folder / 'letter.bin'}")
    alice.waits_for("/accept or /refuse")
    bob.finish()
    assert "a file is not sent within 1 seconds" in bob.ends(75)
    alice.finish()


def test_a_chat_that_is_stopped_in_the_middle_of_a_file_is_called_by_its_users_name(room: Stage) -> None:
    """And whoever sends need not do anything for the file to go on."""
    random_file(room.folder / "large.bin", 300 * MIB)
    alice, bob = ChatEnd(room, "alice", "--to", room.inbox), ChatEnd(room, "bob", "--commands")
    bob.say(f"/send {room.folder / 'large.bin'}")
    wait_until(lambda: any(path.stat().st_size > 8 * MIB for path in room.inbox.glob(".p2pxfer-*/tree/*")))
    alice.child.send_signal(signal.SIGINT)
    bob.waits_for("alice was stopped there")
    assert "it goes on by itself while this chat is open" in bob.said()
    assert "chatfile-" not in bob.said()
    ChatEnd(room, "alice", "--to", room.inbox).waits_for("saved large.bin")
    bob.waits_for("done: 1 file")


def test_a_file_that_is_cut_in_a_chat_is_a_job_of_both_and_goes_on_as_one(room: Stage) -> None:
    """The chats end in the middle of it; both sides list it, say how it goes on, and it does, without a chat."""
    large = room.folder / "large.bin"
    digest = random_file(large, 300 * MIB)
    alice, bob = ChatEnd(room, "alice", "--to", room.inbox), ChatEnd(room, "bob", "--commands")
    bob.say(f"/send {large}")
    wait_until(lambda: any(path.stat().st_size > 8 * MIB for path in room.inbox.glob(".p2pxfer-*/tree/*")))
    bob.child.send_signal(signal.SIGINT)
    sent = bob.ends(130)
    alice.waits_for("bob has left: ")
    assert "large.bin (1 file, 300.0 MiB) from bob comes" in alice.said()
    alice.child.send_signal(signal.SIGINT)
    received = alice.ends(130)
    ((sending,), (coming,)) = (room.run("jobs", home=home, as_json=True).events for home in (room.bob, room.alice))
    assert "of 300.0 MiB of large.bin are kept there; they go on when you send it again" in sent
    assert f"p2pxfer jobs resume {sending['job']} while alice receives into the same directory" in sent
    assert f"of 300.0 MiB of large.bin from bob are kept in {room.inbox}; they go on when bob sends it" in received
    assert f"p2pxfer jobs resume {coming['job']} runs here" in received
    for job, direction, peer in ((sending, "send", "alice"), (coming, "receive", "bob")):
        assert (job["direction"], job["peer"], job["state"], job["names"]) == (direction, peer, "cut", ["large.bin"])
        assert 0 < job["bytes"] < job["total"] == 300 * MIB
    assert coming["where"] == str(room.inbox)
    receiving = room.program("bob", room.alice, "jobs", "resume", coming["job"])
    receiving.wait_for("registered")
    events = events_of(room.program("alice", room.bob, "jobs", "resume", sending["job"]))
    assert last(events, "resumed")["have_bytes"] >= sending["bytes"]
    receiving.succeed(60)
    assert file_hash(room.inbox / "large.bin") == digest
    assert [room.run("jobs", home=home, as_json=True).events for home in (room.bob, room.alice)] == [[], []]
