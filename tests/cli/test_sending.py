"""The run of ``send`` where the connection to the server ends for good."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.cli import sending
from p2pxfer.cli.fileload import FileLoad
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.sendmemory import SendMemory
from p2pxfer.cli.settings import Global
from p2pxfer.errors import CodeNeeded, Declined, Interrupted, P2pxferError, Refused, RefusedForNow, Replaced, WrongCode
from p2pxfer.net.private.home import Home
from p2pxfer.net.queue.sendjobs import SendJob, SendJobs
from p2pxfer.net.session import machine
from p2pxfer.net.session.seeking import Target
from p2pxfer.net.transfer.source import Source
from p2pxfer.status import Accepted, Event
from tests.net.machines import machine_at
from tests.net.reactors import Threads


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


BOB = Target(to="bob", key=None, name="bob", alias=None, verified="id", code=None)


def make_command(tmp_path: Path, target: Target = BOB) -> sending.Sending:
    """A sender of a small file, by a fake client."""
    file = tmp_path / "a.txt"
    file.write_text("some text")
    load = FileLoad(Source.scan([str(file)]), tmp_path / "home")
    return sending.Sending(Global(None, None, True, 0), load, target, wait=True)


def here(tmp_path: Path, clock: Any) -> machine.Machine:
    return machine_at(Home(tmp_path / "home"), clock, patience=1.0)


@pytest.mark.parametrize(
    ("alias", "why"), [("bob", "bob does not know this machine any more"), (None, "{id} does not know this machine")]
)
def test_why_a_code_is_asked_for_at_all_is_said_in_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alias: str | None, why: str
) -> None:
    given: list[object] = []

    async def ask(*all_of_it: object) -> None:
        given.extend(all_of_it)

    async def refused(*_: object) -> None:
        raise CodeNeeded("the peer reports: bob does not know this key: ask for the code")

    monkeypatch.setattr(machine, "RendezvousClient", FakeClient)
    monkeypatch.setattr(sending, "ask_again", ask)
    monkeypatch.setattr(Reporter, "can_ask", True)
    target = Target("p2px1-abc", None, None, alias, "contact" if alias else "id", None)
    command = make_command(tmp_path, target)
    monkeypatch.setattr(command, "_send", refused)
    outcome: list[object] = []
    running = Deferred.fromCoroutine(command.run(here(tmp_path, Clock())))
    running.addErrback(lambda failure: outcome.append(failure.value))
    assert given[-1] == why.format(id=target.shown)
    (error,) = outcome
    assert isinstance(error, CodeNeeded)  # nobody typed one


def test_a_question_for_another_code_ends_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The person thinks about the code while the connection to the server ends for good."""
    question: Deferred[None] = Deferred()

    given: list[object] = []

    async def ask(*all_of_it: object) -> None:
        given.extend(all_of_it)
        await question

    async def refused(*_: object) -> None:
        raise WrongCode("it was not that one")

    monkeypatch.setattr(machine, "RendezvousClient", FakeClient)
    monkeypatch.setattr(sending, "ask_again", ask)
    monkeypatch.setattr(Reporter, "can_ask", True)
    command = make_command(tmp_path)
    monkeypatch.setattr(command, "_send", refused)
    running = Deferred.fromCoroutine(command.run(here(tmp_path, Clock())))
    outcome: list[object] = []
    running.addErrback(lambda failure: outcome.append(failure.value))
    assert not outcome
    assert given[-1] == "it was not that one"  # seen in the question, also with --quiet
    error = Replaced("the same key came again")
    FakeClient.made.failed.callback(error)
    assert outcome == [error]


def test_a_sender_that_waits_ends_when_its_connection_to_the_server_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "RendezvousClient", FakeClient)
    command = make_command(tmp_path)
    clock: Any = Clock()
    running = Deferred.fromCoroutine(command.run(here(tmp_path, clock)))
    outcome: list[object] = []
    running.addErrback(lambda failure: outcome.append(failure.value))
    clock.advance(1000)
    assert not outcome
    error = Replaced("the same key came again")
    FakeClient.made.failed.callback(error)
    clock.advance(10)
    assert outcome == [error]
    assert FakeClient.made.stopped


def test_the_time_at_the_end_counts_from_the_acceptance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A minute at the question for a code is no part of it, and a second acceptance is not its start."""
    times = {"now": 60.0}
    monkeypatch.setattr(Reporter, "elapsed", property(lambda _: times["now"]))

    class Job:
        def __init__(self, *_words: object, tell: Callable[[Event], None], **_options: object) -> None:
            self._tell = tell
            self.path_kind = "lan"
            self.bytes_by_path = {"lan": 9}

        async def run(self) -> bytes:
            for now in (100.0, 101.5):
                times["now"] = now
                self._tell(Accepted())
            times["now"] = 102.0
            return bytes(32)

    monkeypatch.setattr(machine, "RendezvousClient", FakeClient)
    monkeypatch.setattr(sending, "OutgoingJob", Job)
    ended = Deferred.fromCoroutine(make_command(tmp_path).run(here(tmp_path, Clock())))
    assert ended.called
    done = [event for event in map(json.loads, capsys.readouterr().out.splitlines()) if event["event"] == "done"]
    assert [event["seconds"] for event in done] == [2.0]


def test_where_nobody_can_be_asked_the_next_code_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object) -> None:
        raise WrongCode("it was not that one")

    monkeypatch.setattr(machine, "RendezvousClient", FakeClient)
    monkeypatch.setattr(Reporter, "can_ask", False)
    command = make_command(tmp_path)
    monkeypatch.setattr(command, "_send", refused)
    outcome: list[Any] = []
    Deferred.fromCoroutine(command.run(here(tmp_path, Clock()))).addErrback(lambda gone: outcome.append(gone.value))
    assert [type(each) for each in outcome] == [WrongCode]
    assert outcome[0].message == "it was not that one; give the next code, which bob shows now"


def test_whoever_stops_it_before_bob_is_there_is_told_that_nothing_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "RendezvousClient", FakeClient)
    outcome: list[Any] = []
    running = Deferred.fromCoroutine(make_command(tmp_path).run(here(tmp_path, Clock())))
    running.addErrback(lambda gone: outcome.append(gone.value))
    running.cancel()
    assert [(type(each), str(each)) for each in outcome] == [(Interrupted, "interrupted before anything was sent")]


def test_whoever_stops_a_file_that_bob_takes_is_told_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Job:
        path_kind = "lan"

        def __init__(self, *words: Any, **_options: object) -> None:
            words[3].accepted = True

        async def run(self) -> bytes:
            return await Deferred()

    monkeypatch.setattr(machine, "RendezvousClient", FakeClient)
    monkeypatch.setattr(sending, "OutgoingJob", Job)
    monkeypatch.setattr(sending, "ComparedCargo", lambda cargo, *_: cargo)
    outcome: list[Any] = []
    running = Deferred.fromCoroutine(make_command(tmp_path).run(here(tmp_path, Clock())))
    running.addErrback(lambda gone: outcome.append(gone.value))
    running.cancel()
    kept = "interrupted; what arrived is kept there, run the same command again to go on"
    assert [str(each) for each in outcome] == [kept]


@pytest.mark.parametrize("quiet", [True, False])
def test_what_may_be_data_and_is_left_out_is_said_to_those_who_want_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, quiet: bool
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / ".p2pxfer-notes").write_text("mine")
    (tree / "link").symlink_to("nothing")
    load = FileLoad(Source.scan([str(tree)]), tmp_path / "home")
    command = sending.Sending(Global(None, None, False, 0, quiet=quiet), load, BOB, wait=True)
    command._tell_offer()
    load.close()
    said = capsys.readouterr().err
    assert "skipped 'tree/.p2pxfer-notes': names that begin with .p2pxfer- belong to this program" in said
    assert len(said.splitlines()) == (1 if quiet else 3)


def test_whoever_stops_it_when_everything_is_there_has_sent_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record of the command is being removed, on a disk that takes its time: that is no matter of the transfer."""
    threads: list[str] = []
    slow = threading.Event()

    def remove(jobs: SendJobs, job: SendJob) -> None:
        threads.append(threading.current_thread().name)
        assert slow.wait(10)

    class Job:
        path_kind = "lan"

        def __init__(self, *_: object, **_options: object) -> None:
            self.bytes_by_path = {"lan": 9}

        async def run(self) -> bytes:
            return bytes(32)

    monkeypatch.setattr(machine, "RendezvousClient", FakeClient)
    monkeypatch.setattr(sending, "OutgoingJob", Job)
    monkeypatch.setattr(SendJobs, "remove", remove)
    command, reactor = make_command(tmp_path), Threads()
    source = Source.scan([str(tmp_path / "a.txt")])
    job = SendJob([str(tmp_path / "a.txt")], "bob")
    monkeypatch.setattr(command, "_memory", SendMemory(Home(tmp_path / "home"), job, source))
    outcome: list[Any] = []
    running = Deferred.fromCoroutine(command.run(here(tmp_path, reactor)))
    running.addBoth(outcome.append)
    assert '"event":"done"' in capsys.readouterr().out.replace(" ", "")
    running.cancel()
    assert outcome == []
    slow.set()
    while not outcome:
        reactor.wait()
    assert outcome == [None]
    assert threads == ["record"]
    source.close()


@pytest.mark.parametrize(
    ("error", "stays"),
    [(Declined("no"), False), (RefusedForNow("full"), True), (Refused("no files from you"), True)],
)
@pytest.mark.parametrize("accepted", [True, False])
def test_what_the_receiver_declines_is_no_job_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: P2pxferError, stays: bool, accepted: bool
) -> None:
    """Nor is what an earlier run left of it; where it met a trouble there, or the sender is denied, it may go on."""

    class Job:
        path_kind = "lan"

        def __init__(self, *_: object, tell: Any, **_options: object) -> None:
            self.tell = tell

        async def run(self) -> bytes:
            if accepted:
                self.tell(Accepted())
            raise error

    monkeypatch.setattr(machine, "RendezvousClient", FakeClient)
    monkeypatch.setattr(sending, "OutgoingJob", Job)
    command, reactor = make_command(tmp_path), Threads()
    source = Source.scan([str(tmp_path / "a.txt")])
    job = SendJob([str(tmp_path / "a.txt")], "bob")
    jobs = SendJobs(Home(tmp_path / "home").path)
    jobs.save(job)
    jobs.close()
    monkeypatch.setattr(command, "_memory", SendMemory(Home(tmp_path / "home"), job, source))
    outcome: list[Any] = []
    Deferred.fromCoroutine(command.run(here(tmp_path, reactor))).addBoth(outcome.append)
    while not outcome:
        reactor.wait()
    assert outcome[0].value is error
    assert len(jobs.all()) == stays
    source.close()
