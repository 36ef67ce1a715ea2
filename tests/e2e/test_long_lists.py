"""Directories whose list has many pages: files arrive while it is made, and it goes on wherever either side died."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Stage, fast_pair, kill
from tests.e2e.counting import gated_sender, receiver, until_durable
from tests.scene import events_of, last

FILES = 3000
EACH = 100


@pytest.fixture
def stage() -> Iterator[Stage]:
    with fast_pair() as made:
        yield made


def make_tree(top: Path) -> None:
    for number in range(FILES):
        folder = top / f"folder-{number // 100:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number:05d}").write_bytes(b"%08d" % number * (EACH // 8))


def same(one: Path, other: Path) -> bool:
    names = [sorted(path.relative_to(top) for path in top.rglob("*")) for top in (one, other)]
    files = [name for name in names[0] if (one / name).is_file()]
    return names[0] == names[1] and not any(filecmp.cmpfiles(one, other, files, shallow=False)[1:])


@pytest.mark.deadline(120)
def test_files_arrive_while_the_list_is_made(stage: Stage) -> None:
    source, gate = stage.folder / "tree", stage.folder / "gate"
    make_tree(source)
    bob = receiver(stage)
    alice = gated_sender(stage, source, gate)
    offer = alice.wait_for("offer")
    assert offer["counting"] is True
    assert offer["files"] < FILES
    until_durable(stage, offer["files"])
    gate.touch()
    counted = alice.wait_for("offer")
    assert (counted["counting"], counted["files"]) == (False, FILES)
    for program in (alice, bob):
        assert program.wait(60).status == 0, events_of(program)
    done = [last(events_of(program), "done") for program in (alice, bob)]
    assert [(event["files"], event["bytes"]) for event in done] == [(FILES, FILES * 96)] * 2
    assert same(source, stage.inbox / "tree")


@pytest.mark.deadline(120)
@pytest.mark.parametrize("dead", ["alice", "bob", "both"])
def test_killed_while_the_list_is_told(stage: Stage, dead: str) -> None:
    source, gate = stage.folder / "tree", stage.folder / "gate"
    make_tree(source)
    bob = receiver(stage)
    alice = gated_sender(stage, source, gate)
    here = alice.wait_for("offer")["files"]
    until_durable(stage, here)
    if dead != "bob":
        kill(alice)
    if dead != "alice":
        kill(bob)
        bob = receiver(stage)
    if dead == "bob":
        gate.touch()
    else:
        alice = stage.send(source, "--wait")
    for program in (alice, bob):
        assert program.wait(60).status == 0, events_of(program)
    assert same(source, stage.inbox / "tree")
    if dead != "bob":
        sent = sum(last(events_of(alice), "done")["bytes_by_path"].values())
        assert sent <= (FILES - here) * 96


@pytest.mark.deadline(120)
def test_a_tree_that_changed_between_two_runs(stage: Stage) -> None:
    """The files before the page that differs are not sent again, and nothing of the others stays."""
    source, gate = stage.folder / "tree", stage.folder / "gate"
    make_tree(source)
    bob = receiver(stage)
    alice = gated_sender(stage, source, gate)
    here = alice.wait_for("offer")["files"]
    until_durable(stage, here + 1)
    kill(alice)
    changed = source / "folder-010" / "file-01010"
    changed.write_bytes(b"another length")
    (source / "folder-029" / "file-02999").unlink()
    alice = stage.send(source, "--wait")
    for program in (alice, bob):
        assert program.wait(60).status == 0, events_of(program)
    assert same(source, stage.inbox / "tree")
