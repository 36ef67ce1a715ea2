"""A connection whose other end says nothing, or takes nothing: how long it may stand."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from p2pxfer.errors import P2pxferError, Unreachable, WrongCode
from p2pxfer.net.session.path import CLOSE_S, GREETING_S, PathFacts, PeerPath


class Wire:
    """A transport on which nothing ever comes, and nothing ever goes out."""

    disconnecting = False

    def __init__(self) -> None:
        self.resets: list[None] = []

    def write(self, data: bytes) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.resets.append(None)


class Owner:
    """Notes the end of a path."""

    def __init__(self) -> None:
        self.lost: list[P2pxferError] = []

    def path_lost(self, path: PeerPath, error: P2pxferError) -> None:
        self.lost.append(error)


def test_f43_a_connection_on_which_nobody_greets_is_reset_after_ten_seconds() -> None:
    clock, wire, owner = Clock(), Wire(), Owner()
    path = PeerPath(PathFacts(1, "punched", "", ""), cast(Any, None), cast(Any, owner), clock)
    path.transport = cast(Any, wire)
    path.connectionMade()
    clock.advance(GREETING_S - 0.1)
    assert not wire.resets
    clock.advance(0.2)
    assert len(wire.resets) == 1
    (error,) = owner.lost
    assert isinstance(error, Unreachable)
    assert "greet" in error.message
    assert pytest.approx(10.0) == GREETING_S
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("times", [1, 2])
def test_a_path_that_is_refused_is_reset_where_the_peer_takes_nothing(times: int) -> None:
    """Twice, as where a verdict refuses it and whoever asked for that refuses it for the error that comes of it."""
    clock, wire, owner = Clock(), Wire(), Owner()
    path = PeerPath(PathFacts(1, "punched", "", ""), cast(Any, None), cast(Any, owner), clock)
    path.transport = cast(Any, wire)
    for _ in range(times):
        path.refuse(WrongCode("no such code is open"))
    clock.advance(CLOSE_S - 0.1)
    assert not wire.resets
    clock.advance(0.2)
    assert (len(wire.resets), len(owner.lost)) == (1, 1)
    assert not clock.getDelayedCalls()
