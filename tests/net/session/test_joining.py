"""Entering a code: what is said where nothing comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.core.contact.codes import parse_code
from p2pxfer.errors import Unreachable
from p2pxfer.net.private.home import Home
from p2pxfer.net.session.joining import FAREWELL_S, Joining, Proved
from tests.net.machines import machine_at


class SilentClient:
    """A server that never introduces anybody."""

    def introduce(self, name: str, policy: str) -> Deferred[Any]:
        return Deferred()


def test_a_pairing_that_takes_too_long_ends_in_words(tmp_path: Path) -> None:
    clock: Any = Clock()
    client: Any = SilentClient()
    code = parse_code("123451-acid-acorn-acre")
    joining = Joining(machine_at(Home(tmp_path / "home"), clock, patience=60.0), client, code)

    async def settle(proved: object) -> None:
        raise AssertionError("nobody was met")

    ended: list[Any] = []
    Deferred.fromCoroutine(joining.run(settle)).addErrback(lambda failure: ended.append(failure.value))
    clock.advance(60.0)
    assert [type(error) for error in ended] == [Unreachable]
    assert "within 60 seconds" in str(ended[0])


class StandingPath:
    """A path that stays up until the test says otherwise."""

    peer_key = b"k" * 32
    peer_name = "alice"

    def __init__(self, steps: list[str]) -> None:
        self._steps = steps

    def send(self, message: object) -> None:
        self._steps.append(type(message).__name__)

    def close(self) -> None:
        self._steps.append("close")


def test_what_is_proved_is_settled_before_the_farewell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Any = Clock()
    client: Any = SilentClient()
    code = parse_code("123451-acid-acorn-acre")
    joining = Joining(machine_at(Home(tmp_path / "home"), clock, patience=60.0), client, code)
    steps: list[str] = []
    path: Any = StandingPath(steps)

    async def settle(proved: Proved) -> None:
        steps.append(f"settle {proved.name}")

    async def prove() -> Proved:
        return Proved(path.peer_key, path.peer_name, None)

    monkeypatch.setattr(joining, "_prove", prove)
    joining._paths.append(path)
    ended = Deferred.fromCoroutine(joining.run(settle))
    assert steps == ["settle alice", "Bye", "close"]
    assert not ended.called
    clock.advance(FAREWELL_S)
    assert ended.called


def test_a_path_that_comes_at_the_end_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The direct one, say, when all is proved over the relay; nobody has a use for it any more."""
    clock: Any = Clock()
    client: Any = SilentClient()
    code = parse_code("123451-acid-acorn-acre")
    joining = Joining(machine_at(Home(tmp_path / "home"), clock, patience=60.0), client, code)
    first: Any = StandingPath([])
    steps: list[str] = []
    late: Any = StandingPath(steps)
    meeting: Any = None

    async def settle(proved: Proved) -> None:
        """Nothing is compared."""

    async def prove() -> Proved:
        joining._outcome.callback(Proved(first.peer_key, first.peer_name, None))
        return await joining._outcome

    monkeypatch.setattr(joining, "_prove", prove)
    joining._paths.append(first)
    joining._path = first
    ended = Deferred.fromCoroutine(joining.run(settle))
    joining.path_up(meeting, late)
    assert steps == ["close"]
    for path in (first, late):
        joining.path_down(meeting, path, Unreachable("closed"))
    assert ended.called
