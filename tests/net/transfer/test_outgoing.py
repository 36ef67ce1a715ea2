"""How a sending job ends: what the receiver hears of it, with a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from p2pxfer.core.contact.codes import parse_code
from p2pxfer.core.messages import NatSummary
from p2pxfer.core.reported import from_peer
from p2pxfer.core.session.farewell import FAULT, WITHHELD, problem, reported
from p2pxfer.core.session.pathchoice import FORGOTTEN, OVER
from p2pxfer.core.session.transferwire import Ack, Refuse
from p2pxfer.core.session.wire import Bye, Problem
from p2pxfer.core.words.eventtext import describe
from p2pxfer.errors import (
    DiskError,
    IdentityMismatch,
    Incomplete,
    Interrupted,
    LimitReached,
    NoDirectPath,
    P2pxferError,
    ProtocolBreach,
    Refused,
    Unreachable,
)
from p2pxfer.net.private.home import Home
from p2pxfer.net.session.bothsame import COMPARE_S
from p2pxfer.net.session.path import PathFacts
from p2pxfer.net.session.patience import FAREWELL_S, STOPPED_S
from p2pxfer.net.session.seeking import Patience, Target
from p2pxfer.net.transfer.idlers import QUIET_S, NothingOffered
from p2pxfer.net.transfer.outgoing import OutgoingJob
from p2pxfer.status import Event, Note
from p2pxfer.status import Path as PathEvent
from tests.net.machines import machine_at

FAREWELL: list[object] = [Problem(word="E_STOPPED", message="the sender was stopped"), "close"]
FAILURES: list[type[P2pxferError]] = [DiskError, Incomplete, LimitReached, ProtocolBreach, Refused]


class Double:
    """One that stands in sets, as a path does."""

    def __init__(self, **facts: object) -> None:
        vars(self).update(facts)


class Job:
    """A job whose receiver is there on one path that does not end; the server never answers."""

    def __init__(self, folder: Path, spreads: bool = False, code: str = "", wait: bool = True) -> None:
        self.clock = Clock()
        self.acked = 0
        """As a connection tells it."""
        self.said: list[object] = []
        self.told: list[Event] = []
        self.searching: Deferred[None] = Deferred()
        client: Any = SimpleNamespace(when_registered=lambda: self.searching)
        cargo: Any = SimpleNamespace(
            attach=lambda *given: None, close=lambda: None, parting=False, accepted=True, spreads=spreads,
            after_cut="", is_idle=lambda path: True, offered=True, message=self.message,
            close_path=lambda path: None, push=lambda: None,
        )  # fmt: skip
        target = Target("bob", bytes(32), "bob", "bob", "contact", parse_code(code) if code else None)
        self.job = OutgoingJob(
            machine_at(Home(folder / "home"), self.clock), client, target, cargo, patience=Patience(wait, 1.0),
            tell=self.told.append, on_paired=lambda key, name: None, on_relayed=lambda meeting: None,
        )  # fmt: skip
        self.path = self.open(1)
        self.cargo = cargo
        self.outcome: list[object] = []
        self.run = Deferred.fromCoroutine(self.job.run())
        self.run.addErrback(lambda failure: failure.value).addCallback(self.outcome.append)

    def open(self, number: int) -> Any:
        """A path that is up from now on."""
        path: Any = Double(
            facts=PathFacts(number, "relay", "", ""), rtt=0.01, began=0.0, writable=True,
            send=self.said.append, close=lambda: self.said.append("close"), leave=self.said.append,
            descriptor=self,
        )  # fmt: skip
        self.job.paths.add(path)
        return path

    def message(self, path: object, message: Refuse) -> list[Event]:
        """As a cargo that is refused."""
        raise from_peer(message.word, f"the receiver refused: {message.message}")


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
    assert job.said == FAREWELL[:1]
    for _ in range(3):
        job.acked += 1000
        job.clock.advance(STOPPED_S)
        assert not job.outcome
    job.clock.advance(STOPPED_S)
    (outcome,) = job.outcome
    assert isinstance(outcome, CancelledError)


def test_who_has_heard_the_farewell_on_one_path_is_not_told_it_on_the_slower_one(tmp_path: Path) -> None:
    job = Job(tmp_path, spreads=True)
    job.open(2)
    job.run.cancel()
    job.acked += 1000
    job.clock.advance(STOPPED_S)
    assert not job.outcome
    meeting: Any = None
    job.job.path_down(meeting, job.path, Unreachable("closed"))
    assert not job.outcome
    job.acked *= 10  # the line still takes what came before
    job.clock.advance(STOPPED_S)
    (outcome,) = job.outcome
    assert isinstance(outcome, CancelledError)


@pytest.mark.parametrize("offered", [True, False])
@pytest.mark.parametrize("kind", FAILURES)
def test_a_job_that_failed_says_by_what_and_waits_until_that_is_heard(
    tmp_path: Path, kind: type[P2pxferError], offered: bool
) -> None:
    job = Job(tmp_path)
    job.cargo.offered = offered
    error = kind("it failed")
    job.job.fail(error)
    reason = error.abroad if offered else WITHHELD
    assert (job.said, job.outcome) == ([Problem(word=kind.word, message=reason, ends=True), "close"], [])
    job.clock.advance(FAREWELL_S)
    assert job.outcome == [error]


@pytest.mark.parametrize("offered", [True, False])
def test_a_fault_of_the_program_is_the_outcome_and_the_receiver_hears_that_there_is_one(
    tmp_path: Path, offered: bool
) -> None:
    """Nothing of what it is: that is for those who can mend it."""
    job = Job(tmp_path)
    job.cargo.offered = offered
    fault = ZeroDivisionError("/home/alice")
    job.searching.errback(fault)
    reason = FAULT if offered else WITHHELD
    assert (job.said, job.outcome) == ([Problem(word="E_INTERNAL", message=reason, ends=True), "close"], [])
    job.clock.advance(FAREWELL_S)
    assert job.outcome == [fault]


def test_a_breach_of_the_receiver_ends_the_job_when_its_reason_was_heard(tmp_path: Path) -> None:
    job = Job(tmp_path)
    error = ProtocolBreach("an acknowledgement of what was not sent")

    def breach(path: object, message: object) -> list[Event]:
        raise error

    job.cargo.message = breach
    job.job.path_message(
        job.path, Ack(handle=1, chunks=[])
    )  # and nothing is raised, for which the path would be refused
    assert (job.said, job.outcome) == ([Problem(word=error.word, message=error.message, ends=True), "close"], [])
    job.clock.advance(FAREWELL_S)
    assert job.outcome == [error]
    with pytest.raises(ProtocolBreach):
        job.job.path_message(job.path, Ack(handle=1, chunks=[]))


def test_a_job_whose_peer_has_another_key_says_nothing(tmp_path: Path) -> None:
    job = Job(tmp_path)
    error = IdentityMismatch("another key")
    job.job.fail(error)
    assert (job.said, job.outcome) == ([], [error])


def downs(job: Job) -> list[str]:
    """Why paths went, as far as people read it."""
    events = [event for event in job.told if isinstance(event, PathEvent) and event.state == "down"]
    assert len(events) == 1
    return [text for text in map(describe, events) if text]


def test_a_refusal_is_the_outcome_and_is_neither_sent_back_nor_a_path_that_was_lost(tmp_path: Path) -> None:
    job = Job(tmp_path)
    meeting: Any = None
    job.job.path_message(job.path, Refuse(handle=1, word="E_SPACE", message="its disk is full"))
    assert (job.said, job.outcome) == ([Bye(), "close"], [])
    job.job.path_down(meeting, job.path, Unreachable("the connection is gone"))
    (outcome,) = job.outcome
    assert isinstance(outcome, Refused) and outcome.message == "the receiver refused: its disk is full"
    assert downs(job) == []


def test_a_problem_that_ends_the_job_is_no_path_that_was_lost_besides(tmp_path: Path) -> None:
    job = Job(tmp_path)
    meeting: Any = None
    error = from_peer("E_DENIED", "the peer reports: bob takes no files from you")
    job.job.path_down(meeting, job.path, error)
    assert job.outcome == [error]
    assert downs(job) == []


@pytest.mark.parametrize("beside", [False, True])
def test_a_punch_that_failed_beside_the_relay_ends_no_job_when_that_is_gone(tmp_path: Path, beside: bool) -> None:
    """Where only a direct path was to be had it does."""
    job = Job(tmp_path)
    job.cargo.accepted = False
    failed: Any = SimpleNamespace(
        introduction=SimpleNamespace(relay_token=None), party=SimpleNamespace(beside=beside), unheard=False,
        punch=SimpleNamespace(nats=(NatSummary(), NatSummary()), tried=""),
    )  # fmt: skip
    job.job._meetings._meetings.append(failed)
    job.job.paths.remove(job.path, "lost")
    job.job.meeting_failed(failed, [])
    assert [type(outcome) for outcome in job.outcome] == ([] if beside else [NoDirectPath])
    job.run.cancel()


@pytest.mark.parametrize("carried", [False, True])
def test_that_the_peer_lost_its_server_is_said_only_where_nothing_else_reaches_it(
    tmp_path: Path, carried: bool
) -> None:
    job = Job(tmp_path)
    if not carried:
        job.job.paths.remove(job.path, "lost")
    unheard: Any = SimpleNamespace(
        introduction=SimpleNamespace(relay_token=None), party=SimpleNamespace(beside=carried), unheard=True,
        punching=False, paths=[],
    )  # fmt: skip
    job.job._meetings._meetings.append(unheard)
    job.job.meeting_failed(unheard, [])
    notes = [event.message for event in job.told if isinstance(event, Note)]
    assert notes == ([] if carried else ["bob lost its connection to the server; waiting for it to come back"])
    job.run.cancel()


def test_a_contact_that_forgot_this_machine_is_said_once_and_no_path_is_lost_by_it(tmp_path: Path) -> None:
    """It is given the code on the next path, whatever number of paths it closed until then."""
    job = Job(tmp_path, code="4-acid-acorn-acre")
    meeting: Any = None
    paths: list[Any] = [Double(**vars(job.path) | {"facts": PathFacts(number, "ipv6", "", "")}) for number in (2, 3)]
    job.job.paths.remove(job.path, OVER)
    job.told.clear()
    for path in paths:
        job.job.paths.add(path)
    for path in paths:
        job.job.path_down(meeting, path, from_peer("E_UNKNOWN", "the peer reports: bob does not know this key"))
    said = "bob does not know this machine any more; the code is used"
    assert ([text for text in map(describe, job.told) if text], job.outcome) == ([said], [])
    whys = [event.why for event in job.told if isinstance(event, PathEvent) and event.state == "down"]
    assert whys == [FORGOTTEN, FORGOTTEN]
    job.run.cancel()


def test_a_user_who_reads_the_words_for_long_is_asked_again_on_another_path(tmp_path: Path) -> None:
    """The receiver ends a path over which nothing was offered, which is no reason to end the job."""
    job = Job(tmp_path, wait=False)
    job.cargo.accepted = False
    job.job._pathless.end()  # as when the path came up
    job.clock.advance(COMPARE_S + QUIET_S)
    meeting: Any = None
    job.job.path_down(meeting, job.path, reported(problem(NothingOffered("nothing was offered here"))))
    job.clock.advance(0.9)
    assert job.outcome == []
    job.clock.advance(0.2)
    (outcome,) = job.outcome
    assert isinstance(outcome, Unreachable) and "in 1 seconds" in outcome.message
