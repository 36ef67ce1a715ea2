"""The channel of a chat in a session whose peer is played by the test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.core.session.channel import Arrived, Asked, Gone
from p2pxfer.core.session.chatwire import SERVICE
from p2pxfer.core.session.conversation import Conversation
from p2pxfer.errors import IdentityMismatch
from p2pxfer.net.services.chatting import LONGEST_PAUSE_S, Chatting
from tests.moments import for_now


class Session:
    """Notes what is said on its channels, and is asked by the peer."""

    asks = False

    def __init__(self, event: Any, settled: Any) -> None:
        self.event, self.settled = event, settled
        self.failed: Deferred[Any] = Deferred()
        self.on_compare: Any = None
        self.said: list[tuple[str, int]] = []
        self.closed = False
        self.channels = SimpleNamespace(
            accept=lambda channel: self.said.append(("accept", channel)),
            reset=lambda channel, error: self.said.append((error.word, channel)),
            consumed=lambda channel, size: self.said.append((f"consumed {size}", channel)),
            room=lambda channel: 0,
        )
        self.link = SimpleNamespace(soon=lambda: None, flush=lambda: None)

    def start(self, client: object) -> None:
        """The peer is there already."""

    async def finish(self) -> None:
        """It ends in good order."""

    leave = finish

    def close(self) -> None:
        self.closed = True


class Chat:
    """A conversation that is being kept up, and what its owner was told."""

    def __init__(self, *, held: bool = False) -> None:
        self.clock = Clock()
        self.sessions: list[Session] = []
        self.told: list[str] = []
        owner: Any = SimpleNamespace(
            chat_stands=lambda: self.told.append("stands"),
            chat_released=lambda: self.told.append("released"),
            chat_here=lambda here: self.told.append("here" if here else "away"),
            chat_parted=lambda: self.told.append("parted"),
            chat_words=None,
        )
        reactor: Any = self.clock
        self.chatting = Chatting(reactor, Conversation(), self._make, owner, lambda: 0.5, held=held)
        client: Any = None
        self.running = Deferred.fromCoroutine(self.chatting.run(client))

    def _make(self, event: Any, settled: Any) -> Any:
        self.sessions.append(Session(event, settled))
        return self.sessions[-1]


@pytest.fixture
def chat() -> Any:
    made = Chat()
    yield made
    made.running.addErrback(lambda _: None)
    made.running.cancel()


def test_after_the_end_of_the_channel_the_session_takes_no_other_one(chat: Chat) -> None:
    """It ends as soon as the peer knows that, and a second channel would end with it."""
    (session,) = chat.sessions
    session.event(Asked(1, SERVICE))
    session.event(Gone(1, None))
    session.event(Asked(3, SERVICE))
    assert session.said == [("accept", 1), ("E_DENIED", 3)]
    assert chat.told == ["here", "parted", "away"]
    session.settled()
    assert session.closed
    chat.clock.advance(LONGEST_PAUSE_S)
    chat.sessions[-1].event(Asked(1, SERVICE))
    assert len(chat.sessions) == 2
    assert chat.told == ["here", "parted", "away", "here"]


def test_a_session_ends_with_its_channel_only(chat: Chat) -> None:
    (session,) = chat.sessions
    session.settled()
    session.event(Asked(1, SERVICE))
    session.settled()
    assert not for_now(session.closed)
    session.event(Gone(1, IdentityMismatch("the words differ")))
    assert session.closed
    assert chat.chatting.denied


def test_what_comes_before_the_words_are_compared_is_consumed_after_that() -> None:
    chat = Chat(held=True)
    (session,) = chat.sessions
    session.event(Asked(1, SERVICE))
    session.event(Arrived(1, b"\0"))
    assert (session.said, chat.told) == ([("accept", 1)], ["stands"])
    chat.chatting.release()
    assert session.said == [("accept", 1), ("consumed 1", 1)]
    assert chat.told == ["stands", "released", "here"]
    assert not chat.chatting.held
    chat.running.addErrback(lambda _: None)
    chat.running.cancel()
    assert chat.told[3:] == ["parted", "away"]
