"""What the agent as a service says and does, without a reactor that runs; as a program it is in ``tests/e2e``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ReactorNotRunning
from twisted.internet.testing import MemoryReactorClock

from p2pxfer.core.agent.control import Ending, EndWanted
from p2pxfer.core.ids import PeerId
from p2pxfer.net.agent.agent import Agent

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
    assert [type(agent._answer(EndWanted())) for _ in range(2)] == [Ending, Ending]
    for _ in range(4):
        reactor.advance(0)
    assert reactor.stops == 2
