"""A file that is rewritten in place, with its size kept and its time set back, never arrives as a mixture of both."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.product import JsonEvent, Program, client
from tests.e2e import faulty_program, killed_program
from tests.e2e.conftest import MIB, REFETCHED, Stage, end_of, fast_pair, names_in, payload, staging_of, wait_until
from tests.scene import events_of, file_hash, last, random_file

SIZE = 24 * MIB


@pytest.fixture
def stage() -> Iterator[Stage]:
    with fast_pair() as made:
        yield made


def sender(stage: Stage, script: str, what: str, count: int, source: Path) -> Program:
    """A sender to which something happens."""
    words = client(stage.address, stage.alice, "send", source, "bob")[1:]
    program = Program(stage.place, "alice", [sys.executable, script, what, str(count), *words], stage.folder / "a.log")
    stage.callback(program.stop)
    return program


def goes_over(stage: Stage, bob: Program, source: Path) -> JsonEvent:
    """The file as it is now arrives; returns what the receiver said at the end."""
    again = stage.send(source)
    status, events = end_of(again)
    assert status == 0, events
    done = bob.wait_for("done")
    assert file_hash(stage.inbox / source.name) == file_hash(source)
    return done


def test_f19_a_file_rewritten_during_a_run_is_never_a_mixture(stage: Stage) -> None:
    source = stage.folder / "live.bin"
    before = random_file(source, SIZE)
    bob = stage.receive("--no-code")
    status, events = end_of(sender(stage, faulty_program.__file__, "source is rewritten", 100, source))
    assert (status, last(events, "error")["code"]) == (8, "E_SOURCE_CHANGED"), events
    assert file_hash(source) != before
    assert names_in(stage.inbox) == []
    goes_over(stage, bob, source)


def test_f19_a_file_rewritten_between_two_runs_is_never_a_mixture(stage: Stage) -> None:
    """The receiver's claims are held against what the file is now: what belongs to a wrong claim is sent again."""
    source = stage.folder / "live.bin"
    random_file(source, SIZE)
    before = source.stat()
    bob = stage.receive("--no-code")
    killed = sender(stage, killed_program.__file__, "tx.before_final", 1, source)
    assert killed.wait(60).status == -signal.SIGKILL, events_of(killed)
    faulty_program.rewrite(source)
    assert (before.st_size, before.st_mtime_ns) == (source.stat().st_size, source.stat().st_mtime_ns)
    done = goes_over(stage, bob, source)
    assert SIZE + SIZE // 2 <= payload(done) <= 2 * SIZE + REFETCHED
    wait_until(lambda: not staging_of(stage.inbox))
    assert os.listdir(stage.inbox) == [source.name]
