"""A person at a terminal, for the tests of commands that ask."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.product import BIN

if TYPE_CHECKING:
    from tests.e2e.conftest import Stage

PROMPT = re.compile(r"one-time code of bob[^:\n]*: ")
PATIENCE_S = 40.0


class Terminal:
    """A command at a terminal of its own, and the person before it."""

    def __init__(self, stage: Stage, *words: str | Path) -> None:
        self._open([BIN / "p2pxfer", "--server", stage.address, "--home", stage.alice, *words], dict(os.environ))

    @classmethod
    def of(cls, command: Sequence[str | Path], env: Mapping[str, str]) -> Terminal:
        """Any command, with this environment."""
        terminal = cls.__new__(cls)
        terminal._open(command, env)
        return terminal

    def _open(self, command: Sequence[str | Path], env: Mapping[str, str]) -> None:
        self._keyboard, screen = os.openpty()
        self.text = ""
        self._process = subprocess.Popen(
            command, stdin=screen, stdout=screen, stderr=screen, env={**env, "TERM": "dumb"}
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

    def type(self, line: str, end: str = "\n") -> None:
        """Type a line, or with another ``end`` what is not one yet."""
        os.write(self._keyboard, f"{line}{end}".encode())

    def answer(self, number: int, line: str) -> None:
        """Type ``line`` when the code is asked for the ``number``-th time."""
        self.wait_for(PROMPT, number)
        self.type(line)

    def signal(self, number: int) -> None:
        """Send the command a signal."""
        self._process.send_signal(number)

    def hang_up(self) -> int:
        """Close the terminal, as a window of it is closed; returns the exit status."""
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, self._keyboard)
        os.close(nothing)
        self.signal(signal.SIGHUP)
        return self._process.wait(PATIENCE_S)

    def status(self) -> int:
        """The exit status."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read():
            assert time.monotonic() < deadline, self.text
        return self._process.wait(PATIENCE_S)
