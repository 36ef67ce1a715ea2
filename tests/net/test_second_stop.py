"""What ends a service while it ends already is no fault: a signal behind ``agent stop``, a second signal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2pxfer.core.ids import PeerId

PROGRAM = """
import os, signal, sys
from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from p2pxfer.tap.{module} import Options, makeService
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
options = Options()
options.parseOptions({words!r})
service = makeService(options)
service.privilegedStartService()
service.startService()
def end():
    {first}
    os.kill(os.getpid(), signal.SIGTERM)
reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
reactor.callWhenRunning(reactor.callLater, 0, end)
reactor.run()
sys.exit(reactor._exitSignal != signal.SIGTERM)
"""
SIGNAL = "os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize(
    ("module", "first"),
    [("agent", "service._end()"), ("agent", SIGNAL), ("rendezvous", SIGNAL)],
    ids=["stopped and signalled", "agent signalled twice", "server signalled twice"],
)
def test_a_signal_while_it_ends_is_no_fault(tmp_path: Path, module: str, first: str) -> None:
    home = str(tmp_path / "home")
    server = f"127.0.0.1:9#{PeerId(bytes(32))}"
    words = {
        "agent": ["--home", home, "--server", server],
        "rendezvous": ["--listen", "tcp:0:interface=127.0.0.1", "--state", home, "--observe", "127.0.0.1"],
    }[module]
    program = PROGRAM.format(module=module, words=words, first=first)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert ("Received SIGINT" in done.stderr) == (first == SIGNAL)
    assert "Received SIGTERM" in done.stderr
    assert "Traceback" not in done.stderr
    assert "ReactorNotRunning" not in done.stderr
