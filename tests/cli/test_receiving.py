"""The run of ``receive``: questions, fresh codes, the timeout, progress, and the clock that all of it follows."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from msgspec import structs
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from p2pxfer.cli import receiving, watching, wordscheck
from p2pxfer.cli.codedesk import CodeDesk
from p2pxfer.cli.inputs import can_answer
from p2pxfer.cli.questions import Questions, compose_question
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.settings import Global
from p2pxfer.cli.watching import GONE_S
from p2pxfer.core.contact.codebook import FRESH_PAUSES, CodeBook, WrongTries
from p2pxfer.core.contact.codes import parse_code
from p2pxfer.core.contact.compare import DIFFER
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.ids import PeerId
from p2pxfer.core.transfer.streams import CANNOT_GO_ON
from p2pxfer.errors import (
    CodeNeeded,
    ConfigError,
    Damaged,
    IdentityMismatch,
    Incomplete,
    Interrupted,
    P2pxferError,
    PeerFailed,
    PeerStopped,
    Refused,
    RefusedHere,
    Replaced,
    Unreachable,
    WrongCode,
)
from p2pxfer.net.agent.room import Room
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.session import machine
from p2pxfer.net.staging.partials import number_of, staging_name
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.net.transfer.inbox import IDLE_S
from p2pxfer.net.transfer.places import Received
from p2pxfer.status import Note, Offer, Progress
from p2pxfer.status import Path as PathEvent
from scripts.product import Loopback, Program
from tests.cli.nobody import FakeClient, FakeInbox
from tests.net.machines import machine_at
from tests.net.reactors import sleep, until
from tests.scene import WORDS, Scene, events_of, last

reactor: Any = _reactor


# -- nobody to ask ---------------------------------------------------------------------------------------------------


def test_who_may_answer_a_question(tmp_path: Path) -> None:
    keyboard, terminal = os.openpty()
    there, into = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    answers = os.open(tmp_path / "answers", os.O_RDWR | os.O_CREAT)
    try:
        assert [can_answer(each) for each in (terminal, there, answers, null)] == [True, True, True, False]
        os.write(into, b"y\n")
        os.close(into)
        assert can_answer(there)
        os.read(there, 10)
        assert not can_answer(there)
    finally:
        for each in (keyboard, terminal, there, null, answers):
            os.close(each)


def test_a_receiver_that_has_nobody_to_ask_ends_at_once_and_says_what_to_use(tmp_path: Path) -> None:
    argv: list[str | Path] = [Path(sys.executable).parent / "p2pxfer"]
    argv += [
        "--server",
        f"localhost:1#{PeerId(bytes(32))}",
        "--home",
        tmp_path / "home",
        "receive",
        "--accept",
        "ask",
        "--to",
        tmp_path,
    ]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "--accept contacts" in line and "--accept all" in line


# -- questions -----------------------------------------------------------------------------------------------------


class Desk:
    """Questions whose answers come through a pipe."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        self.questions = Questions(reactor, Reporter(False), self.out)

    def ask(self, text: str) -> Deferred[bool]:
        return Deferred.fromCoroutine(self.questions.ask(lambda: text))

    def type(self, text: str) -> None:
        os.write(self.into, text.encode())

    def end(self) -> None:
        """Standard input ends."""
        if self.into >= 0:
            os.close(self.into)
        self.into = -1


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.end()
    made.questions.close()
    deadline = time.monotonic() + 50
    while any(thread.name == "questions" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the thread waits for ever"
        time.sleep(0.01)
    os.close(made.out)


@pytest.mark.parametrize(("typed", "taken"), [("y\n", True), (" YES \n", True), ("n\n", False), ("\n", False)])
@pytest_twisted.ensureDeferred
async def test_an_answer(desk: Desk, typed: str, taken: bool) -> None:
    answer = desk.ask("take it?")
    desk.type(typed)
    assert await answer is taken


@pytest.mark.parametrize(
    ("typed", "same"),
    [("maybe\n\n Y \n", True), ("yes\n", True), ("\nyess\nNO\n", False), (" N\n", False), ("a\n\nb\ny\n", False)],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_answer_is_asked_again_where_a_slip_would_alarm(
    desk: Desk, capsys: pytest.CaptureFixture[str], typed: str, same: bool
) -> None:
    answer = Deferred.fromCoroutine(desk.questions.ask(lambda: "the same?", tries=3))
    desk.type(typed)
    assert await answer is same
    asked = capsys.readouterr().err
    assert asked.count("the same? [y/n] ") == min(typed.count("\n"), 3)
    assert asked.count("please answer y or n") == min(typed.count("\n"), 3) - 1
    assert ("no answer was clear" in asked) == (typed.count("\n") > 3)


@pytest_twisted.ensureDeferred
async def test_the_end_of_standard_input_is_asked_nothing_again(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    answer = Deferred.fromCoroutine(desk.questions.ask(lambda: "the same?", tries=3))
    desk.type("maybe\n")
    desk.end()
    assert await answer is False
    asked = capsys.readouterr().err
    assert asked.count("the same?") == 2
    assert "standard input has ended" in asked


@pytest_twisted.ensureDeferred
async def test_the_end_of_standard_input_is_a_no_now_and_later(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.end()
    assert await desk.ask("one?") is False
    assert await desk.ask("two?") is False
    assert "one? [y/N] \n" in capsys.readouterr().err


@pytest_twisted.ensureDeferred
async def test_one_question_at_a_time_and_no_thread_of_the_pool(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [desk.ask(f"number {number}?") for number in range(12)]
    shown = ""

    def asked(number: int) -> bool:
        nonlocal shown
        shown += capsys.readouterr().err
        return f"number {number}?" in shown

    for number in range(12):
        await until(lambda number=number: asked(number))
        assert not asked(number + 1)
        assert not reactor.getThreadPool().working
        desk.type("y\n" if number % 2 else "n\n")
        assert await answers[number] is bool(number % 2)


@pytest_twisted.ensureDeferred
async def test_a_cancelled_question_leaves_the_next_one_its_turn(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (desk.ask(text) for text in ("first?", "second?", "third?"))
    await until(lambda: "first?" in capsys.readouterr().err)
    for given_up in (second, first):
        given_up.cancel()
        with pytest.raises(CancelledError):
            await given_up
    # Nobody has to type anything to a question that nobody asks any more.
    await until(lambda: "third?" in capsys.readouterr().err)
    assert not third.called
    desk.type("yes\n")
    assert await third is True


@pytest_twisted.ensureDeferred
async def test_what_was_typed_on_a_terminal_before_a_question_is_no_answer_to_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keyboard, terminal = os.openpty()
    questions = Questions(reactor, Reporter(False), terminal)
    try:
        os.write(keyboard, b"y\n")
        answer = Deferred.fromCoroutine(questions.ask(lambda: "well?"))
        await until(lambda: "well?" in capsys.readouterr().err)
        await sleep(0.2)
        assert not answer.called
        os.write(keyboard, b"y\n")
        assert await answer is True
        assert not capsys.readouterr().err  # the terminal has shown the end of the line
    finally:
        questions.close()
        os.close(keyboard)
        os.close(terminal)


def test_the_question_names_what_there_is_to_know(tmp_path: Path) -> None:
    offer = Offer(files=7, bytes=3 << 20, names=tuple(f"n{number}" for number in range(7)))
    text = compose_question("al\x1bice", offer, str(tmp_path))
    assert text.startswith("take n0, n1, n2, n3, n4 and 2 more (3.0 MiB, ")
    assert "free here) from al\\x1bice?" in text
    assert "free space unknown" in compose_question("a", offer, str(tmp_path / "none"))
    counting = structs.replace(offer, counting=True)
    assert "2 more (at least 7 files, 3.0 MiB, " in compose_question("a", counting, str(tmp_path))
    stream = Offer(files=1, bytes=None, names=("stdin",))
    assert compose_question("a", stream, str(tmp_path)).startswith("take stdin (a stream of unknown size, ")


# -- a run with a clock of its own ---------------------------------------------------------------------------------


class FakeTransfer:
    """What the command sees of a transfer of ten bytes."""

    def __init__(self) -> None:
        self.offer = Offer(files=1, bytes=10, names=("a",))
        self.have_bytes = 0
        self.attached = 1
        self.sender, self.number = b"s" * 32, os.urandom(32)
        self.ended = self.abandoned = False
        self.bytes_by_path = {"relay": 10}
        self.done: Deferred[Received] = Deferred()
        self.settled: Deferred[None] = Deferred()
        self.tally = SimpleNamespace(missed=self._missed, latest=lambda done, now: done)
        self.missed = 0

    def _missed(self) -> None:
        self.missed += 1

    @property
    def job(self) -> str:
        return number_of(staging_name(self.sender, self.number))

    def abandon(self) -> None:
        self.abandoned = True
        self.end(Incomplete("the sender has not come back"))

    def end(self, outcome: Received | P2pxferError) -> None:
        self.ended = True
        if isinstance(outcome, Received):
            self.done.callback(outcome)
        else:
            self.done.errback(outcome)


KEY = b"k" * 32
GOOD = Received(b"r" * 32, ("a",), 10)
WRONG = WrongCode("that code is not right")


class Run:
    """A run of the command on a clock; what it printed are :attr:`events`."""

    def __init__(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> None:
        self._capsys = capsys
        self._events: list[dict[str, Any]] = []
        self.clock = Clock()
        given: dict[str, Any] = {
            "once": False, "acceptance": "contacts", "code_words": None, "no_code": False, "timeout": None,
        }  # fmt: skip
        self.command = receiving.Receiving(
            Global(None, None, True, 0), Folder(str(tmp_path)), **(given | options)
        )  # fmt: skip
        self.ended = Deferred.fromCoroutine(self.command.run(machine_at(Home(tmp_path / "home"), self.clock, "bob")))
        self.ended.addErrback(lambda failure: failure.value)
        assert not self.ended.called, self.ended.result

    def events(self, name: str) -> list[dict[str, Any]]:
        self._events += [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]
        return [event for event in self._events if event["event"] == name]

    def use_up(self, error: P2pxferError | None) -> None:
        """The code that is shown now is tried."""
        book = self.command._codes
        for slot in book.open_slots:
            book.close(slot)
        self.command.code_used(error)

    def transfer(self, kind: type[FakeTransfer] | None = None) -> FakeTransfer:
        made = (kind or FakeTransfer)()
        paths: Any = SimpleNamespace(active_kind="relay")
        self.command.transfer_started("alice", made, paths)  # type: ignore[arg-type]  # all that is used
        return made

    def accept(self, transfer: FakeTransfer) -> None:
        decided: Any = Deferred.fromCoroutine(self.command.decide("alice", transfer.offer))  # type: ignore[arg-type]  # all that is used
        assert decided.result is True

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.05] * round(seconds / 0.05))

    def stop(self) -> None:
        self.ended.cancel()
        assert not self.clock.getDelayedCalls()


@pytest.fixture
def make(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(receiving, "Inbox", FakeInbox)
    monkeypatch.setattr(FakeInbox, "farewells", [])
    monkeypatch.setattr(machine, "RendezvousClient", FakeClient)
    runs: list[Run] = []

    def start(**options: Any) -> Run:
        runs.append(Run(tmp_path, capsys, **options))
        return runs[-1]

    yield start
    for run in runs:
        run.stop()


@pytest.mark.parametrize("files", [True, False])
def test_who_is_displaced_is_told_where_files_are_kept_and_nothing_of_a_stream(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: bool
) -> None:
    if files:
        monkeypatch.setattr(receiving, "IncomingTransfer", FakeTransfer)
    run = make()
    run.transfer()
    run.command._finish(Replaced("the newer one counts"))
    message = run.ended.result.message
    kept = f"what arrived is kept in {tmp_path}; it goes on when a receive into {tmp_path} runs"
    assert (kept in message, "kept" in message) == (files, files)
    assert message.endswith("--as NAME receives beside the newer one")


@pytest.mark.parametrize("runs", [True, False])
def test_who_is_displaced_hears_that_an_agent_may_have_done_it(make: Any, tmp_path: Path, *, runs: bool) -> None:
    run = make()
    room = Room(tmp_path / "home")
    room.sign()
    if not runs:
        room.close()
    run.command._finish(Replaced("the newer one counts"))
    agent = f"by the agent that runs here (process {os.getpid()}), by another command"
    by = agent if runs else "by an agent or a command"
    assert run.ended.result.message.startswith(
        f"receive as bob was started again with the key of this machine, {by} here or with a copy of its private"
        " directory, and the newer one counts: this one has ended; "
    )
    if runs:
        room.close()


def test_a_sender_that_is_gone_is_said_once_with_what_is_kept(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its transfer hears that people were told so, and not of a path that is back before."""
    monkeypatch.setattr(watching, "IncomingTransfer", FakeTransfer)
    run = make()
    transfer = run.transfer()
    transfer.attached = 0
    run.pass_time(GONE_S + 1)
    assert run.events("note") == []  # nothing was accepted yet, so nothing is kept
    transfer.attached, transfer.have_bytes = 1, 4
    run.accept(transfer)
    run.pass_time(1)
    transfer.attached = 0
    run.pass_time(GONE_S - 1)
    transfer.attached = 1
    run.pass_time(1)
    assert (run.events("note"), transfer.missed) == ([], 0)
    for times in (1, 2):
        transfer.attached = 0
        run.pass_time(3 * GONE_S)
        assert len(run.events("note")) == transfer.missed == times
        transfer.attached = 1
        run.pass_time(1)
    assert run.events("note")[0]["message"] == (
        "alice is gone: that program has ended, or its network is lost; 4 B of 10 B are kept (a), and go on by"
        " themselves when it is back; where the program has ended, alice runs the same command again"
    )


def test_a_sender_that_was_stopped_is_said_once_and_not_to_be_gone_as_well(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "IncomingTransfer", FakeTransfer)
    run = make(timeout=5.0)
    transfer = run.transfer()
    transfer.have_bytes = 4
    run.accept(transfer)
    run.pass_time(1)
    path: Any = SimpleNamespace(facts=SimpleNamespace(number=1), peer_key=bytes(32))
    (watch,) = run.command._watches
    watch.paths = SimpleNamespace(active_kind="relay", get=lambda number: path)
    told_of: Any = transfer
    for _ in range(2):  # it says so on each of its paths
        run.command.path_ends(path, "alice", PeerStopped("the peer reports: stopped"), told_of)
    transfer.attached = 0
    run.pass_time(4)
    (note,) = run.events("note")
    assert note["message"] == (
        "alice was stopped there; 4 B of 10 B are kept (a), and go on when alice runs the same command again"
    )
    assert transfer.missed == 1
    assert not run.ended.called
    run.pass_time(2)  # nobody comes of himself, so --timeout counts
    assert isinstance(run.ended.result, Unreachable)


def test_of_two_transfers_that_were_cut_each_is_said_by_itself_and_by_name(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both came over paths of one peer; only what a path carried has ended with it."""
    monkeypatch.setattr(watching, "IncomingTransfer", FakeTransfer)
    run = make()
    transfers: list[Any] = [run.transfer(), run.transfer()]
    for transfer, name in zip(transfers, "xy", strict=True):
        transfer.offer = Offer(files=1, bytes=10, names=(name,))
        transfer.have_bytes = 4
        run.accept(transfer)
    run.pass_time(0.1)
    path: Any = SimpleNamespace(facts=SimpleNamespace(number=1), peer_key=bytes(32))
    for watch in run.command._watches:
        watch.paths = SimpleNamespace(active_kind="relay", peer_leaves=True)
    kept = "4 B of 10 B are kept ({}), and go on when alice runs the same command again"
    run.command.path_ends(path, "alice", PeerStopped("the peer reports: stopped"), transfers[0])
    said = [f"alice was stopped there; {kept.format('x')}"]
    assert [note["message"] for note in run.events("note")] == said
    run.command.path_ends(path, "alice", PeerFailed("y changed"), transfers[1])
    assert [note["message"] for note in run.events("note")] == [
        *said,
        f"alice could not go on: y changed; {kept.format('y')}",
    ]


def test_a_store_that_cannot_be_read_lets_nobody_in_and_stops_nothing(make: Any, tmp_path: Path) -> None:
    """It is asked at every turn of a path: what is under way goes on, and it is said once until it is mended."""
    home = Home(tmp_path / "home")
    home.add_contact(Contact("alice", PeerId(KEY), "code", "2026-11-21"))
    run = make()
    transfer = run.transfer()
    run.accept(transfer)
    run.pass_time(0.1)
    stored = (home.path / "contacts.json").read_text()
    (home.path / "contacts.json").write_text("{")
    path: Any = SimpleNamespace(facts=SimpleNamespace(number=1), peer_key=KEY, peer_name="alice")
    for error in (Refused("no"), IdentityMismatch("no"), CodeNeeded("no"), Unreachable("the line was cut")):
        run.command.path_ends(path, "alice", error, None)
        assert run.command.known(KEY) is None
    told = [note["message"] for note in run.events("note") if "is let in" in note["message"]]
    assert len(told) == 1 and told[0].startswith("nobody is let in: ")
    (home.path / "contacts.json").write_text(stored)
    assert run.command.known(KEY).name == "alice"
    (home.path / "contacts.json").write_text("{")
    assert run.command.known(KEY) is None
    assert len([note for note in run.events("note") if "is let in" in note["message"]]) == 2
    assert not run.ended.called
    transfer.end(GOOD)
    assert run.events("done")


@pytest.mark.parametrize(
    ("farewell", "said"),
    [
        (PeerStopped("the peer reports: stopped"), "alice was stopped there before anything was taken of a"),
        (
            PeerFailed("a is not there any more"),
            "alice could not go on: a is not there any more; nothing was taken of a",
        ),
    ],
)
def test_a_sender_that_left_before_it_was_taken_left_nothing(make: Any, farewell: PeerStopped, said: str) -> None:
    run = make()
    transfer: Any = run.transfer()
    path: Any = SimpleNamespace(facts=SimpleNamespace(number=1), peer_key=bytes(32))
    (watch,) = run.command._watches
    watch.paths = SimpleNamespace(active_kind="relay", get=lambda number: path)
    run.command.path_ends(path, "alice", farewell, transfer)
    (note,) = run.events("note")
    assert note["message"] == said


class Asked:
    """Questions that are answered by hand."""

    def __init__(self) -> None:
        self.open: list[Deferred[bool]] = []

    async def ask(self, compose: Callable[[], str], *, tries: int = 1) -> bool:
        answer: Deferred[bool] = Deferred()
        self.open.append(answer)
        try:
            return await answer
        finally:
            self.open.remove(answer)

    def close(self) -> None:
        """Nobody answers any more."""


def _offered(make: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Asked, Any, Any]:
    """A run that asks about a transfer, the questions, the transfer and what was decided."""
    monkeypatch.setattr(receiving, "IncomingTransfer", FakeTransfer)
    run = make(once=True, acceptance="ask")
    asked: Any = Asked()
    run.command._questions = run.command._deciding._questions = asked
    transfer = run.transfer()
    return run, asked, transfer, Deferred.fromCoroutine(run.command.decide("alice", transfer.offer))


def _stops(run: Run, transfer: FakeTransfer, left: int) -> None:
    """The sender takes its leave on one of its paths, of which so many carry the transfer after that."""
    path: Any = SimpleNamespace(facts=SimpleNamespace(number=1), peer_key=KEY, peer_name="alice")
    paths: Any = SimpleNamespace(active_kind="relay", peer_leaves=True, get=lambda number: path)
    for watch in run.command._watches:
        watch.paths = paths
    brought: Any = transfer
    run.command.path_ends(path, "alice", PeerStopped("the peer reports: stopped"), brought)
    transfer.attached = left
    run.command.path_gone(path)


def test_a_question_goes_away_with_the_sender_that_was_stopped(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, asked, transfer, decided = _offered(make, monkeypatch)
    assert len(asked.open) == 1
    _stops(run, transfer, 0)
    run.pass_time(3)
    assert asked.open == [] and decided.result is False
    assert transfer.abandoned  # the next offer of the same is another transfer, of which it is asked anew
    assert [note["message"] for note in run.events("note")] == [
        "alice was stopped there before anything was taken of a"
    ]
    assert not run.events("error") and not run.ended.called


def test_a_question_stays_for_another_program_that_brings_the_same(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, asked, transfer, decided = _offered(make, monkeypatch)
    _stops(run, transfer, 1)
    run.pass_time(3)
    assert not transfer.abandoned and not decided.called
    asked.open[0].callback(True)
    assert decided.result is True
    run.pass_time(0.1)


def test_a_question_goes_away_with_a_sender_that_does_not_come_back(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, asked, transfer, decided = _offered(make, monkeypatch)
    transfer.attached = 0
    run.pass_time(3)
    assert len(asked.open) == 1
    transfer.abandon()
    assert asked.open == [] and decided.result is False
    assert [note["message"] for note in run.events("note")] == ["alice has not come back; nothing was taken of a"]
    assert not run.ended.called


def test_who_stops_the_run_answers_no_question(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A no would refuse the sender, which may try again."""
    run, asked, _, decided = _offered(make, monkeypatch)
    run.ended.cancel()
    assert len(asked.open) == 1 and not decided.called


def _cancel(run: Run) -> None:
    run.ended.cancel()


def _deafen(run: Run) -> None:
    run.command._finish(Interrupted("nobody reads the output any more"))


def _break(run: Run) -> None:
    run.command._finish(Unreachable("the server is gone"))


def _wait(run: Run) -> None:
    run.pass_time(6)


def _receive(run: Run) -> None:
    transfer = run.transfer()
    run.accept(transfer)
    run.pass_time(1)
    transfer.end(GOOD)
    transfer.settled.callback(None)


@pytest.mark.parametrize(
    ("ends", "stopped"), [(_cancel, True), (_deafen, True), (_break, False), (_wait, False), (_receive, False)]
)
def test_the_senders_hear_of_a_stop_and_of_no_other_end_that_it_was_one(
    make: Any, ends: Callable[[Run], None], stopped: bool
) -> None:
    run = make(timeout=5.0, once=True)
    ends(run)
    assert run.ended.called
    (farewell,) = FakeInbox.farewells
    assert (farewell is not None) == stopped


class FakeFiles(FakeTransfer):
    """A transfer of files."""


class FakeStream(FakeTransfer):
    """A stream."""


FILES = (
    "what arrived is kept, and goes on when this command is run again; a sender that does not wait any more by then is"
    " to be run again too"
)
"""How long that is it was told alone."""
STREAM = f"the stream is not whole: {CANNOT_GO_ON}"


@pytest.mark.parametrize(
    ("kinds", "taken", "said"),
    [
        ([], True, "interrupted; no transfers received"),
        ([FakeFiles], False, "interrupted; no transfers received"),
        ([FakeFiles], True, f"interrupted; {FILES}"),
        ([FakeStream], True, f"interrupted; {STREAM}"),
        ([FakeStream, FakeFiles], True, f"interrupted; {FILES}; {STREAM}"),
    ],
)
def test_who_stops_reads_what_is_kept_and_nothing_else(
    make: Any, monkeypatch: pytest.MonkeyPatch, kinds: list[type[FakeTransfer]], taken: bool, said: str
) -> None:
    monkeypatch.setattr(watching, "IncomingTransfer", FakeFiles)
    monkeypatch.setattr(watching, "IncomingStream", FakeStream)
    run = make()
    for kind in kinds:
        transfer = run.transfer(kind)
        if taken:
            run.accept(transfer)
    run.pass_time(1)
    run.ended.cancel()
    assert run.ended.result.message == said


def test_who_stops_while_the_sender_is_away_reads_the_same(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "IncomingTransfer", FakeFiles)
    run = make()
    transfer = run.transfer(FakeFiles)
    run.accept(transfer)
    transfer.attached = 0
    run.pass_time(1)
    run.ended.cancel()
    assert run.ended.result.message == f"interrupted; {FILES}"


def test_where_the_server_is_away_nobody_is_said_to_be_gone(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make()
    transfer = run.transfer()
    transfer.attached, transfer.have_bytes = 0, 4
    run.accept(transfer)
    monkeypatch.setattr(FakeClient, "registered", None)
    run.pass_time(2 * GONE_S)
    (note,) = run.events("note")
    assert note["message"] == "no path to alice while the server is away; 4 B are here, and it goes on by itself"
    monkeypatch.setattr(FakeClient, "registered", "as bob again")
    run.pass_time(GONE_S - 1)
    assert len(run.events("note")) == 1
    run.pass_time(2)
    said = run.events("note")[1]["message"]
    assert said.startswith("no path to alice since the server was away; ")
    assert "alice is gone" not in said


def test_a_server_that_was_away_for_a_moment_is_named_where_a_relayed_transfer_waits(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is said to be gone for what the end of a relay does; who does not come back much later is."""
    run = make()
    transfer = run.transfer()
    run.accept(transfer)
    run.pass_time(1)
    transfer.attached = 0
    monkeypatch.setattr(FakeClient, "registered", None)
    run.pass_time(GONE_S - 2)
    monkeypatch.setattr(FakeClient, "registered", "as bob again")
    run.pass_time(GONE_S)
    (note,) = run.events("note")
    assert note["message"].startswith("no path to alice since the server was away; ")
    transfer.attached = 1
    run.pass_time(1)
    transfer.attached = 0
    run.pass_time(2 * GONE_S)
    assert run.events("note")[1]["message"].startswith("alice is gone: ")


def test_who_registers_again_reads_that_the_code_still_holds(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = make()
    run.command._report = run.command._desk._report = Reporter(False, False)
    answer: Any = SimpleNamespace(observed="192.0.2.1:5")
    capsys.readouterr()
    run.command._registered(answer)
    assert "this machine: " in capsys.readouterr().err
    run.command._registered(answer)
    again = "registered again as bob, seen as 192.0.2.1:5"
    assert capsys.readouterr().err == f"{again}; the one-time code that was shown still holds\n"
    run.command._desk.close()
    run.command._registered(answer)
    assert capsys.readouterr().err == f"{again}\n"


@pytest.mark.parametrize("error", [None, WRONG], ids=["used", "wrong"])
def test_no_code_is_shown_with_no_code(make: Any, error: P2pxferError | None) -> None:
    run = make(no_code=True, acceptance="all")
    run.command.code_used(error)
    run.pass_time(1)
    assert not run.events("code")
    assert len(run.events("error")) == (error is not None)


def test_wrong_tries_cost_ever_longer_pauses_and_then_there_is_no_code(make: Any) -> None:
    run = make()
    assert len(run.events("code")) == 1
    for number, pause in enumerate(FRESH_PAUSES, 2):
        run.use_up(WRONG)
        if pause:
            run.pass_time(pause - 0.1)
            assert len(run.events("code")) == number - 1
            run.pass_time(0.2)
        assert len(run.events("code")) == number
    notes = len(run.events("note"))
    run.use_up(WRONG)
    assert "started again" in run.events("note")[-1]["message"]
    run.command.code_used(WRONG)
    run.clock.advance(100_000)
    assert len(run.events("code")) == 1 + len(FRESH_PAUSES)
    assert len(run.events("note")) == notes + 1


@pytest.mark.parametrize("quiet", [False, True])
def test_a_wrong_code_is_one_line_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str], quiet: bool) -> None:
    clock: Any = Clock()
    codes = CodeBook()
    desk = CodeDesk(clock, codes, Reporter(False, quiet), None)
    desk.open()
    capsys.readouterr()
    for slot in codes.open_slots:
        codes.close(slot)
    desk.used(WRONG, "one")
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if not line.startswith("one-time code")] == ["one tried a wrong code; it is spent"]
    clock.advance(0)
    not_open = "tried a code that is not open: it was used or has expired, or is mistyped"
    desk.used(WRONG, "another")  # of another number: nothing is burned
    assert capsys.readouterr().err == f"another {not_open}; the one that is shown still holds\n"
    desk.close()
    CodeDesk(clock, codes, Reporter(False, quiet), None).used(WRONG)
    assert capsys.readouterr().err == f"somebody {not_open}\n"


def test_who_gave_a_code_himself_is_told_how_to_get_another_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock: Any = Clock()
    codes = CodeBook()
    desk = CodeDesk(clock, codes, Reporter(False, True), parse_code("1-apple-bacon-cable"))
    desk.open()
    codes.close(1)
    capsys.readouterr()
    desk.used(WRONG, "one")
    assert capsys.readouterr().err == "one tried a wrong code; it is spent; start receive again for another one\n"
    desk.close()


def test_a_desk_that_is_closed_shows_no_code_whatever_is_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock: Any = Clock()
    codes = CodeBook()
    desk = CodeDesk(clock, codes, Reporter(True, False), None)
    desk.open()
    desk.close()
    assert codes.open_slots == ()
    capsys.readouterr()
    desk.used(WRONG)
    desk.used(None)
    clock.advance(1000.0)
    assert "code" not in [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert codes.open_slots == ()


def test_a_contact_that_cannot_be_stored_is_told(make: Any, tmp_path: Path) -> None:
    run = make()
    (tmp_path / "home" / "contacts.json").write_text("{damaged")
    with pytest.raises(ConfigError):
        run.command.paired(b"k" * 32, "alice", tuple)
    assert [event["code"] for event in run.events("error")] == [ConfigError.word]


def test_success_ends_the_row_of_wrong_tries(make: Any) -> None:
    run = make()
    for _ in range(3 * len(FRESH_PAUSES)):
        shown = len(run.events("code"))
        run.use_up(WRONG)
        assert len(run.events("code")) == shown + 1
        run.use_up(None)
        assert len(run.events("code")) == shown + 2


def test_a_fresh_code_is_shown_once(make: Any) -> None:
    """Two tries that end in the same moment, and a try at a code that is not there."""
    run = make()
    run.use_up(None)
    run.command.code_used(None)
    run.command.code_used(WRONG)
    assert len(run.events("code")) == 2
    run.use_up(WRONG)
    run.use_up(WRONG)
    shown = len(run.events("code"))
    for _ in range(20):
        run.command.code_used(WRONG)  # in the pause
    run.pass_time(FRESH_PAUSES[1] + 0.1)
    assert len(run.events("code")) == shown + 1


def test_a_code_that_expires_is_replaced_by_one(make: Any) -> None:
    run = make()
    run.clock.advance(600.0)
    run.clock.advance(1)
    assert len(run.events("code")) == 2
    run.use_up(WRONG)
    run.use_up(WRONG)
    run.clock.advance(1)
    assert len(run.events("code")) == 3


def test_the_code_of_the_command_line_is_never_replaced(make: Any) -> None:
    run = make(code_words=WORDS)
    run.use_up(WRONG)
    run.clock.advance(1000)
    assert len(run.events("code")) == 1


def test_the_pauses_of_wrong_tries() -> None:
    tries = WrongTries()
    assert [tries.wrong() for _ in range(6)] == [*FRESH_PAUSES, None, None]
    assert len(FRESH_PAUSES) == 4
    tries.right()
    assert tries.wrong() == 0


def test_no_progress_before_the_transfer_was_accepted(make: Any) -> None:
    run = make()
    transfer, other = run.transfer(), run.transfer()
    run.pass_time(2)
    assert not run.events("progress")
    run.accept(transfer)
    transfer.have_bytes = 4  # from an earlier run, counted once the transfer is accepted
    assert not run.events("progress")
    run.pass_time(0.5)
    assert [event["bytes"] for event in run.events("progress")] == [4]
    assert run.events("progress")[0]["rate"] == 0
    transfer.end(GOOD)
    other.end(Refused("no"))
    count = len(run.events("progress"))
    run.pass_time(2)
    assert len(run.events("progress")) == count == 2


def test_people_see_the_progress_of_one_transfer(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that a path carries; one that waits for its sender only where there is no other, and as that."""
    run = make()
    shown: list[tuple[int, str | None, str]] = []

    def progress(event: Progress, waits: str | None) -> None:
        shown.append((event.bytes, waits, event.path))

    def seen() -> set[tuple[int, str | None, str]]:
        run.pass_time(6)
        found = set(shown)
        shown.clear()
        return found

    first = run.transfer()
    monkeypatch.setattr(run.command._report, "_progress", progress)
    run.command._report._json = False
    first.have_bytes = 1
    run.accept(first)
    assert seen() == {(1, None, "relay")}
    first.attached = 0
    assert seen() == {(1, "waiting for alice: a", "none")}
    second = run.transfer()
    second.have_bytes = 2
    assert seen() == {(1, "waiting for alice: a", "none")}, "what is not taken is not shown"
    run.accept(second)
    run.pass_time(0.5)
    shown.clear()
    assert seen() == {(2, None, "relay")}
    second.ended = True
    assert seen() == {(1, "waiting for alice: a", "none")}
    second.end(GOOD)
    first.end(Incomplete("it has not come back"))
    shown.clear()
    assert seen() == set()


def test_what_a_newer_transfer_of_the_same_names_replaces_is_let_go(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sender does not come back: the files have changed.  What somebody brings, has other names, or ran beside it,
    stays.
    """
    monkeypatch.setattr(receiving, "IncomingTransfer", FakeTransfer)
    monkeypatch.setattr(watching, "IncomingTransfer", FakeTransfer)
    run = make()
    _older, brought, another, elsewhere, refused = made = [run.transfer() for _ in range(5)]
    another.offer = structs.replace(another.offer, names=("b",))
    for transfer in made:
        if transfer is not refused:
            run.accept(transfer)
        transfer.have_bytes, transfer.attached = 3, int(transfer is brought)
    run.pass_time(1)
    newer = run.transfer()
    run.accept(newer)
    beside = run.transfer()
    run.accept(beside)
    beside.have_bytes = 3
    run.pass_time(1)
    beside.attached = 0
    paths: Any = SimpleNamespace(active_kind="relay")
    for watch in run.command._watches:
        if watch.transfer is not elsewhere:
            watch.paths = paths
    run.pass_time(0.1)
    newer.end(GOOD)
    assert [transfer.abandoned for transfer in [*made, newer, beside]] == [True, *[False] * 6]
    assert run.events("note")[-1]["message"] == (
        f"3 B are kept of an earlier transfer of the same name, a: p2pxfer jobs cancel {made[0].job} drops them"
    )


def test_a_direct_transfer_is_said_to_go_on_without_the_server(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each time that it is away; through the relay nothing goes on."""
    run = make()
    transfer = run.transfer()
    run.accept(transfer)
    (watch,) = run.command._watches
    monkeypatch.setattr(FakeClient, "registered", None)
    run.pass_time(1)
    assert run.events("note") == []
    watch.paths = SimpleNamespace(active_kind="punched")
    for times in (1, 2):
        monkeypatch.setattr(FakeClient, "registered", None)
        run.pass_time(1)
        notes = [event["message"] for event in run.events("note")]
        assert notes == ["the transfer from alice goes on directly, without the server"] * times
        monkeypatch.setattr(FakeClient, "registered", "as bob again")
        run.pass_time(1)
    monkeypatch.setattr(FakeClient, "registered", None)
    run.pass_time(1)
    transfer.attached = 0
    run.pass_time(2 * GONE_S)
    assert run.events("note")[-1]["message"].startswith("no path to alice while the server is away")


def test_who_takes_leave_while_words_are_compared_is_not_asked_about_again(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of its connections goes first, and the others in the same moment; one that stays has its own words."""
    run = make(verify=True)
    asked: list[object] = []

    async def ask(key: bytes, shown: str, words: object, connection: object) -> None:
        asked.append(connection)
        raise CancelledError

    monkeypatch.setattr(wordscheck, "words_on", lambda path: ("a",))
    monkeypatch.setattr(run.command._words, "ask", ask)
    transfer = run.transfer()
    there = [SimpleNamespace(peer_key=b"a" * 32, send=lambda message: None, number=number) for number in (1, 2)]
    (watch,) = run.command._watches
    watch.paths = SimpleNamespace(ordered=lambda: there)
    answer = Deferred.fromCoroutine(run.command._deciding._same_words(watch, "alice"))
    assert asked == [there[0]]
    run.pass_time(0.3)
    gone, there = there, []
    run.pass_time(3)
    assert asked == [gone[0]]
    there = [gone[1]]
    run.pass_time(0.5)
    assert asked == gone
    transfer.ended = True
    run.pass_time(2)
    assert asked == gone and answer.result is False


def test_a_transfer_that_is_given_up_leaves_no_progress_on_the_terminal(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make()
    rested: list[int] = []
    monkeypatch.setattr(run.command._report, "rest", lambda: rested.append(1))
    transfer = run.transfer()
    run.accept(transfer)
    run.pass_time(0.1)
    transfer.end(Incomplete("it has not come back"))
    assert rested == []  # not an IncomingTransfer: its end is an error, which takes the progress away
    assert [event["code"] for event in run.events("error")] == ["E_INCOMPLETE"]
    monkeypatch.setattr(receiving, "IncomingTransfer", FakeTransfer)
    transfer = run.transfer()
    run.accept(transfer)
    run.pass_time(0.1)
    transfer.end(Incomplete("it has not come back"))
    assert rested == [1]


def test_a_no_of_this_user_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any) -> None:
    run = make(acceptance="ask")
    run.command._report = run.command._ends._report = Reporter(False, False)
    refused, other = run.transfer(), run.transfer()
    refused.end(RefusedHere())
    other.end(Refused("no room"))
    assert [line for line in capsys.readouterr().err.splitlines() if "error" in line] == ["error: no room"]


def test_an_offer_that_is_refused_beside_another_one_does_not_end_once(make: Any) -> None:
    """Else anybody who may offer something ends what comes from somebody else."""
    run = make(once=True)
    first, beside = run.transfer(), run.transfer()
    beside.end(Refused("standard output has got it"))
    assert not run.ended.called
    assert [event["code"] for event in run.events("error")] == ["E_DENIED"]
    run.accept(first)
    run.pass_time(0.1)
    another = run.transfer()
    another.end(Refused("standard output has got it"))
    assert not run.ended.called
    late = run.transfer()
    first.end(GOOD)
    late.end(Refused("standard output has got it"))
    assert not run.ended.called
    first.settled.callback(None)
    assert run.ended.result is None


def test_with_once_what_was_accepted_ends_the_run_and_so_does_the_only_offer(make: Any) -> None:
    run = make(once=True)
    accepted, beside = run.transfer(), run.transfer()
    run.accept(accepted)
    run.pass_time(0.1)
    accepted.end(Damaged("not what was sent"))
    assert isinstance(run.ended.result, Damaged)
    beside.end(Refused("no"))
    run = make(once=True)
    run.transfer().end(Refused("no"))
    assert isinstance(run.ended.result, Refused)


def test_the_timeout_does_not_cut_a_transfer(make: Any) -> None:
    run = make(timeout=3.0)
    run.pass_time(2)
    transfer = run.transfer()
    run.accept(transfer)
    run.pass_time(20)
    transfer.attached = 0
    run.pass_time(10)
    assert not run.ended.called
    transfer.attached = 1
    run.pass_time(1)
    transfer.end(GOOD)
    run.pass_time(2.9)
    assert not run.ended.called
    run.pass_time(0.4)
    assert run.ended.called and run.ended.result is None
    assert "nothing more came within 3 seconds" in run.events("note")[-1]["message"]


@pytest.mark.parametrize("attempt", [False, True])
def test_the_timeout_without_success_is_an_error(make: Any, attempt: bool) -> None:
    run = make(timeout=3.0)
    if attempt:
        transfer = run.transfer()
        run.accept(transfer)
        run.pass_time(5)
        transfer.end(Damaged("damaged"))
    run.pass_time(2.9)
    assert not run.ended.called
    run.pass_time(0.4)
    assert isinstance(run.ended.result, Unreachable)
    assert run.ended.result.exit_code == 3


def test_a_transfer_whose_sender_never_comes_back_does_not_stop_the_timeout_for_ever(make: Any) -> None:
    run = make(timeout=3.0)
    transfer = run.transfer()
    run.accept(transfer)
    run.pass_time(1)
    transfer.attached = 0
    run.pass_time(IDLE_S)
    assert not run.ended.called
    run.pass_time(4)
    assert isinstance(run.ended.result, Unreachable)


# -- whole programs ------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Scene(Loopback(), tmp_path, loopback=True) as made:
        made.start_server()
        made.make_contacts()
        yield made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_receiver_that_asks(scene: Scene, number: int) -> None:
    # Whoever runs the tests may ignore SIGHUP, as nohup does, and programs inherit that.
    before = signal.signal(number, signal.SIG_DFL)
    scene.callback(signal.signal, number, before)
    typing, into = os.pipe()
    scene.callback(os.close, into)

    class Typing:
        def popen(self, role: str, argv: Any, **options: Any) -> Any:
            return scene.place.popen(role, argv, **(options | {"stdin": typing}))

    argv = ["receive", "--as", "bob", "--to", scene.inbox, "--no-code", "--accept", "ask"]
    command = [str(word) for word in (*client_words(scene), *argv)]
    log = scene.folder / "asked.log"
    bob = Program(Typing(), "bob", command, log)
    scene.callback(bob.stop)
    os.close(typing)
    bob.wait_for("registered")
    source = scene.folder / "file.bin"
    source.write_bytes(b"x" * 1000)
    scene.send(source)
    deadline = time.monotonic() + 40
    while b"[y/N]" not in log.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(bob.pid, number)
    ended = bob.wait(40)  # with a thread that reads for ever it would not end at all
    assert ended.status == 130
    text = log.read_text()
    assert "take file.bin (1000 B, " in text and "free here) from alice? [y/N] " in text
    assert "Fatal" not in text and "Traceback" not in text
    assert last(events_of(bob), "error")["code"] == "E_INTERRUPTED"


def client_words(scene: Scene) -> list[str | Path]:
    return [Path(sys.executable).parent / "p2pxfer", "--server", scene.address, "--home", scene.bob, "--json"]


STEPPED = """
import time
real, registered = time.time, []
time.time = lambda: real() + (STEP if registered and time.monotonic() - registered[0] > 1 else 0)
from p2pxfer.cli import main, report
tell = report.Reporter.tell

def told(self, event, text=None):
    if event.event == "registered":
        registered.append(time.monotonic())
    tell(self, event, text)

report.Reporter.tell = told
main.main()
"""
"""The command, on a machine whose wall clock is set a second after it has registered."""

TIMERS = """
import time
real, begun = time.time, []
time.time = lambda: real() + (STEP if begun and time.monotonic() - begun[0] > 0.3 else 0)
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import LoopingCall, deferLater
from p2pxfer.cli.run import run

async def main(reactor):
    ticks = []
    begun.append(time.monotonic())
    loop = LoopingCall(lambda: ticks.append(reactor.seconds()))
    loop.start(0.1)
    await deferLater(reactor, 1.0)
    assert time.monotonic() - begun[0] > 0.95
    while len(ticks) < 8:
        await deferLater(reactor, 0.1)
    loop.stop()
    took = time.monotonic() - begun[0]
    assert len(ticks) <= 2 + took / 0.1, (ticks, took)
    try:
        await Deferred().addTimeout(0.5, reactor)
    except TimeoutError:
        pass
    assert time.monotonic() - begun[0] - took > 0.45

run(main, 0)
"""


@contextlib.contextmanager
def script(folder: Path, text: str, step: float) -> Iterator[list[str]]:
    path = folder / "script.py"
    path.write_text(text.replace("STEP", str(step)))
    yield [sys.executable, str(path)]


def python_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


HANG_UP = """
import os, signal, sys
signal.signal(signal.SIGHUP, getattr(signal, sys.argv[1]))
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from p2pxfer.cli.run import run
from p2pxfer.errors import Interrupted

async def main(reactor):
    await deferLater(reactor, 0)
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)
    try:
        await deferLater(reactor, 0.5)
        print("lives on")
    except CancelledError:
        await deferLater(reactor, 0.05)
        print("farewell")
        raise

try:
    run(main, 0)
except Interrupted:
    print("interrupted")
"""


@pytest.mark.parametrize(("before", "said"), [("SIG_DFL", ["farewell", "interrupted"]), ("SIG_IGN", ["lives on"])])
def test_a_terminal_that_is_closed_ends_what_does_not_ignore_it(tmp_path: Path, before: str, said: list[str]) -> None:
    """The signal comes twice: from the shell and from the kernel."""
    with script(tmp_path, HANG_UP, 0) as argv:
        done = subprocess.run(
            [*argv, before], env=python_path(), capture_output=True, text=True, timeout=50, check=False
        )
    assert (done.returncode, done.stdout.split("\n")) == (0, [*said, ""]), done


@pytest.mark.parametrize("step", [-3600, 3600])
def test_timers_do_not_heed_a_step_of_the_clock(tmp_path: Path, step: float) -> None:
    with script(tmp_path, TIMERS, step) as argv:
        done = subprocess.run(argv, env=python_path(), capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("step", [-3600, 3600])
def test_the_command_does_not_heed_a_step_of_the_clock(scene: Scene, step: float) -> None:
    """Four seconds without a transfer are four seconds, and the server is there all the time."""
    words = [str(word) for word in client_words(scene)[1:]]
    words += ["receive", "--as", "bob", "--to", str(scene.inbox), "--no-code", "--timeout", "4"]
    with script(scene.folder, STEPPED, step) as argv:
        done = subprocess.run([*argv, *words], env=python_path(), capture_output=True, text=True, timeout=50,
                              check=False)  # fmt: skip
    assert done.returncode == 3, done
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["registered", "error"], events
    assert 3.5 < events[1]["t"] - events[0]["t"] < 100, events


def test_the_server_follows_a_monotonic_clock(tmp_path: Path) -> None:
    text = """
import os, time
from p2pxfer.tap import rendezvous as tap
from twisted.internet import reactor
options = tap.Options()
options.parseOptions(["--listen", "tcp:0:interface=127.0.0.1", "--state", "PLACE"])
service = tap.makeService(options)
service.startService()
waits = [call.getTime() - time.monotonic() for call in reactor.getDelayedCalls()]
print(abs(reactor.seconds() - time.monotonic()) < 1, bool(waits), all(-1 < wait < 4000 for wait in waits), flush=True)
os._exit(0)  # the service runs, and nobody stops it
"""
    with script(tmp_path, text.replace("PLACE", str(tmp_path / "state")), 0) as argv:
        done = subprocess.run(argv, env=python_path(), capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout.splitlines()[-1:] == ["True True True"], done


# -- why a path ended ----------------------------------------------------------------------------------------------


def ending(
    make: Any, capsys: pytest.CaptureFixture[str], why: P2pxferError, *, compared: bool = False, denied: bool = False,
    contact: bool = True, acceptance: str = "contacts",
) -> str:  # fmt: skip
    """What people see when a path of alicia, a contact or not, ends for this reason."""
    command = make(acceptance=acceptance).command
    home = command._machine.home
    if contact:
        home.add_contact(Contact("alicia", PeerId(b"a" * 32), "code", "2026-01-02"))
    if denied:
        home.set_rights("alicia", [Right.FILES], allowed=False)
    path: Any = SimpleNamespace(peer_key=b"a" * 32, peer_name="alicia\n")
    if compared:
        command._words.show(path.peer_key, "alicia", ("a",) * 8, path)
    capsys.readouterr()
    command._report._json = False
    command.path_ends(path, "alicia", why, None)
    command._ends.tell(PathEvent("direct", "down", "", "", None, 1.0, why.message))
    command._ends.tell(Note("and so on"))
    said = capsys.readouterr().err
    assert said.endswith("and so on\n")
    return said.removesuffix("and so on\n")


DIFFER_THERE = IdentityMismatch(f"the peer reports: {DIFFER}")


def test_a_no_there_is_said_from_here(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    said = ending(make, capsys, DIFFER_THERE, compared=True)
    assert said == (
        "alicia's user says that the words differ: nothing was taken; if it was no mistake, remove the contact and pair"
        " again\n"
    )


@pytest.mark.parametrize("waited_for", ["", "another", "what came before"])
def test_with_once_a_no_there_is_the_outcome_unless_something_else_is(make: Any, waited_for: str) -> None:
    run = make(once=True)
    if waited_for:
        transfer = run.transfer()
        run.accept(transfer)
        run.pass_time(0.1)
    if waited_for == "what came before":
        transfer.end(GOOD)
    path: Any = SimpleNamespace(peer_key=b"a" * 32, peer_name="alicia")
    run.command._words.show(path.peer_key, "alicia", ("a",) * 8, path)
    run.command.path_ends(path, "alicia", DIFFER_THERE, None)
    notes = [note["message"] for note in run.events("note")]
    if waited_for:
        assert not run.ended.called
        assert notes == ["alicia's user says that the words differ: nothing was taken"]
        if not transfer.ended:
            transfer.end(GOOD)
        transfer.settled.callback(None)
    else:
        error = run.ended.result
        assert (type(error), error.exit_code, notes) == (IdentityMismatch, 5, [])
        assert error.message == "alicia's user says that the words differ: nothing was taken"


def test_a_contact_that_is_denied_files_is_said_with_what_lets_it(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ending(make, capsys, Refused("bob takes no files from you"), denied=True)
    assert said == "alicia offered files and was refused: p2pxfer contacts allow alicia files lets it\n"


@pytest.mark.parametrize("why", [DIFFER_THERE, Refused("too many"), Unreachable("reset")])
def test_any_other_end_of_a_path_is_said_as_that(
    make: Any, capsys: pytest.CaptureFixture[str], why: P2pxferError
) -> None:
    """Where no words were compared nobody can say that they differ."""
    assert ending(make, capsys, why) == f"path lost: direct ({why.message})\n"


STRANGER = f"{PeerId(b'a' * 32)}, which calls itself alicia\\x0a,"


def test_who_is_no_contact_is_said_to_be_asked_for_a_code(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What its user is to do stands there, and not here."""
    said = ending(make, capsys, CodeNeeded("bob does not know this key: ask for the code"), contact=False)
    assert said == f"{STRANGER} is no contact here: nothing was taken, and it was asked for a one-time code\n"


@pytest.mark.parametrize("why", [WRONG, Unreachable("Connection was closed cleanly.")])
def test_that_a_stranger_goes_is_no_news(make: Any, capsys: pytest.CaptureFixture[str], why: P2pxferError) -> None:
    """It carried nothing; of a wrong code the desk tells."""
    assert ending(make, capsys, why, contact=False) == ""


def test_where_everybody_may_send_the_paths_of_a_stranger_are_told(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(make, capsys, Unreachable("reset"), contact=False, acceptance="all") == "path lost: direct (reset)\n"


def test_a_wrong_code_is_said_with_whoever_tried_it(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = make()
    run.command.code_tried(SimpleNamespace(peer_key=b"a" * 32, peer_name="alicia\n"))
    run.use_up(WRONG)
    assert run.events("note")[-1]["message"].startswith(f"{STRANGER} tried a wrong code; it is spent")
