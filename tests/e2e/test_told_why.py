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
from tests.e2e.conftest import MIB, Stage, Words, end_of, fast_pair, until_bytes, wait_until
from tests.scene import events_of, last, random_file

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
        wait_until(lambda: any(re.search(wanted, line) for line in self.lines))

    def about(self, *words: str) -> list[str]:
        """The lines with any of these words."""
        return [line for line in self.lines if re.search("|".join(words), line)]


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


def misnamed(stage: Stage) -> tuple[Program, str]:
    """What not every system can hold is found when the first files have gone out already."""
    top = stage.folder / "d"
    top.mkdir()
    for number in range(1500):
        (top / f"{'n' * 60}{number:05}").write_bytes(b"12345678")
    (top / "z:z").write_bytes(b"9")
    why = "not every system can hold these names: 'd/z:z': the name 'z:z' is refused: it contains a colon"
    return stage.send(top), why


Fails = Callable[[Stage], tuple[Program, str]]
FAILS: list[Fails] = [rewritten, unreadable, misnamed]


@pytest.mark.parametrize("fails", FAILS)
def test_why_a_sender_could_not_go_on_is_one_line_at_the_receiver(stage: Stage, fails: Fails) -> None:
    bob = Screen(stage, "--no-code")
    alice, why = fails(stage)
    status, said = end_of(alice)
    assert status in (2, 8)
    own = last(said, "error")["message"]
    assert own != why  # whoever can do something about it is told what
    bob.wait_for("could not go on")
    stage.send_good()
    (line,) = bob.about(*TROUBLE)
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
    source = stage.folder / "big.bin"
    random_file(source, BIG)
    reader, writer = os.pipe()
    bob = Screen(stage, "--accept", "ask", "--no-code", stdin=reader)
    stage.callback(os.close, writer)
    os.close(reader)
    top = stage.folder / "d"
    top.mkdir()
    for number in range(1500):
        (top / f"{'n' * 60}{number:05}").write_bytes(b"12345678")
    (top / "z:z").write_bytes(b"9")
    alice = stage.send(top)
    assert alice.wait(20).status == 2
    bob.wait_for("nothing was taken of d")
    (line,) = bob.about(*TROUBLE)
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
