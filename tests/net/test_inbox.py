"""What an inbox makes of paths that come when their transfer is over."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from p2pxfer.core.codebook import CodeBook
from p2pxfer.core.wire import Bye, Offer
from p2pxfer.errors import Unreachable
from p2pxfer.net.home import Home
from p2pxfer.net.inbox import Inbox, Known

KEY = bytes(32)
NUMBER = bytes([1]) * 32
OFFER = Offer(handle=1, transfer=NUMBER, files=1, size=15, manifest_size=10)


class FakePath:
    """A path of the one peer."""

    peer_name = "alice"
    peer_key = KEY
    rtt = None
    began = 0.0

    def __init__(self, number: int, kind: str) -> None:
        self.facts = SimpleNamespace(number=number, kind=kind, local="", remote="")
        self.closed = False

    def open_session(self) -> None:
        """Nothing to allow."""

    def close(self) -> None:
        self.closed = True


class FakeTransfer:
    """A transfer that is over as soon as it is confirmed."""

    number = NUMBER

    def __init__(self, reactor: Clock) -> None:
        self._reactor = reactor
        self.confirmed: float | None = None
        self.published = True
        self.abandoned = False
        self.heard: list[object] = []

    @property
    def over(self) -> bool:
        return self.confirmed is not None

    def message(self, path: object, message: object) -> None:
        self.heard.append(message)

    def confirm(self) -> None:
        if self.published:
            self.confirmed = self._reactor.seconds()

    def close_path(self, path: object) -> None:
        """Nothing is missed."""

    def abandon(self) -> None:
        self.abandoned = True


class World:
    """An inbox whose transfers are fakes, and one meeting with the peer."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        owner: Any = SimpleNamespace(known=lambda key: Known("alice", "contact"))
        me = Home(tmp_path / "home").identity()
        clock: Any = self.clock
        self.inbox = Inbox(
            clock, me, "bob", str(tmp_path), "contacts", CodeBook(), owner, lambda event: None, gentle=False
        )
        self.begun: list[FakeTransfer] = []
        monkeypatch.setattr(self.inbox, "_begin", self._begin)
        self.meeting: Any = SimpleNamespace(started=0.0, party=SimpleNamespace(peer_key=KEY))
        self.inbox._session(KEY).known = Known("alice", "contact")
        self.clock.advance(1.0)

    def _begin(self, session: Any, path: object, number: bytes) -> FakeTransfer:
        transfer = FakeTransfer(self.clock)
        session.transfers[number] = transfer
        self.begun.append(transfer)
        return transfer

    def offer(self, path: Any) -> None:
        self.inbox.path_up(self.meeting, path)
        self.inbox.path_message(path, OFFER)

    def end(self, path: Any) -> None:
        self.inbox.path_message(path, Bye())
        self.inbox.path_down(self.meeting, path, Unreachable("closed"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_a_path_that_comes_when_all_is_done_begins_nothing(world: World) -> None:
    """The relay carried a small file and is closed when the direct path of the same meeting offers it again."""
    relay, direct = FakePath(1, "relay"), FakePath(2, "punched")
    world.offer(relay)
    world.end(relay)
    world.clock.advance(0.1)
    world.offer(direct)
    (transfer,) = world.begun
    assert transfer.heard == [OFFER, OFFER]
    world.end(direct)
    assert not transfer.abandoned


def test_the_same_files_in_a_later_meeting_are_another_transfer(world: World) -> None:
    first, second = FakePath(1, "relay"), FakePath(2, "relay")
    world.offer(first)
    world.end(first)
    world.clock.advance(5.0)
    world.meeting.started = world.clock.seconds()
    world.offer(second)
    assert len(world.begun) == 2


def test_a_farewell_before_the_end_leaves_no_lock_behind(world: World) -> None:
    path = FakePath(1, "relay")
    world.offer(path)
    world.begun[0].published = False
    world.end(path)
    assert world.begun[0].abandoned
