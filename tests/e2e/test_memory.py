"""Memory of all programs while one of them, the disk or the relay is slow: what cannot go on is not piled up."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.product import Program, client
from tests.e2e import faulty_program
from tests.e2e.conftest import MIB, Stage, end_of, fast_stage, until_bytes
from tests.scene import file_hash, last, random_file

SIZE = 256 * MIB
MOST = 150 * MIB
"""Resident memory that no program may exceed, whatever the size of a file."""
QUIET = 1.0
"""Seconds without growth after which what was under way when somebody stopped has come to rest."""
SETTLING = 30.0
"""Seconds after which it must have, on a busy machine too; a sender without bounds would read all of the file."""
PAUSE = 2.0
"""Seconds for which nothing may grow then."""
GROWTH = 2 * MIB


class Meter:
    """Resident memory of programs, over time."""

    def __init__(self, **programs: Program) -> None:
        self._programs = programs
        self._samples: dict[str, list[tuple[float, int]]] = {name: [] for name in programs}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._over.wait(0.05):
            for name, program in self._programs.items():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
                    pages = int(Path(f"/proc/{program.pid}/statm").read_text().split()[1])
                    self._samples[name].append((time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE")))

    def peaks(self) -> dict[str, int]:
        return {name: max(size for _, size in samples) for name, samples in self._samples.items()}

    def growth(self, since: float) -> dict[str, int]:
        """By how much each became larger than it was at a moment."""
        grown = {}
        for name, samples in self._samples.items():
            before = [size for at, size in samples if at < since]
            sizes = before[-1:] + [size for at, size in samples if at >= since]
            grown[name] = max(sizes) - sizes[0]
        return grown


def pause(program: Program, meter: Meter) -> dict[str, int]:
    """Stop a program; how much the programs grew in a while, after what was under way had come to rest."""
    os.kill(program.pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + SETTLING
        while True:
            time.sleep(QUIET)
            if max(meter.growth(time.monotonic() - QUIET).values()) < GROWTH:
                break
            assert time.monotonic() < deadline, "memory grows and grows"
        since = time.monotonic()
        time.sleep(PAUSE)
        return meter.growth(since)
    finally:
        os.kill(program.pid, signal.SIGCONT)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with fast_stage() as made:
        made.make_contacts()
        yield made


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.deadline(150)
def test_f45_memory_is_flat_while_the_disk_the_receiver_or_the_relay_is_slow(stage: Stage) -> None:
    server = stage.start_server()
    source = stage.folder / "big.bin"
    digest = random_file(source, SIZE)
    argv = [sys.executable, faulty_program.__file__, "disk is slow", "15"]
    words = ("receive", "--as", "bob", "--to", stage.inbox, "--once", "--no-code", "--path", "relay")
    bob = Program(stage.place, "bob", [*argv, *client(stage.address, stage.bob, *words)[1:]], stage.folder / "b.log")
    stage.callback(bob.stop)
    bob.wait_for("registered")
    alice = stage.send(source, "--path", "relay")
    with Meter(sender=alice, receiver=bob, server=server) as meter:
        until_bytes(bob, 8 * MIB)
        grown = {"receiver": pause(bob, meter)}
        until_bytes(bob, 32 * MIB)
        grown["relay"] = pause(server, meter)
        (status, received), (other, sent) = end_of(bob), end_of(alice)
        assert (status, other) == (0, 0), (received, sent)
        peaks = meter.peaks()
    for who, sizes in grown.items():
        print(f"{who} stopped: " + ", ".join(f"{name} grew by {size / MIB:.1f} MiB" for name, size in sizes.items()))
    print("at most: " + ", ".join(f"{name} {size / MIB:.0f} MiB" for name, size in peaks.items()))
    assert last(received, "done")["seconds"] > 2 * PAUSE
    ends = [event["why"] for event in received + sent if event["event"] == "path" and event["state"] == "down"]
    assert set(ends) == {"the session is over"}
    assert all(size < GROWTH for sizes in grown.values() for size in sizes.values())
    assert all(size < MOST for size in peaks.values())
    assert file_hash(stage.inbox / source.name) == digest
