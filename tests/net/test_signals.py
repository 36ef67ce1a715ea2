"""A signal ends a command at once, whichever thread the kernel gives it to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

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


def test_a_signal_that_another_thread_gets_wakes_the_reactor() -> None:
    child = subprocess.Popen([sys.executable, "-c", COMMAND], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        os.kill(child.pid, signal.SIGTERM)
        out, _ = child.communicate(timeout=20)
        assert out == "interrupted\n"
    finally:
        child.kill()
        child.wait()
