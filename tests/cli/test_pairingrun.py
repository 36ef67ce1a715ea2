"""The run of ``pair`` on a clock of its own: what a proved code comes to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from p2pxfer import status
from p2pxfer.cli import pairing, pairwords
from p2pxfer.cli.pairwords import ADVICE, BOTH, NOTHING
from p2pxfer.cli.settings import Global
from p2pxfer.core.contact.codes import parse_code
from p2pxfer.core.ids import PeerId
from p2pxfer.errors import ConfigError, IdentityMismatch, P2pxferError, Refused, Unreachable, WrongCode
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.session import machine
from p2pxfer.net.session.joining import Proved
from tests.cli.nobody import FakeClient, FakeInbox
from tests.net.machines import machine_at

KEY = b"k" * 32


class Run:
    """A run that shows a code, or enters one."""

    def __init__(self, folder: Path, entered: str | None = None, timeout: float | None = None) -> None:
        self.clock = Clock()
        self.home = Home(folder / "home")
        code = None if entered is None else parse_code(entered)
        self.command = pairing.Pairing(Global(None, None, True, 0), code, None, qr=False, timeout=timeout)
        self.ended = Deferred.fromCoroutine(self.command.run(machine_at(self.home, self.clock, "bob")))
        self.ended.addErrback(lambda failure: failure.value)
        assert not self.ended.called, self.ended.result


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(pairing, "Inbox", FakeInbox)
    monkeypatch.setattr(machine, "RendezvousClient", FakeClient)
    made = Run(tmp_path)
    yield made
    made.ended.cancel()
    assert not made.clock.getDelayedCalls()


def test_a_proved_code_ends_the_run_with_a_contact(run: Run) -> None:
    assert run.command.paired(KEY, "alice", tuple).name == "alice"
    assert run.ended.result is None
    assert [contact.name for contact in run.home.contacts()] == ["alice"]


def test_contacts_that_cannot_be_read_are_none_and_it_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (run.home.path / "contacts.json").write_text("{")
    assert run.command.known(KEY) is None
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["message"][:17] for event in told if event["event"] == "note"] == ["nobody is let in:"]
    assert not run.ended.called


def test_after_the_words_the_peer_is_told_as_verified_by_them(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run.command._store(KEY, "alice", "words")
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["verified"] for event in told if event["event"] in ("peer", "contact")] == ["words", "words"]


def test_the_peer_is_told_once_and_the_end_of_its_connection_to_programs(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The inbox tells of both; who sits at the terminal wants neither in the question for a code."""
    for event in (status.Peer("alice", "id", "code"), status.Path("lan", "down", "", "", None, 1.0, "it broke")):
        run.command._tell(event)
    run.command.paired(KEY, "alice", tuple)
    told = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert (told.count("peer"), told.count("path")) == (1, 1)
    run.command._report._json = False
    run.command._tell(status.Path("lan", "down", "", "", None, 1.0, "it broke"))
    assert capsys.readouterr().err == ""


def test_the_question_for_a_code_is_over_before_the_contact_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    question: Deferred[None] = Deferred(lambda _: steps.append("withdrawn"))
    question.addErrback(lambda _: None)
    monkeypatch.setattr(run.command, "_asking", question)
    store = run.command._store

    def stored(key: bytes, name: str) -> Any:
        steps.append("stored")
        return store(key, name)

    monkeypatch.setattr(run.command, "_store", stored)
    run.command.paired(KEY, "alice", tuple)
    assert steps == ["withdrawn", "stored"]


class Both:
    """A comparison whose other side says yes when it is told to."""

    def __init__(self) -> None:
        self.other: Deferred[None] = Deferred()

    async def agree(self, ask: Callable[[tuple[str, ...]], Any]) -> None:
        await ask(("a", "b"))
        await self.other


@pytest.fixture
def asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the user was asked, who says yes."""
    texts: list[str] = []

    async def ask(compose: Callable[[], str], *, tries: int) -> bool:
        assert tries > 1  # a slip is no alarm
        texts.append(compose())
        return True

    monkeypatch.setattr(run.command._questions, "ask", ask)
    monkeypatch.setattr(pairwords, "can_answer", lambda descriptor: True)
    return texts


@pytest.mark.parametrize("wanted_here", [True, False])
def test_there_is_a_contact_when_both_have_said_yes(run: Any, asked: list[str], wanted_here: bool) -> None:
    run.command.compares = wanted_here
    both = Both()
    run.command.to_compare(KEY, "alice", both)
    assert asked == [f"compare by voice with alice: a b\n{BOTH}\ndoes the other one read the same words?"]
    assert run.home.contacts() == []
    assert not run.ended.called
    both.other.callback(None)
    assert run.ended.result is None
    assert [contact.verified for contact in run.home.contacts()] == ["words"]


def test_a_contact_by_words_is_written_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pulls the plug between two writes would leave one that only a code vouches for."""
    written: list[list[str]] = []
    save = run.home._save

    def saved(contacts: list[Contact]) -> None:
        written.append([contact.verified for contact in contacts])
        save(contacts)

    monkeypatch.setattr(run.home, "_save", saved)
    run.command._store(KEY, "alice", "words")
    assert written == [["words"]]


def test_a_no_says_only_of_this_machine_that_nothing_was_stored(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sits in between and knows the code can keep the question from the other one, which stores it then."""

    async def no(compose: Callable[[], str], *, tries: int) -> bool:
        assert "if it shows none, say no" in compose()
        return False

    monkeypatch.setattr(run.command._questions, "ask", no)
    monkeypatch.setattr(pairwords, "can_answer", lambda descriptor: True)
    run.command.to_compare(KEY, "alice", Both())
    said = str(run.ended.result)
    assert "Nothing was stored here" in said
    assert "did not ask" in said
    assert "remove there" in said


@pytest.mark.parametrize("before", [None, "code"], ids=["new", "contact"])
def test_a_no_there_leaves_what_was_here(run: Any, asked: list[str], before: Any) -> None:
    if before is not None:
        run.home.add_contact(Contact("alice", PeerId(KEY), before, "2026-01-02"))
    both = Both()
    run.command.to_compare(KEY, "alice", both)
    both.other.errback(IdentityMismatch("the peer reports: no"))
    assert isinstance(run.ended.result, IdentityMismatch)
    assert NOTHING in run.ended.result.message
    assert ADVICE not in run.ended.result.message
    assert [contact.verified for contact in run.home.contacts()] == [before] * (before is not None)


def test_with_nobody_there_to_compare_nothing_is_stored(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairwords, "can_answer", lambda descriptor: False)
    run.command.to_compare(KEY, "alice", Both())
    assert isinstance(run.ended.result, Refused)
    assert run.home.contacts() == []


def begin_to_compare(run: Any) -> tuple[Any, Both]:
    """Somebody proved the code that was shown, and words are compared; the codes, and that comparison."""
    codes, both = run.command._desk._codes, Both()
    codes.take(codes.open_slots[0], run.clock.seconds())
    run.command.to_compare(KEY, "alice", both)
    run.command.code_used(None)
    return codes, both


def test_while_words_are_compared_nobody_else_has_a_code(
    run: Any, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose path was up already may try any number; that shows none and ends nothing."""
    codes, both = begin_to_compare(run)
    capsys.readouterr()
    for _ in range(6):
        run.command.code_used(WrongCode("nobody shows that one"))
        run.clock.advance(200.0)
    assert codes.open_slots == ()
    assert capsys.readouterr().out == ""
    assert not run.ended.called
    both.other.callback(None)
    assert run.ended.result is None


def test_a_code_that_is_open_beside_a_comparison_is_closed(run: Any, asked: list[str]) -> None:
    """A wrong try at a number that nobody shows made a fresh one before the last was proved."""
    codes = run.command._desk._codes
    codes.take(codes.open_slots[0], run.clock.seconds())
    run.command.code_used(WrongCode("nobody shows that one"))
    assert len(codes.open_slots) == 1
    run.command.to_compare(KEY, "alice", Both())
    assert codes.open_slots == ()


@pytest.mark.parametrize("compares", [True, False])
def test_words_are_compared_with_one_peer_only(run: Any, asked: list[str], compares: bool) -> None:
    """Who proves an earlier code meanwhile is refused, and the first comparison goes on."""
    _, both = begin_to_compare(run)
    with pytest.raises(Refused):
        if compares:
            run.command.to_compare(b"m" * 32, "mallory", Both())
        else:
            run.command.paired(b"m" * 32, "mallory", tuple)
    assert len(asked) == 1
    assert not run.ended.called
    both.other.callback(None)
    assert run.ended.result is None
    assert [contact.name for contact in run.home.contacts()] == ["alice"]


def joining_that(monkeypatch: pytest.MonkeyPatch, both: Any, farewell: Deferred[None] | None = None) -> None:
    """A code that is entered leads to alice, and to this comparison; ``farewell`` ends when she is parted from."""

    class Joined:
        def __init__(self, *_: Any, **__: Any) -> None:
            """Nobody is dialled."""

        async def run(self, settle: Callable[[Proved], Any]) -> None:
            await settle(Proved(KEY, "alice", both))
            await (farewell or succeed(None))

    monkeypatch.setattr(pairing, "Joining", Joined)


@pytest.mark.parametrize("ends", [None, Unreachable("the line was cut")])
def test_who_compares_words_after_entering_a_code_shows_none_and_enters_no_other(
    run: Any, asked: list[str], monkeypatch: pytest.MonkeyPatch, ends: P2pxferError | None
) -> None:
    both = Both()
    joining_that(monkeypatch, both)
    lines = iter([b"4-acid-acorn-acre\n"])

    async def line(compose: Callable[[], str]) -> bytes:
        return next(lines)

    monkeypatch.setattr(run.command._questions, "line", line)
    asking = run.command._asking = Deferred.fromCoroutine(run.command._ask(FakeClient()))
    asking.addErrback(run.command._not_joined)
    assert len(asked) == 1
    assert run.command._desk._codes.open_slots == ()
    both.other.callback(None) if ends is None else both.other.errback(ends)
    assert run.ended.result is ends


def test_the_time_to_wait_for_the_other_machine_is_not_one_to_compare_words(
    tmp_path: Path, run: Run, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, both = Run(tmp_path / "other", timeout=30.0), Both()
    monkeypatch.setattr(waiting.command._questions, "ask", run.command._questions.ask)
    waiting.clock.advance(29.0)
    command: Any = waiting.command
    command.to_compare(KEY, "alice", both)
    waiting.clock.advance(60.0)
    assert not waiting.ended.called
    both.other.callback(None)
    assert waiting.ended.result is None
    assert not waiting.clock.getDelayedCalls()


ENTERED = "4-acid-acorn-acre"


@pytest.mark.parametrize("ends", ["the user stops it", "the time is over", "the server is lost"])
def test_who_entered_a_code_has_stored_the_other_one_before_the_farewell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """The other one has stored this machine by then; what ends the run now cuts only the farewell."""
    clients: list[FakeClient] = []

    def client(*words: Any, **named: Any) -> FakeClient:
        clients.append(FakeClient())
        return clients[-1]

    monkeypatch.setattr(machine, "RendezvousClient", client)
    joining_that(monkeypatch, None, Deferred())
    run = Run(tmp_path, ENTERED, timeout=30.0)
    assert [contact.verified for contact in run.home.contacts()] == ["code"]
    match ends:
        case "the user stops it":
            run.ended.cancel()
        case "the time is over":
            run.clock.advance(30.0)
        case _:
            clients[0].failed.callback(Unreachable("the server is gone"))
    assert run.ended.called
    assert run.ended.result is None


def test_a_contact_that_cannot_be_stored_is_the_outcome(run: Run) -> None:
    """The code is spent; whoever waits would wait for ever."""
    (run.home.path / "contacts.json").write_text("{damaged")
    with pytest.raises(ConfigError):
        run.command.paired(KEY, "alice", tuple)
    assert isinstance(run.ended.result, ConfigError)
