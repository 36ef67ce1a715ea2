"""Several PATHs in one command: one transfer, one total, one job; names that would meet at the destination."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import MIB, Stage, end_of, kill, names_in, until_bytes
from tests.scene import file_hash, last, random_file

SIZE = 24 * MIB


def made(stage: Stage, *names: str, size: int = 1000) -> list[Path]:
    """Files below the stage's folder, with their directories."""
    paths = [stage.folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        random_file(path, size)
    return paths


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["one/a.txt", "two/a.txt"], "have the same name; send them apart"),
        (["one/a.txt", "one/a.txt"], "is named twice"),
        (["one/a.txt", "one/../one/a.txt"], "is named twice"),
        (["one", "one/"], "is named twice"),
    ],
)
def test_paths_that_would_be_one_at_the_destination(pair: Stage, words: list[str], says: str) -> None:
    made(pair, "one/a.txt", "two/a.txt")
    paths = [f"{pair.folder}/{word}" for word in words]
    pair.fails(2, "E_USAGE", says, "send", *paths, "bob")


def test_paths_that_would_be_one_on_other_systems(pair: Stage) -> None:
    one, two = made(pair, "one/Letter.txt", "two/letter.TXT")
    said = pair.fails(6, "E_COLLISION", "letter.TXT", "send", one, two, "bob")
    assert "Letter.txt" in said


def test_a_directory_and_a_file_of_it(pair: Stage) -> None:
    """Both are wanted, each under its own name."""
    (inner,) = made(pair, "album/song.bin")
    bob = pair.receive("--once", "--no-code")
    outcome = pair.run("send", inner.parent, inner, "bob", as_json=True)
    assert outcome.status == 0, outcome
    offer = last(outcome.events, "offer")
    assert (offer["files"], offer["bytes"], offer["names"]) == (2, 2000, ["album", "song.bin"])
    bob.succeed(20)
    assert names_in(pair.inbox) == ["album", "album/song.bin", "song.bin"]


@pytest.mark.deadline(120)
def test_a_cut_command_is_one_job_and_goes_on(pair: Stage) -> None:
    paths = made(pair, "here/one.bin", "here/two.bin", "there/three.bin", size=SIZE)
    words = [*map(str, paths), "bob"]
    bob = pair.receive("--no-code")
    alice = pair.program("alice", pair.alice, "send", "--limit", "8M", *words)
    until_bytes(alice, 12 * MIB)
    kill(alice)
    kill(bob)
    listed = pair.run("jobs", as_json=True)
    (job,) = listed.events
    assert (job["names"], job["total"]) == (["here/one.bin", "here/two.bin", "there/three.bin"], 3 * SIZE)
    assert Path(job["where"]) == pair.folder
    shown = pair.run("jobs").out
    assert "here/one.bin, here/two.bin, there/three.bin in " in shown
    bob = pair.receive("--once", "--no-code")
    alice = pair.program("alice", pair.alice, "send", *words)
    status, events = end_of(alice)
    assert status == 0, events
    assert last(events, "resumed")["have_bytes"] >= MIB
    assert last(events, "done")["bytes"] == 3 * SIZE
    bob.succeed(20)
    assert {file_hash(pair.inbox / path.name) for path in paths} == set(map(file_hash, paths))
    assert pair.run("jobs").out == ""
