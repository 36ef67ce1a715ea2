"""A signal ends a command at once, whichever thread the kernel gives it to."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pxfer.cli import start as start_module
from p2pxfer.errors import Interrupted
from scripts.product import BIN
from tests.e2e.terminal import PROMPT, Terminal

COMMAND = """
import signal, threading, time
from twisted.internet.defer import Deferred
from p2pxfer.cli.run import run
from p2pxfer.errors import Interrupted

threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # so that the other thread gets it

async def main(reactor):
    print("waiting", flush=True)
    await Deferred()

try:
    run(main, 0)
except Interrupted:
    print("interrupted", flush=True)
"""


STUCK = """
import sys, threading
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from p2pxfer.cli import main, run
from p2pxfer.cli.main import cli

run.SAY_S, run.END_S = 0.1, 0.5
never = threading.Event()

async def command(reactor):
    print("waiting", flush=True)
    try:
        await deferToThread(never.wait)
    finally:
        await deferToThread(never.wait)

cli.callback = lambda **_: run.run(command, 0)
cli.invoke_without_command = True
sys.argv = ["p2pxfer"]
cli.no_args_is_help = False
main.main()
"""
"""The command, whose end waits for the disk for ever."""


def test_the_end_after_a_signal_is_bounded_and_says_what_it_waits_for() -> None:
    child = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        os.kill(child.pid, signal.SIGINT)
        _, said = child.communicate(timeout=50)
        assert child.returncode == 130
        ending, end = said.splitlines()
        assert "ending" in ending
        assert "did not end" in end and "run the same command again" in end
    finally:
        child.kill()
        child.wait()


def test_a_signal_that_another_thread_gets_wakes_the_reactor() -> None:
    child = subprocess.Popen([sys.executable, "-c", COMMAND], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        os.kill(child.pid, signal.SIGTERM)
        out, _ = child.communicate(timeout=50)
        assert out == "interrupted\n"
    finally:
        child.kill()
        child.wait()


LEFT = """
import os, signal, sys, threading, time
from p2pxfer.cli import main
from p2pxfer.cli.run import run

async def command(reactor):
    threading.Thread(target=time.sleep, args=(60,)).start()

run(command, 0)
print("ended", flush=True)
main.leave(0)
"""
"""A command that is over, but for a thread."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_the_end_of_the_command_ends_the_process_without_a_word(number: signal.Signals) -> None:
    child = subprocess.Popen([sys.executable, "-c", LEFT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ended\n"
        os.kill(child.pid, number)
        assert (child.communicate(timeout=50)[1], child.returncode) == ("", -number)
    finally:
        child.kill()
        child.wait()


INTERRUPTED_TWICE = """
import os, signal, sys
import click
from p2pxfer.cli import main

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

def echo(*words, **options):
    interrupt()
    written(*words, **options)

written, click.echo, click.core.echo = click.echo, echo, echo
def fail():
    raise click.UsageError("wrong")

command = {"question": interrupt, "mistake": fail}[sys.argv[1]]

main.cli.callback = lambda **_: command()
main.cli.invoke_without_command = True
main.cli.no_args_is_help = False
sys.argv = ["p2pxfer"]
main.main()
"""
"""A command that gets the signal whenever something is written."""


@pytest.mark.parametrize(("over", "says", "status"), [("question", "interrupted", 130), ("mistake", "wrong", 2)])
def test_a_signal_in_the_last_word_of_a_command_changes_nothing(over: str, says: str, status: int) -> None:
    words = [sys.executable, "-c", INTERRUPTED_TWICE, over]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=50, check=False)
    assert (ended.stderr.strip(), ended.returncode) == (f"p2pxfer: {says}", status)


@pytest.fixture
def at_the_prompt(tmp_path: Path) -> Iterator[Terminal]:
    """A sender that asks for a code before its reactor runs."""
    (tmp_path / "file").write_bytes(b"x")
    words: list[str | Path] = [
        BIN / "p2pxfer",
        "--server",
        "127.0.0.1:1",
        "--home",
        tmp_path / "home",
        "send",
        tmp_path / "file",
        "bob",
    ]
    # Whoever runs the tests may ignore SIGHUP, as nohup does, and programs inherit that.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        terminal = Terminal.of(words, os.environ)
    finally:
        signal.signal(signal.SIGHUP, before)
    with contextlib.closing(terminal):
        terminal.wait_for(PROMPT)
        yield terminal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_the_prompt_for_a_code_is_an_interrupt_in_one_line(at_the_prompt: Terminal, number: int) -> None:
    at_the_prompt.signal(number)
    assert at_the_prompt.status() == Interrupted.exit_code
    assert at_the_prompt.text.splitlines()[-1] == "p2pxfer: interrupted"


def test_a_terminal_that_is_closed_at_the_prompt_is_an_interrupt_too(at_the_prompt: Terminal) -> None:
    assert at_the_prompt.hang_up() == Interrupted.exit_code


EARLY = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "MODULE":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.NUMBER)
            os.getpid()

sys.meta_path.insert(0, Interrupting())
"""
"""What stands before the script of the command for a signal to come with the import of one module."""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("module", ["p2pxfer.cli.main", "click", "p2pxfer.cli.settings", "p2pxfer.cli.identity"])
def test_an_interrupt_while_the_command_is_imported_is_none_with_a_traceback(
    tmp_path: Path, module: str, as_json: bool, number: str
) -> None:
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    start, function = config["options.entry_points"]["console_scripts"].split("=")[1].strip().split(":")
    early = EARLY.replace("MODULE", module).replace("NUMBER", number)
    script = f"{early}from {start} import {function}\nsys.exit({function}())\n"
    words = [*(["--json"] if as_json else []), "--home", str(tmp_path / "home"), "id"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == Interrupted.exit_code, done
    if as_json:
        event = json.loads(done.stdout)
        assert ({**event, "t": 0.0}, done.stderr.strip()) == (json.loads(start_module.EVENT), "")
    else:
        assert (done.stdout, done.stderr.strip()) == ("", "p2pxfer: interrupted")
