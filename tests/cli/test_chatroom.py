"""The run of a chat on a clock of its own: what is shown, and what a typed line then means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from p2pxfer.cli.chatmanners import Manners
from p2pxfer.cli.chatroom import ChatRoom
from p2pxfer.cli.chatwaiting import ALONE_S, ChatWaiting
from p2pxfer.cli.settings import Global
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.ids import PeerId
from p2pxfer.core.session.channel import Gone
from p2pxfer.core.session.conversation import Delivered, Heard, Line
from p2pxfer.errors import IdentityMismatch, P2pxferError, ProtocolBreach
from p2pxfer.net.private.contactfile import How
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.services.chatstore import ChatStore
from p2pxfer.net.services.chatting import Stage
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.status import Offer
from tests.net.machines import machine_at
from tests.net.reactors import Threads, time_only

KEY = bytes(range(32))


class Room:
    """A chat with bob over a connection that shows words; without its input, and never begun."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads = Threads()
        home = self.home = Home(folder / "home")
        home.add_contact(Contact("bob", PeerId(KEY), "code", "2026-01-01"))
        manners = Manners(str(folder), "ask", False, True, False, True, 1.0)
        options = Global(None, None, False, 0)
        self.chat = ChatRoom(options, ChatStore(home.path, KEY), KnownPeer(KEY, "bob", "contact"), manners)
        self.chat._make(machine_at(home, self.threads))
        monkeypatch.setattr(self.chat._chatting, "compare", lambda: ("a", "b"))

    def answer(self, text: str) -> str:
        return self.chat._words.answer(text)

    def contact(self, contact: Contact) -> None:
        """Bob is this one, and no other."""
        self.home.remove_contact("bob")
        self.home.add_contact(contact)

    def peer_ends(self, error: P2pxferError) -> None:
        """Bob ends the channel with this."""
        chatting: Any = self.chat._chatting
        chatting._session = SimpleNamespace(link=None)
        chatting._event(Gone(1, error))
        self.chat._talk_ended(Failure(chatting._ended.result))
        self.threads.advance(0)

    def verify(self) -> None:
        self.chat._chat_commands.run("/verify")


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    made = Room(tmp_path, monkeypatch)
    yield made
    made.chat._screen.close()
    made.chat._store.close()


def test_a_yes_answers_about_words_that_were_shown_last(room: Room) -> None:
    room.verify()
    assert room.answer("yes") == "/same"


def test_a_yes_that_may_be_meant_for_the_name_of_a_file_is_no_answer(
    room: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    """The peer chooses what a file is called, and when it offers one."""
    room.verify()
    room.chat._files.decide("bob", Offer(1, 3000, ("is that you? (yes or no).txt",)))
    assert "is that you? (yes or no).txt" in capsys.readouterr().err
    assert room.answer("yes") == "yes"
    room.verify()
    assert room.answer("yes") == "yes"
    assert room.chat._files.answer(False)
    room.verify()
    assert room.answer("yes") == "/same"


@pytest.mark.parametrize("event", [Heard(Line(b"1" * 16, "is that you?", 1)), Delivered(Line(b"1" * 16, "hello", 1))])
def test_a_yes_behind_what_came_is_no_answer(room: Room, event: Any) -> None:
    room.chat._terminal = True
    room.verify()
    room.chat.chat_event(event)
    assert room.answer("yes") == "yes"


def test_a_delivered_line_is_shown_as_it_was_typed(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    room.chat._terminal = True
    room.chat.chat_event(Delivered(Line(b"1" * 16, "h\u00e4llo \x1b[2J \u202e" + "x" * 40, 1)))
    assert "delivered: 'h\u00e4llo \\x1b[2J \\u202exxx" in capsys.readouterr().err


def test_a_yes_behind_the_end_of_the_channel_is_no_answer(room: Room) -> None:
    room.verify()
    room.chat._chatting._stage = Stage.STANDING
    room.chat._chatting._detach(Stage.GONE)
    assert room.answer("yes") == "yes"


@pytest.mark.parametrize("before", ["id", "code"])
def test_a_yes_is_withdrawn_where_the_other_one_says_that_the_words_differ(
    room: Room, capsys: pytest.CaptureFixture[str], before: How
) -> None:
    stood = Contact("bob", PeerId(KEY), before, "2026-01-01", frozenset({Right.CHAT}))
    room.contact(stood)
    room.verify()
    room.chat._chat_commands.run("/same")
    assert [each.verified for each in room.home.contacts()] == ["words"]
    room.peer_ends(IdentityMismatch("the words that were compared differ"))
    assert room.home.contacts() == [stood]
    assert "bob is not verified by words any more" in capsys.readouterr().err
    outcome: Any = room.chat._outcome.result
    assert isinstance(outcome, IdentityMismatch)
    assert "between this machine and bob. Remove the contact and pair again" in outcome.message


def test_words_of_an_earlier_chat_and_other_ends_withdraw_nothing(room: Room) -> None:
    room.contact(Contact("bob", PeerId(KEY), "words", "2026-01-01"))
    room.peer_ends(IdentityMismatch("the words that were compared differ"))
    assert [each.verified for each in room.home.contacts()] == ["words"]


def test_an_end_for_another_reason_withdraws_no_yes(room: Room) -> None:
    room.verify()
    room.chat._chat_commands.run("/same")
    room.peer_ends(ProtocolBreach("a frame was malformed"))
    assert [each.verified for each in room.home.contacts()] == ["words"]


def test_a_yes_that_cannot_be_withdrawn_is_said_and_the_chat_ends(
    room: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    room.verify()
    room.chat._chat_commands.run("/same")
    (room.home.path / "contacts.json").write_text("{")
    room.peer_ends(IdentityMismatch("the words that were compared differ"))
    assert "bob stays verified by words" in capsys.readouterr().err
    assert isinstance(room.chat._outcome.result, IdentityMismatch)


def test_no_after_yes_withdraws_the_yes(room: Room) -> None:
    room.verify()
    for each in ("/same", "/differ"):
        room.chat._chat_commands.run(each)
    assert [each.verified for each in room.home.contacts()] == ["code"]


def test_a_peer_that_does_not_come_is_waited_for_aloud_once() -> None:
    threads = Threads()
    said: list[str] = []
    ChatWaiting(time_only(threads), "bob", said.append).begin()
    threads.pump([ALONE_S] * 5)
    assert said == ["no connection with bob yet; what is said is delivered when there is one"]


def test_a_chat_that_ends_in_its_first_second_waits_for_nobody() -> None:
    threads = Threads()
    said: list[str] = []
    waiting = ChatWaiting(time_only(threads), "bob", said.append)
    waiting.begin()
    waiting.stop()
    waiting.stop()
    assert not threads.getDelayedCalls()
    waiting.begin()
    assert not threads.getDelayedCalls() and not said


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (0, ""),
        (1, "; 1 earlier line is waiting to be delivered"),
        (2, "; 2 earlier lines are waiting to be delivered"),
    ],
)
def test_the_greeting_comes_before_bob_and_before_the_input(
    room: Room, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kept: int, says: str
) -> None:
    """Where bob is here already he comes while this side still registers for the files."""
    chat: Any = room.chat
    for number in range(kept):
        chat._conversation.say(Line(bytes([number]) * 16, "of before", 1))

    async def bob_is_here(client: object) -> None:
        chat.say("of now")
        chat.chat_here(True)
        chat.end(None)

    monkeypatch.setattr(chat._chatting, "run", bob_is_here)
    monkeypatch.setattr(chat._files, "start", AsyncMock())
    monkeypatch.setattr(chat._typing, "take", lambda: None)
    monkeypatch.setattr(chat._typing, "read", lambda: None)
    monkeypatch.setattr(chat, "_close", AsyncMock())
    monkeypatch.setattr(chat, "_machine", Mock())
    monkeypatch.setattr(chat, "_make", lambda machine: Mock(start=AsyncMock(), leave=AsyncMock(), failed=Deferred()))
    ran = Deferred.fromCoroutine(chat.run(None))
    while not ran.called:
        room.threads.advance(0)
        if not ran.called:
            room.threads.wait()
    assert ran.result is None
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [f"chat with bob{says}; /help names the commands", "bob is here"]
