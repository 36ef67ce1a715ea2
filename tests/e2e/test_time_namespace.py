"""Programs whose monotonic clocks differ by years, and go back between two runs as that of a machine that restarts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from scripts.product import Program, client
from tests.e2e.conftest import MIB, Stage, end_of, until_bytes
from tests.scene import file_hash, last, random_file

SIZE = 12 * MIB
RATE = "4M"
"""What holds the transfer up, so that it is under way when the sender is killed."""
UNDER_WAY = 4 * MIB
"""Most that had come and was not durable, or said to be there, when the sender was killed."""
TEN_YEARS = 10 * 365 * 86_400
LONGEST_S = 60


def ahead_by(seconds: int) -> list[str]:
    """Put before a command, it gives it such clocks."""
    return ["unshare", "--time", "--monotonic", str(seconds), "--boottime", str(seconds)]


def elsewhere(stage: Stage, name: str, ahead: int, *words: str) -> Program:
    """Start alice's command where the clocks that nobody sets are so many seconds ahead."""
    argv = [*ahead_by(ahead), *client(stage.address, stage.alice, *words)]
    program = Program(stage.place, "alice", argv, stage.folder / f"{name}.log")
    stage.callback(program.stop)
    return program


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"),
    reason="another monotonic clock needs root on Linux",
)
def test_f24_the_monotonic_clock_of_each_program_is_its_own_and_may_begin_anew(pair: Stage) -> None:
    """The second run of the sender has a clock that is ten years behind that of the first."""
    asked = [*ahead_by(TEN_YEARS), sys.executable, "-c", "import time; print(time.monotonic())"]
    shown = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    assert float(shown) > TEN_YEARS
    source = pair.folder / "file.bin"
    digest = random_file(source, SIZE)
    bob = pair.receive("--once", "--no-code")
    first = elsewhere(pair, "first", TEN_YEARS, "send", str(source), "bob", "--limit", RATE)
    until_bytes(bob, SIZE // 2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(10)
    second = elsewhere(pair, "second", 0, "send", str(source), "bob")
    (status, said), (other, heard) = end_of(second), end_of(bob)
    assert (status, other) == (0, 0), (said, heard)
    assert file_hash(pair.inbox / source.name) == digest
    assert sum(last(said, "done")["bytes_by_path"].values()) <= SIZE // 2 + UNDER_WAY
    begun = list(first.events(1))
    assert not any(event["event"] == "done" for event in begun)
    for event in begun + said + heard:
        assert 0 <= event["t"] < LONGEST_S
        assert event["event"] != "progress" or event["rate"] >= 0
