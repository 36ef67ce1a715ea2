"""How a sending job ends: what the receiver hears of it, with a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from p2pxfer.core.session.wire import Problem
from p2pxfer.errors import DiskError, IdentityMismatch, Incomplete, Interrupted, P2pxferError, ProtocolBreach, Refused
from p2pxfer.net.private.home import Home
from p2pxfer.net.session.path import PathFacts
from p2pxfer.net.session.patience import STOPPED_S
from p2pxfer.net.session.seeking import Patience, Target
from p2pxfer.net.transfer.outgoing import OutgoingJob
from tests.net.machines import machine_at

FAREWELL = [Problem(word="E_STOPPED", message="the sender was stopped"), "close"]
FAILURES: list[type[P2pxferError]] = [DiskError, IdentityMismatch, Incomplete, ProtocolBreach, Refused]


class Job:
    """A job whose receiver is there on one path that does not end; the server never answers."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.said: list[object] = []
        client: Any = SimpleNamespace(when_registered=Deferred)
        cargo: Any = SimpleNamespace(
            attach=lambda *given: None, close=lambda: None, parting=False, accepted=True, spreads=False, after_cut=""
        )
        target = Target("bob", bytes(32), "bob", "bob", "contact", None)
        self.job = OutgoingJob(
            machine_at(Home(folder / "home"), self.clock), client, target, cargo, patience=Patience(True, 1.0),
            tell=lambda event: None, on_paired=lambda key, name: None, on_relayed=lambda meeting: None,
        )  # fmt: skip
        path: Any = SimpleNamespace(
            facts=PathFacts(1, "relay", "", ""), rtt=0.01, began=0.0, writable=True,
            send=self.said.append, close=lambda: self.said.append("close"),
        )  # fmt: skip
        self.job._paths.add(path)
        self.outcome: list[object] = []
        self.run = Deferred.fromCoroutine(self.job.run())
        self.run.addErrback(lambda failure: failure.value).addCallback(self.outcome.append)


@pytest.mark.parametrize("by", ["cancel", "output"])
def test_a_sender_that_was_stopped_says_so_and_waits_a_moment(tmp_path: Path, by: str) -> None:
    job = Job(tmp_path)
    if by == "cancel":
        job.run.cancel()
    else:
        job.job.fail(Interrupted("nobody reads the output any more"))
    assert (job.said, job.outcome) == (FAREWELL, [])
    job.clock.advance(STOPPED_S)
    (outcome,) = job.outcome
    assert isinstance(outcome, (CancelledError, Interrupted))


@pytest.mark.parametrize("kind", FAILURES)
def test_a_job_that_failed_is_none_that_was_stopped(tmp_path: Path, kind: type[P2pxferError]) -> None:
    job = Job(tmp_path)
    error = kind("it failed")
    job.job.fail(error)
    assert (job.said, job.outcome) == ([], [error])
