"""How the process of a command ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BEGIN = """
import atexit, os, sys, threading, time
from p2pxfer.cli import main
def say(text):
    os.write(1, text.encode())
class Taken:
    def __del__(self):
        say(" taken apart")
kept = Taken()
atexit.register(say, " registered")
"""


def ends(program: str, timeout: float = 60) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment,
    )
    return done.returncode, done.stdout, done.stderr


def test_what_was_registered_is_done_and_nothing_taken_apart() -> None:
    assert ends('print("said", end=""); print("why", end="", file=sys.stderr); main.leave(7)') == (
        7,
        " registeredsaid",
        "why",
    )


def test_a_thread_that_is_to_end_first_does() -> None:
    program = """
def work():
    time.sleep(0.3)
    say("worked")
threading.Thread(target=work).start()
main.leave(0)
"""
    assert ends(program) == (0, "worked registered", "")


@pytest.mark.parametrize(("code", "daemon"), [(130, False), (0, True)])
def test_a_thread_that_hangs_keeps_nobody(code: int, daemon: bool) -> None:
    """After an interruption, or where it is one that may be left."""
    program = f"threading.Thread(target=time.sleep, args=(300,), daemon={daemon}).start(); main.leave({code})"
    assert ends(program) == (code, " registered", "")


def test_output_that_nobody_takes_does_not_change_the_code() -> None:
    program = """
reading, writing = os.pipe()
os.close(reading)
os.dup2(writing, 1)
print("lost")
main.leave(3)
"""
    assert ends(program)[0] == 3
