"""A session with one peer, without meetings, paths and server: the test says which paths come and are lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.core.codec import Message
from p2pxfer.core.messages import Introduction
from p2pxfer.core.session.channel import ChannelEvent
from p2pxfer.errors import P2pxferError, Unreachable
from p2pxfer.net.private.home import Home
from p2pxfer.net.session import pairsession as module
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.pairsession import PairSession
from p2pxfer.status import Event
from tests.net.machines import machine_at

LOWEST, HIGHEST = bytes(32), b"\xff" * 32


class FakePath:
    """A path that greeted."""

    rtt = None
    began = 0.0
    peer_name = "as it calls itself"
    writable = True

    def __init__(self, number: int, key: bytes, kind: str = "relay") -> None:
        self.facts = SimpleNamespace(number=number, kind=kind, local="", remote="", beside=0)
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
        for path in self.paths:
            path.close()


class FakeClient:
    """A server that is there and has nobody."""

    registered = object()

    def __init__(self) -> None:
        self.taken_up: list[bytes] = []
        self.registering: Deferred[None] = Deferred()

    def introduced(self, introduction: Introduction) -> None:
        self.taken_up.append(introduction.peer_id)

    def when_registered(self) -> Deferred[None]:
        return self.registering

    def reconnect(self) -> None:
        """Another connection."""


class Stand:
    """A session with a peer whose key is higher or lower than ours, so that ours asks or waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, key: bytes) -> None:
        monkeypatch.setattr(module, "Meeting", FakeMeeting)
        self.clock = Clock()
        self.key = key
        self.hear: Callable[[ChannelEvent], None] = lambda event: None
        """The user of the channels; nobody to begin with."""
        self.errors: list[P2pxferError] = []
        self.told: list[Event] = []
        self.session = PairSession(
            machine_at(Home(folder), self.clock, patience=30.0, tell=self.told.append),
            KnownPeer(key, "bob", "contact"),
            on_event=self._hear,
            on_settled=lambda: None,
        )
        self.session.failed.addCallback(self.errors.append)
        client: Any = FakeClient()
        self.client = client
        self.session.start(client)

    def _hear(self, event: ChannelEvent) -> None:
        self.hear(event)

    def introduce(self, key: bytes, *, initiator: bool = False) -> None:
        self.session.introduced(Introduction(session=bytes(32), initiator=initiator, peer_id=key))

    def meet(self) -> Any:
        """One more meeting; ``None`` if the introduction was not taken up."""
        before = list(self.session._meetings)
        introduction = Introduction(session=bytes(32), initiator=self.session.asks, peer_id=self.key)
        if self.session.asks:
            self.session.meet(introduction, beside=False)
        else:
            self.session.introduced(introduction)
        return next((meeting for meeting in self.session._meetings if meeting not in before), None)

    def path(self, number: int = 1, kind: str = "relay") -> tuple[Any, Any]:
        meeting: Any = self.session._meetings[-1] if self.session._meetings else self.meet()
        path: Any = FakePath(number, self.key, kind)
        meeting.paths.append(path)
        self.session.path_up(meeting, path)
        return meeting, path

    def lose(self, meeting: Any, path: Any) -> None:
        meeting.paths.remove(path)
        self.session.path_down(meeting, path, Unreachable("reset"))
