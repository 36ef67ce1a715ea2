"""What the agent as a service says and does, without a reactor that runs; as a program it is in ``tests/e2e``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ReactorNotRunning
from twisted.internet.testing import MemoryReactorClock

from p2pxfer.core.agent.control import Ending, EndWanted, Status, StatusWanted
from p2pxfer.core.ids import PeerId
from p2pxfer.errors import ConfigError
from p2pxfer.inventory import JobListed, JobState
from p2pxfer.net.agent.agent import CONFIG, Agent
from p2pxfer.status import Note
from p2pxfer.tap.manners import stop_once

SERVER = f"127.0.0.1:9#{PeerId(bytes(32))}"


class Reactor(MemoryReactorClock):
    """It is stopped once, as real ones are."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    reactor: Any = Reactor()
    made = Agent(reactor, str(tmp_path / "home"), SERVER)
    made.running = 1
    return made


def test_two_who_end_it_at_once_are_both_answered_and_it_ends_once(agent: Agent) -> None:
    """A signal is another who ends it; nothing of that is a fault."""
    reactor: Any = agent._machine.reactor
    stop_once(reactor)
    assert [type(agent._answer(EndWanted())) for _ in range(2)] == [Ending, Ending]
    for _ in range(4):
        reactor.advance(0)
    assert reactor.stops == 1


@pytest.mark.parametrize(
    "wrong", ["receive = 5", 'inbox = "~nobody-of-that-name/inbox"', '[folders]\nbob = "~nobody-of-that-name"']
)
def test_who_cannot_begin_has_made_no_key(tmp_path: Path, wrong: str) -> None:
    (tmp_path / CONFIG).write_text(wrong)
    with pytest.raises(ConfigError, match=CONFIG):
        Agent(Reactor(), str(tmp_path), SERVER)
    assert [each.name for each in tmp_path.iterdir()] == [CONFIG]


def job(state: JobState) -> JobListed:
    return JobListed("0" * 8, "send", "bob", ("a",), 5, 9, "/srv", "2026-11-21T00:00:00+00:00", state)


def test_it_counts_what_waits_what_does_not_and_what_is_through(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    states: tuple[JobState, ...] = ("running", "queued", "queued", "paused", "failed")
    monkeypatch.setattr(agent._queue, "listed", lambda: [job(state) for state in states])
    for event in (job("done"), job("dropped"), job("done"), job("failed"), Note("a note")):
        agent._sent(event)
    agent._receiving.received = 3
    status = agent._answer(StatusWanted())
    assert isinstance(status, Status)
    about = status.agent
    assert (about.transfers, about.queued, about.paused, about.failed) == (1, 2, 1, 1)
    assert (about.sent, about.received) == (2, 3)
