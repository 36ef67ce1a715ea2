"""A file that changes or cannot be read while it is sent is left out; everything else arrives, and both ends say so."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.product import Program, client
from tests.e2e import faulty_program
from tests.e2e.conftest import MIB, Stage, end_of, fast_pair, wait_until
from tests.scene import events_of, file_hash, last, random_file

NAME = "live.bin"
AMONG = {"a.bin": 6 * MIB, NAME: 12 * MIB, "z/last.bin": 5 * MIB, "z/small": 100}


@pytest.fixture
def stage() -> Iterator[Stage]:
    with fast_pair() as made:
        yield made


def folder(stage: Stage) -> dict[str, str]:
    """A directory ``d`` in which one file is going to fail; the hashes of the others."""
    top = stage.folder / "d"
    (top / "z").mkdir(parents=True)
    digests = {name: random_file(top / name, size) for name, size in AMONG.items()}
    del digests[NAME]
    return digests


def sender(stage: Stage, what: str, count: int, *paths: Path) -> Program:
    """A sender to which something happens when the ``count``-th chunk of the file is read."""
    words = client(stage.address, stage.alice, "send", *paths, "bob")[1:]
    argv = [sys.executable, faulty_program.__file__, what, str(count), *words]
    program = Program(stage.place, "alice", argv, stage.folder / "a.log")
    stage.callback(program.stop)
    return program


@pytest.mark.deadline(90)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("what", faulty_program.CHANGES)
def test_f19_others_complete_when_one_file_changes(stage: Stage, what: str, count: int) -> None:
    digests = folder(stage)
    bob = stage.receive("--once", "--no-code")
    alice = sender(stage, what, count, stage.folder / "d")
    check(stage, digests, alice, bob, "E_SOURCE_CHANGED")


@pytest.mark.deadline(90)
@pytest.mark.parametrize("count", [1, 3])
def test_f13_others_complete_when_one_file_cannot_be_read(stage: Stage, count: int) -> None:
    digests = folder(stage)
    bob = stage.receive("--once", "--no-code")
    alice = sender(stage, "one file cannot be read", count, stage.folder / "d")
    check(stage, digests, alice, bob, "E_IO")


def check(stage: Stage, digests: dict[str, str], alice: Program, bob: Program, code: str) -> None:
    """All but one file are in place, with nothing beside them, and both sides say which one is missing."""
    status, said = end_of(alice)
    error = last(said, "error")
    assert (status, error["code"], error["retry"]) == (8, code, False), error
    assert f"d/{NAME}" in error["message"]
    sent = last(said, "done")
    assert sent["left_out"] == [f"d/{NAME}"]
    assert sent["files"] == len(digests)
    assert sent["bytes"] == sum(AMONG[name] for name in digests)
    heard = events_of(bob)
    assert bob.wait(10).status == 0
    came = last(heard, "done")
    assert (came["left_out"], came["files"], came["bytes"], came["root"]) == (
        [f"d/{NAME}"], sent["files"], sent["bytes"], sent["root"],
    )  # fmt: skip
    there = {str(path.relative_to(stage.inbox / "d")) for path in (stage.inbox / "d").rglob("*") if path.is_file()}
    assert there == set(digests)
    assert all(file_hash(stage.inbox / "d" / name) == digest for name, digest in digests.items())
    wait_until(lambda: os.listdir(stage.inbox) == ["d"])  # the sender has confirmed that it knows
