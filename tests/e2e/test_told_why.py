"""What a person reads, and a program hears, when the other end gives up: why, once, and which files it is about."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.product import JsonEvent, Program, client
from tests.e2e import faulty_program
from tests.e2e.conftest import (
    MIB,
    Outcome,
    Stage,
    Words,
    check_failure,
    end_of,
    fast_pair,
    fast_stage,
    mounted,
    needs_mounts,
    until_bytes,
    wait_until,
)
from tests.scene import WORDS, events_of, last, random_file

BIG = 8 * MIB


@pytest.fixture
def stage() -> Iterator[Stage]:
    with fast_pair() as made:
        yield made


class Screen:
    """What bob's receiver, which talks to a person, has written."""

    def __init__(self, stage: Stage, *words: str | Path, **options: object) -> None:
        self._log = stage.folder / "screen.txt"
        argv: Words = ["--home", stage.bob, "--server", stage.address, "receive", "--as", "bob", "--to", stage.inbox]
        with self._log.open("w") as screen:
            self.child: subprocess.Popen[bytes] = stage.start(
                stage.binary, *argv, *words, stdout=screen, stderr=screen, **options
            )
        self.wait_for("registered")

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines()

    def wait_for(self, wanted: str) -> None:
        try:
            wait_until(lambda: any(re.search(wanted, line) for line in self.lines))
        except AssertionError:
            raise AssertionError(f"no {wanted!r} in {self.lines}") from None

    def about(self, *words: str) -> list[str]:
        """The lines with any of these words."""
        return [line for line in self.lines if re.search("|".join(words), line)]

    def only(self, *words: str) -> str:
        """The one line with any of these words."""
        found = self.about(*words)
        assert len(found) == 1, "\n".join(self.lines)
        return found[0]


TROUBLE = ("path lost", "error", "refused", "gone", "stopped", "could not go on", "p2pxfer:")


def faulty(stage: Stage, what: str, count: int, source: Path, *more: str) -> Program:
    """A sender to which something happens."""
    words = client(stage.address, stage.alice, "send", *more, source, "bob")[1:]
    argv = [sys.executable, faulty_program.__file__, what, str(count), *words]
    program = Program(stage.place, "alice", argv, stage.folder / "a.log")
    stage.callback(program.stop)
    return program


def rewritten(stage: Stage) -> tuple[Program, str]:
    """The only file changes while it is sent."""
    source = stage.folder / "big.bin"
    random_file(source, 3 * BIG)
    return faulty(stage, "source is rewritten", 20, source), "'big.bin' changed while it was being sent"


def unreadable(stage: Stage) -> tuple[Program, str]:
    """The disk under it fails."""
    source = stage.folder / "live.bin"
    random_file(source, BIG)
    return faulty(stage, "one file cannot be read", 2, source), "reading 'live.bin' failed: Input/output error"


def tree(stage: Stage) -> Path:
    """More names than one page of a list holds, and at the end one that not every system can hold."""
    top = stage.folder / "d"
    top.mkdir()
    for number in range(1500):
        (top / f"{'n' * 60}{number:05}").write_bytes(b"12345678")
    (top / "z:z").write_bytes(b"9")
    return top


def misnamed(stage: Stage) -> tuple[Program, str]:
    """Such a name is found when the first files have gone out already."""
    alice = faulty(stage, "search waits", 3, tree(stage))
    alice.wait_for("accepted")
    (stage.folder / faulty_program.GO).touch()
    return alice, "not every system can hold these names: 'd/z:z': the name 'z:z' is refused: it contains a colon"


def broken(stage: Stage) -> tuple[Program, str]:
    """The program has a bug, of which nothing but that is for others."""
    source = stage.folder / "big.bin"
    random_file(source, BIG)
    return faulty(stage, "program is broken", 3, source), "a fault inside its program"


Fails = Callable[[Stage], tuple[Program, str]]
FAILS: list[Fails] = [rewritten, unreadable, misnamed, broken]


@pytest.mark.parametrize("fails", FAILS)
def test_why_a_sender_could_not_go_on_is_one_line_at_the_receiver(stage: Stage, fails: Fails) -> None:
    bob = Screen(stage, "--no-code")
    alice, why = fails(stage)
    status, said = end_of(alice)
    assert status in ((1,) if fails is broken else (2, 8))
    own = last(said, "error")["message"]
    assert own != why  # whoever can do something about it is told what
    bob.wait_for("could not go on")
    stage.send_good()
    line = bob.only(*TROUBLE)
    assert line.startswith(f"alice could not go on: {why}; "), line
    assert "are kept (" in line and str(stage.folder) not in line


@pytest.mark.parametrize("fails", FAILS)
def test_why_a_sender_could_not_go_on_is_an_event_at_the_receiver(stage: Stage, fails: Fails) -> None:
    bob = stage.receive("--no-code")
    alice, why = fails(stage)
    said = bob.wait_for("note")
    assert said["message"].startswith(f"alice could not go on: {why}; ")
    alice.wait(20)
    stage.send_good()
    bob.stop()
    rest = [event for event in events_of(bob) if event["event"] in ("note", "error")]
    assert [event["code"] for event in rest] == ["E_INTERRUPTED"], rest  # by this test


def test_a_sender_that_fails_before_the_answer_takes_its_question_with_it(stage: Stage) -> None:
    reader, writer = os.pipe()
    bob = Screen(stage, "--accept", "ask", "--no-code", stdin=reader)
    stage.callback(os.close, writer)
    os.close(reader)
    alice = faulty(stage, "search waits", 3, tree(stage))
    bob.wait_for("y/N")
    (stage.folder / faulty_program.GO).touch()
    assert alice.wait(20).status == 2
    bob.wait_for("nothing was taken of d")
    line = bob.only(*TROUBLE)
    assert "alice could not go on: " in line and "it contains a colon; nothing was taken of d" in line


def test_a_stream_that_cannot_be_read_is_said_with_the_reason(stage: Stage) -> None:
    bob = stage.receive("--no-code")
    words = stage.command_line(stage.alice, "send", "-", "bob")
    with Path(os.devnull).open("wb") as not_readable, (stage.folder / "said").open("w") as said:
        alice = stage.start(*words, stdin=not_readable, stdout=said, stderr=said)
    assert alice.wait(20) == 8
    heard: list[JsonEvent] = []
    for event in bob.events(20):
        heard.append(event)
        if event["event"] == "error":
            break
    assert "standard input cannot be read: Bad file descriptor" in heard[-1]["message"]
    assert [event for event in heard if event["event"] == "note"] == []


def test_of_two_senders_only_the_one_that_was_stopped_is_said_to_be(stage: Stage) -> None:
    """Both are programs of one contact: they end by themselves, and each is said with what it sent."""
    sources = [stage.folder / name for name in ("one.bin", "two.bin")]
    bob = Screen(stage, "--no-code")
    senders = []
    for source in sources:
        random_file(source, 2 * BIG)
        senders.append(stage.send(source, "--limit", "1M"))
    for each in senders:
        until_bytes(each, MIB // 2)
    for number, each in enumerate(senders):
        os.kill(each.pid, signal.SIGINT)
        assert each.wait(20).status == 130
        wait_until(lambda: len(bob.about(*TROUBLE)) > number)  # noqa: B023  # it is looked at in this turn
        line = bob.about(*TROUBLE)[number]
        assert line.startswith("alice was stopped there; ") and f"of 16.0 MiB are kept ({sources[number].name})" in line
    assert len(bob.about(*TROUBLE)) == 2


# -- what the receiver refuses -------------------------------------------------------------------------------------


def says_no(stage: Stage) -> tuple[Screen, int, str, str]:
    """The user of the receiver."""
    reader, writer = os.pipe()
    os.write(writer, b"n\n")
    os.close(writer)
    bob = Screen(stage, "--accept", "ask", "--no-code", stdin=reader)
    os.close(reader)
    return bob, 4, "the receiver refused: the receiver's user said no", "refused: by the user here"


def may_not(stage: Stage) -> tuple[Screen, int, str, str]:
    """The rights of the sender."""
    assert stage.run("contacts", "deny", "alice", "files", home=stage.bob).status == 0
    bob = Screen(stage, "--no-code")
    return bob, 4, "bob takes no files from you", "alice offered files and was refused"


def forbids_the_name(stage: Stage) -> tuple[Screen, int, str, str]:
    """The rules for names of the place that is received into."""
    environment = os.environ | {"HOME": str(stage.inbox)}
    bob = Screen(stage, "--no-code", env=environment)
    why = "'.profile' is not created in a home directory, where programs may run it or trust it"
    return bob, 6, f"the receiver refused: {why}; ask for another directory", f"error: {why}; choose another directory"


def has_no_room(stage: Stage) -> tuple[Screen, int, str, str]:
    """The disk."""
    stage.enter_context(mounted(stage.inbox, "size=2m"))
    bob = Screen(stage, "--no-code")
    return bob, 4, "the receiver refused: its disk has ", "too little; free some space"


@pytest.mark.parametrize("refuses", [says_no, may_not, forbids_the_name, pytest.param(has_no_room, marks=needs_mounts)])
def test_a_refusal_is_one_line_at_each_end_and_no_path_that_was_lost(
    stage: Stage, refuses: Callable[[Stage], tuple[Screen, int, str, str]]
) -> None:
    bob, status, there, here = refuses(stage)
    source = stage.folder / ".profile"
    random_file(source, 2 * MIB)
    sent = stage.run("send", source, "bob")
    check_failure(sent, status, there)
    assert "path lost" not in sent.err
    bob.wait_for(re.escape(here))
    stage.run("send", source, "bob")  # what was still to be said of the first one has been said then
    wait_until(lambda: len(bob.about(re.escape(here))) == 2 or refuses in (may_not, says_no))
    lines = bob.about(*TROUBLE)
    assert all(here in line for line in lines), bob.lines


# -- codes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def strangers() -> Iterator[Stage]:
    with fast_stage() as made:
        made.start_server()
        yield made


def with_code(stage: Stage, code: str, *more: str, home: Path | None = None) -> Outcome:
    """Somebody, alice if nobody else is named, sends to bob with a code."""
    source = stage.folder / "some.bin"
    random_file(source, MIB)
    return stage.run("send", source, "bob", *more, env={"P2PXFER_CODE": code}, home=home)


def test_a_mistyped_code_is_one_line_at_each_end_with_what_to_do(strangers: Stage) -> None:
    bob = Screen(strangers, "--code", WORDS)
    sent = with_code(strangers, "1-cable-bacon-apple")
    check_failure(
        sent, 5, "wrong code: it was mistyped, or somebody in between tried to guess it; it is spent; give the"
    )
    assert "path lost" not in sent.err
    bob.wait_for("it is spent")
    (line,) = bob.about("code; ", *TROUBLE)
    assert line.endswith("tried a wrong code; it is spent; start receive again for another one")


def test_a_code_that_is_not_open_is_said_to_be_that_and_the_one_that_is_still_holds(strangers: Stage) -> None:
    """One that was used, as one that expired, and one of a mistyped number."""
    bob = Screen(strangers)
    (shown,) = bob.about("one-time code")
    (code,) = re.findall(r"\d+-[a-z-]+[a-z]", shown)
    for who in ("alice", "carol"):
        home = strangers.folder / f"{who}-home"
        assert strangers.run("init", "--as", who, home=home).status == 0
        sent = with_code(strangers, code, home=home)
        assert (sent.status == 0) == (who == "alice"), sent
    check_failure(
        sent, 5, "no such code is open: it was used already, has expired, or its number was mistyped; give the next"
    )
    assert "path lost" not in sent.err
    bob.wait_for("not open")
    (line,) = bob.about("tried", *TROUBLE)
    assert "carol" in line and line.endswith("or is mistyped; the one that is shown still holds")
    fresh = bob.about("one-time code")[-1]
    (code,) = re.findall(r"\d+-[a-z-]+[a-z]", fresh)
    assert with_code(strangers, code, home=home).status == 0


def test_where_no_code_is_open_any_more_a_stranger_is_told_what_that_may_be(strangers: Stage) -> None:
    Screen(strangers, "--code", WORDS)
    assert with_code(strangers, f"1-{WORDS}").status == 0
    sent = with_code(strangers, f"1-{WORDS}", "--timeout", "3", home=strangers.folder / "carol-home")
    check_failure(
        sent, 3, "where no code is open any more, as it was used or has expired, no stranger is met: ask bob for"
    )


SOON_S = 3.0
"""How soon a sender hears that nothing can be taken, seconds."""


def not_taken_and_then_taken(alice: Program, mend: Callable[[], object]) -> None:
    """The sender hears soon that nothing can be taken, tries again by itself, and succeeds behind ``mend``."""
    introduced = alice.wait_for("introduced")["t"]
    down = next(event for event in alice.events(20) if event["event"] == "path" and event["state"] == "down")
    assert (down["path"], down["why"]) == ("relay", "the peer reports: bob can take nothing new now")
    assert down["t"] - introduced < SOON_S
    mend()
    alice.succeed(40)


def test_a_contact_hears_that_nothing_can_be_taken_while_contacts_cannot_be_read(stage: Stage) -> None:
    stage.receive("--no-code")
    contacts = stage.bob / "contacts.json"
    good = contacts.read_bytes()
    contacts.write_bytes(b"nothing")
    source = stage.folder / "a.bin"
    random_file(source, MIB)
    not_taken_and_then_taken(stage.send(source), lambda: contacts.write_bytes(good))


def test_a_code_is_as_good_as_before_where_nothing_could_be_taken() -> None:
    with fast_stage() as stage:
        stage.start_server()
        bob = stage.receive()
        code = str(bob.wait_for("code")["code"])
        contacts = stage.bob / "contacts.json"
        contacts.write_bytes(b"nothing")
        source = stage.folder / "a.bin"
        random_file(source, MIB)
        not_taken_and_then_taken(stage.send(source, env={"P2PXFER_CODE": code}), contacts.unlink)


def test_a_transfer_that_was_cut_goes_on_while_contacts_cannot_be_read() -> None:
    """Its sender is not told that nothing can be taken; the server, which carries it, is started again."""
    with fast_stage() as stage:
        server = stage.start_server()
        stage.make_contacts()
        bob = stage.receive("--no-code", "--path", "relay", "--once")
        source = stage.folder / "a.bin"
        random_file(source, BIG)
        alice = stage.send(source, "--path", "relay", "--limit", "2M")
        until_bytes(alice, 2 * MIB)
        (stage.bob / "contacts.json").write_bytes(b"nothing")
        server.stop()
        stage.start_server()
        status, heard = end_of(alice, 40)
        assert status == 0
        assert [event for event in heard if "take nothing" in str(event.get("why"))] == []
        assert sum(event["event"] == "path" and event["state"] == "up" for event in heard) >= 1
        bob.succeed(20)
