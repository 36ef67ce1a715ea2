"""What ``p2pxfer agent`` shows of an agent; real agents are in ``tests/e2e/test_agent.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from p2pxfer.cli.agent import lines
from p2pxfer.cli.main import cli
from p2pxfer.core.agent.control import Status
from p2pxfer.errors import P2pxferError, Unreachable, UsageError
from p2pxfer.inventory import Agent
from p2pxfer.net.agent.room import how_to_start
from p2pxfer.net.private.home import default_home
from p2pxfer.status import Exposed

ABOUT = Agent(7, 61.0, "bob", "p2px1-x", "127.0.0.1:8877", "1.2.3.4:5", True, 1, 2, 0)


def test_what_failed_is_not_counted_as_waiting_and_what_is_through_is_counted() -> None:
    assert lines(Status(ABOUT))[2:] == ["2 to be sent, 1 under way", "0 sent and 0 received since it started"]
    more = replace(ABOUT, queued=0, transfers=0, paused=2, failed=1, sent=5, received=3)
    assert lines(Status(more))[2:] == [
        "0 to be sent, 0 under way, 2 paused, 1 failed; p2pxfer jobs names them",
        "5 sent and 3 received since it started",
    ]


def test_who_cannot_reach_a_service_stands_below_who_can() -> None:
    left_out = "web: carol is not a contact, and is left out"
    found = Status(replace(ABOUT, services=1, left_out=(left_out,)), (Exposed("web", "127.0.0.1:80", ("bob",)),))
    assert lines(found)[-2:] == ["  127.0.0.1:80 is exposed as web to bob", f"  {left_out}"]


@pytest.mark.parametrize(("word", "kind"), [("status", Unreachable), ("stop", Unreachable), ("start", UsageError)])
def test_where_none_runs_each_command_says_what_starts_one(tmp_path: Path, word: str, kind: type[P2pxferError]) -> None:
    home = tmp_path / "my home"
    with pytest.raises(kind) as caught:
        cli.main(["--home", str(home), "agent", word], standalone_mode=False)
    assert caught.value.message.endswith(f"; this starts one: twistd p2pxfer-agent --home '{home}'")


def test_the_default_home_needs_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert how_to_start(default_home({})) == "this starts one: twistd p2pxfer-agent"
    monkeypatch.chdir(tmp_path)
    assert how_to_start(Path("h")) == f"this starts one: twistd p2pxfer-agent --home {tmp_path / 'h'}"
