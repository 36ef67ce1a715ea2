"""Files within a chat come only from whom the user lets, and only as far as the user has said yes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chats import ChatEnd
from tests.e2e.conftest import Stage, names_in
from tests.scene import random_file

pytestmark = pytest.mark.deadline(240)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path) as stage:
        stage.start_server()
        stage.make_contacts()
        random_file(stage.folder / "letter.bin", 100_000)
        yield stage


def test_a_contact_that_is_denied_files_sends_none_in_a_chat(room: Stage) -> None:
    alice = ChatEnd(room, "alice", "--to", room.inbox)
    bob = ChatEnd(room, "bob", "--commands")
    bob.wait_said("alice is here")
    assert room.run("contacts", "deny", "bob", "files").status == 0
    bob.say(f"/send {room.folder / 'letter.bin'}")
    bob.wait_said("not sent: ")
    assert "takes no files from you" in bob.said()
    assert names_in(room.inbox) == []
    # Asked each time: what is allowed again works at once.
    assert room.run("contacts", "allow", "bob", "files").status == 0
    bob.say(f"/send {room.folder / 'letter.bin'}")
    bob.wait_said("done: 1 file")
    assert names_in(room.inbox) == ["letter.bin"]
    bob.say("/quit")
    bob.ends(0)
    alice.finish()
