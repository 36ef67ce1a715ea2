"""A question whose sender was killed goes away in seconds; one whose sender may come back stays."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.errors import P2pxferError, Unreachable
from p2pxfer.net.connection.liveness import PacketsLost
from p2pxfer.net.connection.streams import Closed
from p2pxfer.net.connection.tls import Vanished
from p2pxfer.net.transfer.undecided import GONE_S, TALKED_S, Undecided

KILLED = Vanished("the connection ended: the other end went away")


class Brought:
    """A transfer that is asked about."""

    def __init__(self) -> None:
        self.attached = 0
        self.abandoned = False

    def abandon(self) -> None:
        self.abandoned = True


class Path:
    """A path that heard something so many seconds ago."""

    def __init__(self, quiet_for: float = 0.0) -> None:
        self.quiet_for = quiet_for


class World:
    """One open question, its sender gone from the network, and this side registered."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.place: object | None = object()
        self.met: list[float] = []
        self.undecided = Undecided(
            self.clock, lambda: self.place, lambda since: any(moment >= since for moment in self.met)
        )
        self.brought = Brought()
        self.answer: Deferred[bool] = Deferred()
        self.asking = Deferred.fromCoroutine(self.undecided.ask(self.brought, self.answer))

    def lose(self, error: P2pxferError = KILLED, quiet_for: float = 0.0) -> None:
        path: Any = Path(quiet_for)
        self.undecided.lost(self.brought, path, error)

    def gone(self) -> bool:
        """Whether that is known after the time for it."""
        self.clock.advance(GONE_S)
        return self.brought.abandoned


@pytest.fixture
def world() -> World:
    return World()


def test_a_sender_that_was_killed_is_not_waited_for(world: World) -> None:
    world.lose()
    world.clock.advance(GONE_S - 0.1)
    assert not world.brought.abandoned
    world.clock.advance(0.1)
    assert world.brought.abandoned


@pytest.mark.parametrize(
    ("error", "quiet_for"),
    [
        (PacketsLost("nothing arrives"), 0.0),
        (Unreachable("the peer is silent"), 20.0),
        (KILLED, TALKED_S),
        (Closed("closed in order"), 0.0),
    ],
    ids=["its NAT forgot it", "it is silent", "the relay ends what was silent before", "its program closed it"],
)
def test_a_sender_that_may_be_on_its_way_to_another_network_has_its_time(
    world: World, error: P2pxferError, quiet_for: float
) -> None:
    world.lose(error, quiet_for)
    assert not world.gone()


def test_what_another_path_carries_stays(world: World) -> None:
    world.brought.attached = 1
    world.lose()
    assert not world.gone()


def test_what_comes_back_in_time_stays(world: World) -> None:
    world.lose()
    world.clock.advance(GONE_S / 2)
    world.brought.attached = 1
    assert not world.gone()


def test_a_sender_that_asks_to_be_met_is_waited_for_until_it_does_no_more(world: World) -> None:
    world.lose()
    for _ in range(3):
        world.clock.advance(1)
        world.met.append(world.clock.seconds())
        world.clock.advance(GONE_S - 1)
        assert not world.brought.abandoned
    assert world.gone()


def test_a_meeting_of_before_says_nothing(world: World) -> None:
    world.met = [world.clock.seconds()]
    world.clock.advance(1)
    world.lose()
    assert world.gone()


def test_without_the_server_nobody_can_tell(world: World) -> None:
    """Its end ends the relayed paths too."""
    world.lose()
    world.place = None
    world.clock.advance(1)
    world.place = object()  # registered again, perhaps before the sender
    assert not world.gone()


def test_who_was_not_registered_cannot_tell_either(world: World) -> None:
    world.place = None
    world.lose()
    assert not world.gone()


def test_what_was_accepted_waits_for_its_sender(world: World) -> None:
    world.answer.callback(True)
    world.lose()
    assert not world.gone()
    assert world.asking.result is True


def test_what_is_accepted_meanwhile_does_too(world: World) -> None:
    world.lose()
    world.answer.callback(True)
    assert not world.gone()


def test_a_program_that_ends_looks_no_more(world: World) -> None:
    world.lose()
    world.undecided.close()
    assert world.clock.getDelayedCalls() == []
