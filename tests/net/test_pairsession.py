"""Whom a session between two contacts meets, when it gives up, and what its end looks like."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.core.channel import ChannelEvent
from p2pxfer.core.channelwire import Attach, Open
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import Introduction
from p2pxfer.core.names import check_name
from p2pxfer.core.wire import Bye, Problem
from p2pxfer.errors import IdentityMismatch, Incomplete, P2pxferError, ProtocolBreach, Unreachable
from p2pxfer.net import pairsession as module
from p2pxfer.net.home import Home
from p2pxfer.net.pairsession import MAX_MEETINGS, PairSession, pipe_name
from p2pxfer.net.peercheck import Checkee

LOWEST, HIGHEST = bytes(32), b"\xff" * 32


class FakePath:
    """A path that greeted."""

    rtt = None
    began = 0.0
    peer_name = "bob"
    writable = True

    def __init__(self, number: int, key: bytes) -> None:
        self.facts = SimpleNamespace(number=number, kind="relay", local="", remote="")
        self.peer_key = key
        self.sent: list[Message] = []
        self.closed = False

    def open_session(self) -> None:
        """Nothing to allow."""

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def close(self) -> None:
        self.closed = True


class FakeMeeting:
    """An introduction that waits for the test to bring a path."""

    punching = False

    def __init__(self, reactor: Clock, introduction: Any, party: Any, client: Any, owner: Any) -> None:
        self.introduction, self.party, self.started = introduction, party, reactor.seconds()
        self.paths: list[FakePath] = []
        self.closed = False

    def start(self) -> None:
        """Nothing happens by itself."""

    def close(self) -> None:
        self.closed = True


class FakeClient:
    """A server that is there and has nobody."""

    registered = object()

    def __init__(self) -> None:
        self.taken_up: list[bytes] = []

    def introduced(self, introduction: Introduction) -> None:
        self.taken_up.append(introduction.peer_id)

    def when_registered(self) -> Deferred[None]:
        return Deferred()

    def reconnect(self) -> None:
        """Another connection."""


class Stand:
    """A session with a peer whose key is higher or lower than ours, so that ours asks or waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, key: bytes) -> None:
        monkeypatch.setattr(module, "Meeting", FakeMeeting)
        self.clock = Clock()
        self.key = key
        self.events: list[ChannelEvent] = []
        self.errors: list[P2pxferError] = []
        self.session = PairSession(
            self.clock,  # type: ignore[arg-type]  # nothing is dialled here
            Home(folder).identity(),
            "alice",
            Checkee(key, "bob", "contact"),
            policy="auto",
            gentle=False,
            patience=30.0,
            tell=lambda event: None,
            on_event=self.events.append,
            on_settled=lambda: None,
        )
        self.session.failed.addCallback(self.errors.append)
        self.client: Any = FakeClient()
        self.session.start(self.client)

    def introduce(self, key: bytes, *, initiator: bool = False) -> None:
        self.session.introduced(Introduction(session=bytes(32), initiator=initiator, peer_id=key))

    def path(self, number: int = 1) -> tuple[Any, Any]:
        if not self.session._meetings:
            self.introduce(self.key)
        meeting: Any = self.session._meetings[-1]
        path: Any = FakePath(number, self.key)
        meeting.paths.append(path)
        self.session.path_up(meeting, path)
        return meeting, path


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    stand = Stand(monkeypatch, tmp_path, LOWEST)
    assert not stand.session.asks
    yield stand
    stand.session.close()


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    stand = Stand(monkeypatch, tmp_path, HIGHEST)
    assert stand.session.asks
    yield stand
    stand.session.close()


def test_nobody_but_the_contact_is_met(waiting: Stand, asking: Stand) -> None:
    waiting.introduce(b"x" * 32)
    assert waiting.client.taken_up == []
    waiting.introduce(LOWEST)
    assert waiting.client.taken_up == [LOWEST]
    # Who asks is not asked.
    asking.introduce(HIGHEST)
    assert asking.client.taken_up == []
    with pytest.raises(IdentityMismatch):
        asking.session.meet(Introduction(session=bytes(32), initiator=True, peer_id=b"x" * 32))


def test_introductions_without_end_dial_a_few_times_at_once(waiting: Stand) -> None:
    for _ in range(3 * MAX_MEETINGS):
        waiting.introduce(LOWEST)
    assert len(waiting.client.taken_up) == MAX_MEETINGS


def test_who_never_came_and_who_did_not_come_back(waiting: Stand, asking: Stand) -> None:
    asking.session.not_met(Unreachable("this peer is not here now"))
    asking.clock.advance(31)
    assert [type(error) for error in asking.errors] == [Unreachable]
    assert "bob does not run p2pxfer pipe now" in asking.errors[0].message
    meeting, path = waiting.path()
    waiting.clock.advance(300)
    assert waiting.errors == []
    waiting.session.path_down(meeting, path, Unreachable("lost"))
    waiting.clock.advance(31)
    assert [type(error) for error in waiting.errors] == [Incomplete]


def test_a_breach_ends_the_session_and_is_told(waiting: Stand) -> None:
    _, path = waiting.path()
    waiting.session.path_message(path, Open(number=0, channel=0, service="pipe", credit=1))
    assert [type(error) for error in waiting.errors] == [ProtocolBreach]
    assert [message.word for message in path.sent if isinstance(message, Problem)] == ["E_STATE"]
    # What still comes is not looked at.
    waiting.session.path_message(path, Attach(instance=bytes(16)))
    assert len(waiting.errors) == 1


def test_bye_closes_the_path(waiting: Stand) -> None:
    _, path = waiting.path()
    waiting.session.path_message(path, Bye())
    assert path.closed


def test_the_name_of_a_pipe_is_a_name_and_follows_from_the_key() -> None:
    assert check_name(pipe_name(LOWEST)) == pipe_name(LOWEST)
    assert pipe_name(LOWEST) == "pipe-" + 27 * "a"
    assert pipe_name(LOWEST) != pipe_name(HIGHEST)
