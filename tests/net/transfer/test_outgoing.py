"""How a sending job ends: what the receiver hears of it, with a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from p2pxfer.core.session.wire import Problem
from p2pxfer.errors import (
    DiskError,
    IdentityMismatch,
    Incomplete,
    Interrupted,
    P2pxferError,
    PeerStopped,
    ProtocolBreach,
    Refused,
)
from p2pxfer.net.connection.tcpinfo import Flow
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

    def __init__(self, folder: Path, spreads: bool = False) -> None:
        self.clock = Clock()
        self.acked = 0
        self.said: list[object] = []
        client: Any = SimpleNamespace(when_registered=Deferred)
        cargo: Any = SimpleNamespace(
            attach=lambda *given: None,
            close=lambda: None,
            parting=False,
            accepted=True,
            spreads=spreads,
            after_cut="",
            is_idle=lambda path: True,
        )
        target = Target("bob", bytes(32), "bob", "bob", "contact", None)
        self.job = OutgoingJob(
            machine_at(Home(folder / "home"), self.clock), client, target, cargo, patience=Patience(True, 1.0),
            tell=lambda event: None, on_paired=lambda key, name: None, on_relayed=lambda meeting: None,
        )  # fmt: skip
        path: Any = SimpleNamespace(
            facts=PathFacts(1, "relay", "", ""), rtt=0.01, began=0.0, writable=True,
            send=self.said.append, close=lambda: self.said.append("close"), leave=self.said.append,
            descriptor=SimpleNamespace(flow=lambda: Flow(self.acked, 0, 0, 0.0)),
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


def test_a_sender_of_chunks_does_not_wait_for_the_one_under_way_but_while_the_line_takes_anything(
    tmp_path: Path,
) -> None:
    job = Job(tmp_path, spreads=True)
    job.run.cancel()
    (farewell,) = job.said
    assert isinstance(farewell, PeerStopped) and farewell.message == "the sender was stopped"
    for _ in range(3):
        job.acked += 1000
        job.clock.advance(STOPPED_S)
        assert not job.outcome
    job.clock.advance(STOPPED_S)
    (outcome,) = job.outcome
    assert isinstance(outcome, CancelledError)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_job_that_failed_is_none_that_was_stopped(tmp_path: Path, kind: type[P2pxferError]) -> None:
    job = Job(tmp_path)
    error = kind("it failed")
    job.job.fail(error)
    assert (job.said, job.outcome) == ([], [error])
