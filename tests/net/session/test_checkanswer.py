"""What a receiver does for a contact that checks the network, on a clock of the test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from p2pxfer.core.session.wire import Checked
from p2pxfer.core.traversal.discovery import Inbound
from p2pxfer.errors import ProtocolBreach
from p2pxfer.net.session.checkanswer import FRESH_S, CheckAnswers
from tests.net.reactors import time_only


class Path:
    """A path that notes what is sent on it."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, message: object) -> None:
        self.sent.append(message)


class Meeting:
    """A meeting whose punch ends when the test says so."""

    def __init__(self, *, dial: bool = True, plan: str = "none", tried: str = "") -> None:
        self.introduction = SimpleNamespace(dial=dial)
        self.punch = SimpleNamespace(plan_state=plan, tried=tried)
        self.over: Deferred[None] = Deferred()

    async def decided(self) -> None:
        await self.over


class Discovery:
    """Counts the measurements, which end when the test says so."""

    def __init__(self) -> None:
        self.runs: list[Deferred[Inbound]] = []

    async def settled(self) -> None:
        """Nothing is under way."""

    async def inbound(self) -> Inbound:
        self.runs.append(Deferred())
        return await self.runs[-1]


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.answers = CheckAnswers(time_only(self.clock))
        self.discovery: Any = Discovery()

    def ask(self, path: Any = None, meeting: Any = None, decided: bool = True) -> Any:
        path, meeting = path or Path(), meeting or Meeting()
        if decided:
            meeting.over.callback(None)
        self.answers.asked(path, meeting, self.discovery)
        return path


@pytest.fixture
def world() -> World:
    return World()


def test_the_punch_comes_first(world: World) -> None:
    meeting = Meeting(plan="withheld", tried="many dials were made here lately")
    path = world.ask(meeting=meeting, decided=False)
    assert not world.discovery.runs
    meeting.over.callback(None)
    world.discovery.runs[0].callback(Inbound("port-dependent", "", "no", "", "icmp"))
    assert path.sent == [
        Checked("port-dependent", "", "no", "", "icmp", plan="withheld", against="many dials were made here lately")
    ]


def test_what_a_followed_plan_did_is_not_told(world: World) -> None:
    path = world.ask(meeting=Meeting(plan="followed", tried="ports were tried"))
    world.discovery.runs[0].callback(Inbound(closed="the server is silent", unturned="there is no NAT"))
    assert path.sent == [Checked("unknown", "the server is silent", "unknown", "there is no NAT", plan="followed")]


def test_many_that_ask_cost_one_measurement(world: World) -> None:
    paths = [world.ask() for _ in range(20)]
    world.discovery.runs[0].callback(Inbound("port-dependent"))
    paths += [world.ask() for _ in range(20)]
    assert len(world.discovery.runs) == 1
    assert all(path.sent == [Checked("port-dependent")] for path in paths)
    world.clock.advance(FRESH_S)
    world.ask()
    assert len(world.discovery.runs) == 2


def test_without_dialling_nothing_is_measured(world: World) -> None:
    path = world.ask(meeting=Meeting(dial=False))
    why = "direct paths are not allowed"
    assert path.sent == [Checked("unknown", why, "unknown", why, "unknown", why, "unknown", why)]
    assert not world.discovery.runs


def test_one_path_asks_once(world: World) -> None:
    path = world.ask()
    assert path in world.answers
    with pytest.raises(ProtocolBreach):
        world.ask(path)


def test_a_path_that_is_gone_is_not_answered_and_the_others_are(world: World) -> None:
    meeting = Meeting()
    gone, stays = world.ask(meeting=meeting), world.ask()
    assert world.answers.ended(gone, meeting)  # type: ignore[arg-type]  # as much of a meeting as is used
    assert not world.answers.ended(Path(), Meeting())  # type: ignore[arg-type]  # the same
    world.discovery.runs[0].callback(Inbound("port-dependent"))
    assert (gone.sent, len(stays.sent)) == ([], 1)
    assert gone not in world.answers


def test_a_measurement_that_fails_leaves_it_unknown_and_is_logged(world: World) -> None:
    path = world.ask()
    with capturedLogs() as events:
        world.discovery.runs[0].errback(ZeroDivisionError("why"))
    said = "".join(str(formatEvent(event)) for event in events)
    why = "it could not be measured"
    assert "ZeroDivisionError('why')" in said
    assert path.sent == [Checked("unknown", why, "unknown", why, "unknown", why, "unknown", why)]
    world.ask()
    assert len(world.discovery.runs) == 2


def test_the_end_ends_everything(world: World) -> None:
    paths = [world.ask(), world.ask(meeting=Meeting(), decided=False)]
    world.answers.close()
    assert not any(path.sent for path in paths)
    assert not world.clock.getDelayedCalls()
