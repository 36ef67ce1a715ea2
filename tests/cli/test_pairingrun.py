"""The run of ``pair`` on a clock of its own: what a proved code comes to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.cli import pairing
from p2pxfer.cli.settings import Global
from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.errors import ConfigError
from p2pxfer.net.private.home import Home
from tests.cli.test_receiving import FakeClient, FakeInbox
from tests.net.reactors import time_only

KEY = b"k" * 32


class Run:
    """A run that shows a code."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.home = Home(folder / "home")
        self.command = pairing.Pairing(
            Global(None, None, True, 0), self.home, ServerLine("h", 1, None), "bob", None, None, False, "auto", False,
            None,
        )  # fmt: skip
        self.ended = Deferred.fromCoroutine(self.command.run(time_only(self.clock)))
        self.ended.addErrback(lambda failure: failure.value)
        assert not self.ended.called, self.ended.result


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(pairing, "Inbox", FakeInbox)
    monkeypatch.setattr(pairing, "RendezvousClient", FakeClient)
    made = Run(tmp_path)
    yield made
    made.ended.cancel()
    assert not made.clock.getDelayedCalls()


def test_a_proved_code_ends_the_run_with_a_contact(run: Run) -> None:
    assert run.command.paired(KEY, "alice", tuple).name == "alice"
    assert run.ended.result is None
    assert [contact.name for contact in run.home.contacts()] == ["alice"]


def test_after_the_words_the_peer_is_told_as_verified_by_them(
    run: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run.command, "_verify", True)
    run.command._store(KEY, "alice")
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["verified"] for event in told if event["event"] in ("peer", "contact")] == ["words", "words"]


def test_a_contact_that_cannot_be_stored_is_the_outcome(run: Run) -> None:
    """The code is spent; whoever waits would wait for ever."""
    (run.home.path / "contacts.json").write_text("{damaged")
    with pytest.raises(ConfigError):
        run.command.paired(KEY, "alice", tuple)
    assert isinstance(run.ended.result, ConfigError)
