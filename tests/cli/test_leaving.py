"""How the process of a command ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import click
import pytest

from p2pxfer.cli import main

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
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def ends(program: str, timeout: float = 60) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=ENVIRONMENT,
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
    code, said, _ = ends(program)
    assert (code, said[: len("worked registered")]) == (0, "worked registered")


def test_a_thread_that_such_a_thread_starts_is_waited_for_too() -> None:
    program = """
def second():
    time.sleep(0.3)
    say("second")
def first():
    time.sleep(0.1)
    threading.Thread(target=second).start()
threading.Thread(target=first).start()
main.leave(4)
"""
    code, said, _ = ends(program)
    assert (code, said[: len("second registered")]) == (4, "second registered")


def test_a_pool_of_threads_that_wait_for_work_keeps_nobody() -> None:
    program = """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
main.leave(0)
"""
    assert ends(program)[0] == 0


@pytest.mark.parametrize(("code", "daemon"), [(130, False), (0, True)])
def test_a_thread_that_hangs_keeps_nobody(code: int, daemon: bool) -> None:
    """After an interruption, or where it is one that may be left."""
    program = f"threading.Thread(target=time.sleep, args=(300,), daemon={daemon}).start(); main.leave({code})"
    assert ends(program) == (code, " registered" if daemon else "", "")


def test_what_is_registered_may_wait_for_a_lock_of_a_thread_that_hangs() -> None:
    """After an interruption it is not called then."""
    program = """
lock = threading.Lock()
lock.acquire()
atexit.register(lock.acquire)
threading.Thread(target=time.sleep, args=(300,)).start()
main.leave(130)
"""
    assert ends(program)[0] == 130


@pytest.mark.parametrize("words", [["--help"], ["--json", "--home", "{home}", "id"]])
def test_output_that_cannot_be_written_is_one_line(words: list[str], tmp_path: Path) -> None:
    words = ["p2pxfer", *(word.format(home=tmp_path) for word in words)]
    program = f"import sys; from p2pxfer.cli import main; sys.argv = {words}; main.main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
            env=ENVIRONMENT,
        )  # fmt: skip
    assert done.returncode == 8
    assert done.stderr == "p2pxfer: standard output cannot be written: No space left on device\n"


def test_a_question_that_is_broken_off_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main.cli, "main", Mock(side_effect=click.exceptions.Abort()))
        assert main.run_command_line(as_json=True) == 130
    event = json.loads(capsys.readouterr().out)
    assert (event["event"], event["code"], event["retry"]) == ("error", "E_INTERRUPTED", True)
