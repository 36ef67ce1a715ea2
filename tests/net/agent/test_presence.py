"""Being there again and again: pauses, what is told, and the end."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.errors import NameTaken, P2pxferError, Replaced, ServerUntrusted, Unreachable
from p2pxfer.net.agent.presence import LATER_S, REPEAT_S, TAKEN_BACK, Presence
from tests.net.reactors import time_only


class Attempts:
    """Attempts that end when the test says so."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[str] = []
        self.begun: list[float] = []
        self.left = 0
        self.now: Deferred[P2pxferError] = Deferred()
        self.leaving: Deferred[None] | None = None
        self.presence = Presence(time_only(self.clock), self._one, self.told.append, draw=lambda: 1.0)
        self.presence.start()

    async def _one(self) -> P2pxferError:
        self.begun.append(self.clock.seconds())
        self.now = Deferred()
        try:
            return await self.now
        finally:
            if self.leaving is not None:
                await self.leaving
            self.left += 1

    def passes(self, seconds: float) -> None:
        self.clock.pump([0.5] * round(seconds * 2))


def test_what_passes_is_tried_again_with_growing_pauses_and_told_once() -> None:
    world = Attempts()
    for number in range(1, 16):
        world.now.errback(Unreachable("nobody is there"))
        while len(world.begun) == number:
            world.passes(0.5)
    pauses = [later - before for before, later in itertools.pairwise(world.begun)]
    assert pauses == sorted(pauses)
    assert 0 < pauses[0] < 2 < pauses[-1] <= 30
    assert world.told == ["nobody is there; trying again"]


def test_that_a_name_was_taken_back_is_told() -> None:
    """Whoever had it meanwhile has ended by that, and its user looks for the cause."""
    world = Attempts()
    world.presence.there()
    world.now.errback(Replaced("registered again from another place"))
    world.passes(LATER_S + 1)
    assert len(world.begun) == 2
    world.presence.there()
    world.presence.there()
    assert world.told[1:] == [TAKEN_BACK]


def seen(world: Attempts) -> tuple[str, float | None]:
    """What the agent's status says of them."""
    return world.presence.trouble, world.presence.again_s


def test_who_asks_is_told_why_and_when_it_is_tried_again() -> None:
    world = Attempts()
    assert seen(world) == ("", None)
    world.now.errback(NameTaken("bob is another key's"))
    why = "bob is another key's; choose another name in agent.toml"
    assert seen(world) == (why, LATER_S)
    world.passes(20)
    assert seen(world) == (why, LATER_S - 20)
    world.passes(LATER_S - 20)
    assert len(world.begun) == 2
    assert seen(world) == (why, None)
    world.presence.there()
    assert seen(world) == ("", None)


@pytest.mark.parametrize("stood", [None, 9.0, 11.0])
def test_only_an_attempt_that_stood_makes_the_pauses_short_again(stood: float | None) -> None:
    """A timeout takes longer than what counts as a connection that worked."""
    world = Attempts()
    pauses: list[float] = []
    for number in range(1, 16):
        world.passes(15)
        if stood is not None:
            world.presence.there()
            world.passes(stood)
        ended = world.clock.seconds()
        world.now.callback(Unreachable("it does not answer"))
        while len(world.begun) == number:
            world.passes(0.5)
        pauses.append(world.begun[-1] - ended)
    assert pauses[-1] == (0.5 if stood == 11.0 else 30.0)


def test_trouble_that_lasts_is_told_again_and_so_is_another_one() -> None:
    world = Attempts()
    while world.clock.seconds() < REPEAT_S + 60:
        world.now.callback(Unreachable("nobody is there"))
        world.passes(31)
    assert world.told == ["nobody is there; trying again"] * 2
    world.now.callback(Unreachable("somebody else is there"))
    assert world.told[2:] == ["somebody else is there; trying again"]
    world.passes(31)
    world.presence.there()
    world.now.callback(Unreachable("somebody else is there"))
    assert len(world.told) == 4


@pytest.mark.parametrize("error", [NameTaken("taken"), Replaced("another one"), ServerUntrusted("a wrong key")])
def test_what_may_last_is_tried_again_later(error: P2pxferError) -> None:
    world = Attempts()
    world.now.errback(error)
    assert world.told[0].startswith(error.message)
    assert world.told[0].endswith(f"trying again in {LATER_S:g} s")
    world.passes(LATER_S - 1)
    assert len(world.begun) == 1
    world.passes(2)
    assert len(world.begun) == 2


def test_a_fault_of_the_program_is_logged_and_is_not_the_end(lost_errors: Any) -> None:
    world = Attempts()
    world.now.errback(ZeroDivisionError("oh"))
    assert world.told == ["a fault inside the program (ZeroDivisionError); trying again"]
    world.passes(2)
    assert len(world.begun) == 2
    assert len(lost_errors.flush(ZeroDivisionError)) == 1


def test_the_end_waits_for_the_attempt_to_leave() -> None:
    world = Attempts()
    world.leaving = Deferred()
    ended: list[object] = []
    Deferred.fromCoroutine(world.presence.stop()).addBoth(ended.append)
    assert (ended, world.left) == ([], 0)
    world.leaving.callback(None)
    assert (ended, world.left) == ([None], 1)
    world.passes(200)
    assert len(world.begun) == 1


def test_the_end_during_a_pause_and_before_the_beginning() -> None:
    world = Attempts()
    world.now.errback(Unreachable("nobody is there"))
    for _ in range(2):
        ended: list[object] = []
        Deferred.fromCoroutine(world.presence.stop()).addBoth(ended.append)
        assert ended == [None]
    world.passes(200)
    assert len(world.begun) == 1
    assert world.clock.getDelayedCalls() == []
