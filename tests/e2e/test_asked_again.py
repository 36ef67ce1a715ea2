"""A person at a terminal who mistypes a code, or whom the peer has forgotten, is asked and need not start again."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.product import BIN
from tests.e2e.conftest import Stage
from tests.e2e.test_first_contact import pair_up
from tests.scene import WORDS, file_hash, random_file

PROMPT = re.compile(r"one-time code of bob[^:\n]*: ")
PATIENCE_S = 40.0


class Terminal:
    """A command at a terminal of its own, and the person before it."""

    def __init__(self, stage: Stage, *words: str | Path) -> None:
        self._keyboard, screen = os.openpty()
        self.text = ""
        command = [BIN / "p2pxfer", "--server", stage.address, "--home", stage.alice, *words]
        self._process = subprocess.Popen(
            command, stdin=screen, stdout=screen, stderr=screen, env={**os.environ, "TERM": "dumb"}
        )
        os.close(screen)
        os.set_blocking(self._keyboard, False)

    def close(self) -> None:
        """End the command, if it has not ended."""
        self._process.kill()
        self._process.wait()
        os.close(self._keyboard)

    def _read(self) -> bool:
        """Take what was written; whether more may come: not when the command has ended and its terminal is gone."""
        try:
            data = os.read(self._keyboard, 65536)
        except BlockingIOError:
            time.sleep(0.02)
            return True
        except OSError:
            return False
        self.text += data.decode(errors="replace")
        return True

    def wait_for(self, shown: re.Pattern[str], times: int = 1) -> None:
        """Read until ``shown`` was there so many times in all."""
        deadline = time.monotonic() + PATIENCE_S
        while len(shown.findall(self.text)) < times:
            assert time.monotonic() < deadline, self.text
            assert self._read(), self.text

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._keyboard, f"{line}\n".encode())

    def answer(self, number: int, line: str) -> None:
        """Type ``line`` when the code is asked for the ``number``-th time."""
        self.wait_for(PROMPT, number)
        self.type(line)

    def status(self) -> int:
        """The exit status."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read():
            assert time.monotonic() < deadline, self.text
        return self._process.wait(PATIENCE_S)


@pytest.fixture
def source(stage: Stage) -> Path:
    path = stage.folder / "letter.bin"
    random_file(path, 100_000)
    return path


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def test_a_mistyped_code_is_asked_for_again(stage: Stage, source: Path, terminals: list[Terminal]) -> None:
    bob = stage.receive("--once")
    code = str(bob.wait_for("code")["code"])
    number, first, *rest = code.split("-")
    alice = Terminal(stage, "send", source, "bob")
    terminals.append(alice)
    alice.answer(1, f"{number}-nosuchword-{'-'.join(rest)}")
    alice.wait_for(re.compile("word 1 of the code is not in the word list"))
    alice.answer(2, "-".join([number, "acorn" if first != "acorn" else "zebra", *rest]))
    fresh = next(str(event["code"]) for event in bob.events(30) if event["event"] == "code")
    assert fresh != code
    alice.answer(3, fresh)
    assert alice.status() == 0, alice.text
    bob.succeed(20)
    assert file_hash(stage.inbox / source.name) == file_hash(source)


def test_a_contact_that_was_forgotten_is_asked_for_the_code(
    stage: Stage, source: Path, terminals: list[Terminal]
) -> None:
    pair_up(stage)
    assert stage.run("contacts", "remove", "alice", home=stage.bob).status == 0
    bob = stage.receive("--once", "--code", WORDS)
    code = str(bob.wait_for("code")["code"])
    alice = Terminal(stage, "send", source, "bob")
    terminals.append(alice)
    alice.answer(1, code)
    assert alice.status() == 0, alice.text
    bob.succeed(20)
    assert file_hash(stage.inbox / source.name) == file_hash(source)


def test_nothing_typed_gives_up_with_the_reason(stage: Stage, source: Path, terminals: list[Terminal]) -> None:
    pair_up(stage)
    assert stage.run("contacts", "remove", "alice", home=stage.bob).status == 0
    stage.receive("--once", "--code", WORDS).wait_for("code")
    alice = Terminal(stage, "send", source, "bob")
    terminals.append(alice)
    alice.answer(1, "")
    assert alice.status() == 4, alice.text
    assert "does not know this key" in alice.text.splitlines()[-1]
