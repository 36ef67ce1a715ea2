"""A command for which the system has no memory ends soon, with a line that says so, whatever was under way in it."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMAND = """
import sys, threading
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from p2pxfer.cli import main, run
from p2pxfer.cli.main import cli

run.SHORT_END_S = 0.2

def starve(*_):
    raise {fault}

async def command(reactor):
    threading.Thread(target=threading.Event().wait).start()
    {here}
    await Deferred()

cli.callback = lambda **_: run.run(command, 0)
cli.invoke_without_command = True
sys.argv = ["p2pxfer"]
cli.no_args_is_help = False
main.main()
"""
"""The command, with a thread that never ends."""


@pytest.mark.parametrize(
    ("here", "fault"),
    [
        ("starve()", "MemoryError"),
        ("await deferToThread(starve)", 'RuntimeError("can\'t start new thread")'),
        ("reactor.callLater(0, starve)", "MemoryError"),
        ("deferToThread(starve)", 'OSError(12, "no memory")'),
    ],
    ids=["main", "thread", "call", "nobody waits"],
)
def test_one_line_and_the_status_of_a_limit(here: str, fault: str) -> None:
    script = COMMAND.format(here=here, fault=fault)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 9, ended.stderr
    assert ended.stderr.startswith("p2pxfer: the system gives this program no more memory; what arrived is kept")
    assert len(ended.stderr.splitlines()) == 1
    assert not ended.stdout


def test_another_fault_does_not_end_it() -> None:
    """As ever: it is said, and whoever waits goes on."""
    script = COMMAND.format(here="reactor.callLater(0, starve); reactor.callLater(0.2, reactor.stop)", fault="KeyError")
    ended = subprocess.run(
        [sys.executable, "-c", script.replace(").start()", ", daemon=True).start()")],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == "p2pxfer: a fault inside the program (KeyError); -v shows where\n"
