"""The run of ``send`` where the connection to the server ends for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.cli import sending
from p2pxfer.cli.settings import Global
from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.errors import P2pxferError, Replaced
from p2pxfer.net.home import Home
from p2pxfer.net.seeking import Target
from p2pxfer.net.source import Source


class FakeClient:
    """A rendezvous client that was registered once, and is not any more."""

    made: FakeClient

    def __init__(self, *_: Any, **__: Any) -> None:
        type(self).made = self
        self.failed: Deferred[P2pxferError] = Deferred()
        self.stopped = False

    async def start(self) -> None:
        pass

    async def when_registered(self) -> None:
        await Deferred()

    def stop(self) -> None:
        self.stopped = True

    async def leave(self) -> None:
        pass


def test_a_sender_that_waits_ends_when_its_connection_to_the_server_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sending, "RendezvousClient", FakeClient)
    file = tmp_path / "a.txt"
    file.write_text("some text")
    source = Source.scan([str(file)])
    command = sending.Sending(
        Global(None, None, True, 0), Home(tmp_path / "home"), ServerLine("h", 1, None), source,
        Target(to="bob", key=None, name="bob", alias=None, verified="id", code=None),
        policy="auto", gentle=False, port_mapping=False, wait=True, timeout=1.0,
    )  # fmt: skip
    clock: Any = Clock()
    running = Deferred.fromCoroutine(command.run(clock))
    outcome: list[object] = []
    running.addErrback(lambda failure: outcome.append(failure.value))
    clock.advance(1000)
    assert not outcome
    error = Replaced("the same key came again")
    FakeClient.made.failed.callback(error)
    clock.advance(10)
    assert outcome == [error]
    assert FakeClient.made.stopped
