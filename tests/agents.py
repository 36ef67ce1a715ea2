"""Agents as real programs: started as a supervisor does it, asked on their socket."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from pathlib import Path

from p2pxfer.core.agent.control import Status
from p2pxfer.core.ids import PeerId
from p2pxfer.errors import P2pxferError, Unreachable
from p2pxfer.net.agent.asking import status
from p2pxfer.net.private.home import Contact, Home
from scripts.product import BIN, Program
from tests.scene import Scene


def start_agent(scene: Scene, role: str, home: Path, *words: str | Path, ready: bool = True) -> Program:
    """An agent for ``home``, which is at the server when this returns, unless that is not waited for."""
    number = len(list(scene.folder.glob(f"agent-{role}-*.log"))) + 1
    log = scene.folder / f"agent-{role}-{number}.log"
    argv = [BIN / "twist", "--log-format=text", "p2pxfer-agent", "--home", home, *words]
    if scene.address:
        argv += ["--server", scene.address]
    agent = Program(scene.place, role, argv, log, cwd=scene.folder)
    scene.callback(agent.stop)
    if ready:
        until(home, lambda found: found.agent.observed != "" and len(found.services) == found.agent.services, agent)
    return agent


def until(home: Path, condition: Callable[[Status], bool], agent: Program, seconds: float = 60.0) -> Status:
    """What the agent says once ``condition`` holds of it."""
    deadline = time.monotonic() + seconds
    last: Status | P2pxferError | None = None
    while time.monotonic() < deadline:
        try:
            last = status(home)
            if condition(last):
                return last
        except Unreachable as error:
            last = error
        assert agent.poll() is None, f"the agent ended{agent.last_words(30)}"
        time.sleep(0.05)
    raise AssertionError(f"it did not come to that: {last}{agent.last_words(30)}")


def befriend(one: Path, name: str, other: Path, called: str) -> None:
    """Make ``other`` a contact of ``one`` by this name, and ``one`` a contact of ``other``, who calls it ``called``."""
    for mine, theirs, who in ((one, other, name), (other, one, called)):
        peer = PeerId(Home(theirs).identity().id.digest)
        Home(mine).add_contact(Contact(who, peer, "code", datetime.date.today().isoformat()))


def configure(home: Path, text: str) -> None:
    """Write the agent's configuration."""
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "agent.toml").write_text(text)
