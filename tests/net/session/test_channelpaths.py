"""Channels on paths that come and go: which path is said to carry the data."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from p2pxfer.core.codec import Message
from p2pxfer.core.session.channels import Channels
from p2pxfer.net.session.channelpaths import ChannelPaths
from p2pxfer.net.session.path import PathFacts
from p2pxfer.net.session.pathset import STILL_S, PathSet
from p2pxfer.status import Event, Path, PathKind


class Wire:
    """One end of a path; what it was given waits in ``sent`` until it is :meth:`brought`."""

    rtt = 0.02
    began = 0.0
    writable = True

    def __init__(self, number: int, kind: PathKind) -> None:
        self.facts = PathFacts(number, kind, "", "")
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)


class End:
    """One process."""

    def __init__(self, clock: Clock, parity: Any) -> None:
        self.told: list[Event] = []
        self.core = Channels(bytes([parity]) * 16, parity)
        self.paths = PathSet(clock.seconds, self.told.append)
        self.failed: list[Exception] = []
        self.link = ChannelPaths(clock, self.core, self.paths, lambda event: None, lambda: None, self.failed.append)

    def up(self, wire: Any) -> None:
        self.paths.add(wire)
        self.link.open_path(wire)

    @property
    def active(self) -> list[str]:
        return [event.path for event in self.told if isinstance(event, Path) and event.state == "active"]


class Pair:
    """Two ends."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.alice, self.bob = End(self.clock, 0), End(self.clock, 1)
        self.wires: dict[str, tuple[Any, Any]] = {}

    def up(self, number: int, kind: PathKind) -> None:
        self.wires[kind] = Wire(number, kind), Wire(number, kind)
        self.alice.up(self.wires[kind][0])
        self.bob.up(self.wires[kind][1])
        self.bring(kind)

    def bring(self, kind: PathKind) -> None:
        """Everything that is under way on this path, and what comes of it there, arrives."""
        mine, theirs = self.wires[kind]
        while mine.sent or theirs.sent:
            for source, target, end in ((mine, theirs, self.bob), (theirs, mine, self.alice)):
                messages, source.sent = source.sent, []
                for message in messages:
                    end.link.message(target, message)
            self.clock.advance(0)


@pytest.fixture
def pair() -> Pair:
    made = Pair()
    made.up(1, "relay")
    return made


def test_what_a_path_brings_again_does_not_make_it_the_one_that_carries(pair: Pair) -> None:
    """What the relay had not delivered when a better path came up was sent there once more."""
    number = pair.alice.core.open("pipe")
    pair.alice.link.flush()
    pair.bring("relay")
    pair.bob.core.accept(number)
    pair.bob.link.flush()
    pair.bring("relay")
    pair.alice.core.write(number, b"x" * 100_000)
    pair.alice.link.flush()  # and the relay is slow
    pair.up(2, "direct")
    pair.bring("direct")
    assert pair.bob.active == ["direct"]
    pair.clock.advance(2 * STILL_S)
    pair.bring("relay")
    assert pair.bob.active == ["direct"]
    assert pair.alice.active == ["relay", "direct"]
    assert pair.bob.paths.bytes_by_path == {"direct": 100_000, "relay": 100_000}
    assert not pair.alice.failed + pair.bob.failed
