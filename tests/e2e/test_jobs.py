"""``p2pxfer jobs`` with whole programs: a transfer of which both sides were killed is listed, continued and dropped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pxfer.core.ids import PeerId
from p2pxfer.net.private.home import Home
from p2pxfer.net.staging.partials import Destination, remember
from scripts.product import JsonEvent, Program
from tests.e2e.conftest import MIB, Stage, end_of, fast_pair, kill, names_in, staging_of, until_bytes, wait_until
from tests.scene import file_hash, last, random_file

SIZE = 64 * MIB
SLOW = "1M"
"""A rate at which that takes longer than any test."""


@pytest.fixture
def stage() -> Iterator[Stage]:
    with fast_pair() as made:
        yield made


def jobs(stage: Stage, home: Path, *words: str) -> list[JsonEvent]:
    outcome = stage.run("jobs", *words, home=home, as_json=True)
    assert outcome.status == 0, outcome
    return outcome.events


def cut(stage: Stage) -> str:
    """Send so slowly that there is time to look, and kill both in the middle; the hash of the file."""
    source = stage.folder / "big.bin"
    digest = random_file(source, SIZE)
    bob = stage.receive("--no-code", "--limit", SLOW)
    alice = stage.send(source)
    until_bytes(alice, 2 * MIB)
    (running,) = jobs(stage, stage.bob)
    assert (running["direction"], running["state"]) == ("receive", "running")
    (running,) = jobs(stage, stage.alice)
    assert (running["direction"], running["state"]) == ("send", "running")
    second = stage.run("send", source, "bob", home=stage.alice)  # it would take this one over
    assert (second.status, f"by process {alice.pid} (job {running['job']})" in second.err) == (2, True), second
    kill(alice)
    kill(bob)
    (killed,) = jobs(stage, stage.alice)
    assert MIB <= killed["bytes"] < SIZE
    return digest


@pytest.mark.deadline(150)
def test_a_cut_transfer_is_listed_on_both_sides_and_goes_on(stage: Stage) -> None:
    digest = cut(stage)
    (sending,) = jobs(stage, stage.alice)
    (receiving,) = jobs(stage, stage.bob)
    ids = [str(PeerId(Home(home).identity().id.digest)) for home in (stage.alice, stage.bob)]
    for job, direction, where, other in (
        (sending, "send", stage.folder, ids[1]),
        (receiving, "receive", stage.inbox, ids[0]),
    ):
        assert (job["direction"], job["state"], job["names"], job["total"]) == (direction, "cut", ["big.bin"], SIZE)
        assert Path(job["where"]) == where.resolve()
        assert job["peer"] in (other, "alice", "bob")
    assert 0 < receiving["bytes"] < SIZE
    another = stage.folder / "another"
    remember(another, Destination(str(stage.inbox), "carol"))  # which receives into the same directory
    assert jobs(stage, another) == []
    assert stage.run("jobs", "cancel", receiving["job"], home=another).status == 2
    shown = stage.run("jobs", home=stage.bob)
    assert shown.status == 0
    assert receiving["job"] in shown.out
    assert "big.bin in " in shown.out
    remember(stage.bob, Destination(str(stage.inbox), "bob", no_code=True))  # and without the limit of before
    bob = stage.program("bob", stage.bob, "jobs", "resume", receiving["job"][:5])
    assert bob.wait_for("registered")["name"] == "bob"
    alice = stage.program("alice", stage.alice, "jobs", "resume", sending["job"])
    status, events = end_of(alice, 100)
    assert status == 0, events
    assert last(events, "resumed")["have_bytes"] >= receiving["bytes"] - 4 * MIB
    status, events = end_of(bob, 20)
    assert status == 0, events
    assert not [event for event in events if event["event"] == "code"]
    assert file_hash(stage.inbox / "big.bin") == digest
    assert jobs(stage, stage.alice) == jobs(stage, stage.bob) == []


def test_the_same_paths_in_another_order_are_the_same_job(stage: Stage) -> None:
    """The second command goes on with what the first one left, and nothing of it stays in the list."""
    paths = [stage.folder / name for name in ("one.bin", "two.bin")]
    digests = [random_file(path, 8 * MIB) for path in paths]
    stage.receive("--no-code")
    alice = stage.program("alice", stage.alice, "send", "--limit", "4M", *paths, "bob")
    until_bytes(alice, 2 * MIB)
    kill(alice)
    (cut,) = jobs(stage, stage.alice)
    alice = stage.program("alice", stage.alice, "send", "--limit", "4M", *reversed(paths), "bob")
    assert alice.wait_for("resumed")["have_bytes"] >= MIB
    (running,) = jobs(stage, stage.alice)
    assert (running["job"], running["state"]) == (cut["job"], "running")
    alice.succeed(40)
    assert jobs(stage, stage.alice) == []
    assert [file_hash(stage.inbox / path.name) for path in paths] == digests
    queued = [
        stage.run("send", "--queue", *order, "bob", as_json=True).events[-1]["job"] for order in (paths, paths[::-1])
    ]
    assert queued[0] == queued[1]


def test_several_go_on_one_after_the_other(stage: Stage) -> None:
    """In one process, to one receiver; without a number it is said which there are."""
    sources = [stage.folder / name for name in ("one.bin", "two.bin")]
    digests = [random_file(path, 8 * MIB) for path in sources]
    stage.receive("--no-code")
    for source in sources:
        alice = stage.program("alice", stage.alice, "send", "--limit", "8M", source, "bob")
        until_bytes(alice, 2 * MIB)
        kill(alice)
    numbers = [job["job"] for job in jobs(stage, stage.alice)]
    assert len(numbers) == 2
    said = stage.fails_plainly(2, "several jobs wait: ", "jobs", "resume")
    assert all(number in said for number in numbers)
    events = jobs(stage, stage.alice, "resume", "--all")
    assert [event["bytes"] for event in events if event["event"] == "done"] == 2 * [8 * MIB]
    assert [event["have_bytes"] >= MIB for event in events if event["event"] == "resumed"] == 2 * [True]
    assert [file_hash(stage.inbox / path.name) for path in sources] == digests
    assert jobs(stage, stage.alice) == []


@pytest.mark.deadline(150)
def test_what_begins_anew_elsewhere_is_said_to_wait(stage: Stage) -> None:
    cut(stage)
    (kept,) = jobs(stage, stage.bob)
    other = stage.folder / "other"
    other.mkdir()
    bob = stage.receive("--no-code", "--limit", SLOW, "--to", other)
    stage.send(stage.folder / "big.bin")
    said = next(event["message"] for event in bob.events(30) if event["event"] == "note")
    assert said.startswith("this begins anew here; ")
    assert said.endswith(f" % of big.bin wait in {stage.inbox}: p2pxfer jobs resume {kept['job']} goes on there")


@pytest.mark.deadline(150)
def test_an_interrupted_sender_notes_how_far_it_came(stage: Stage) -> None:
    source = stage.folder / "big.bin"
    random_file(source, SIZE)
    stage.receive("--no-code", "--limit", SLOW)
    alice = stage.send(source)
    until_bytes(alice, 2 * MIB)
    os.kill(alice.pid, signal.SIGINT)
    status, events = end_of(alice, 30)
    assert status == 130, events
    (job,) = jobs(stage, stage.alice)
    wait_until(lambda: "(waiting; its sender is not connected)" in stage.run("jobs", home=stage.bob).out, 5)
    again = stage.send(source)
    again.wait_for("resumed")
    ((takes,), (runs,)) = jobs(stage, stage.bob), jobs(stage, stage.alice)
    assert (takes["state"], takes["why"], runs["state"]) == ("running", "", "running")
    kill(again)
    wait_until(lambda: jobs(stage, stage.bob)[0]["state"] == "waiting", 5)
    assert jobs(stage, stage.bob)[0]["why"] == "its sender is not connected"
    assert (job["state"], job["total"]) == ("cut", SIZE)
    assert 2 * MIB <= job["bytes"] < SIZE


@pytest.mark.deadline(150)
def test_a_cut_transfer_is_dropped(stage: Stage) -> None:
    cut(stage)
    (receiving,) = jobs(stage, stage.bob)
    (sending,) = jobs(stage, stage.alice)
    (dropped,) = jobs(stage, stage.bob, "cancel", receiving["job"])
    assert dropped == {**receiving, "t": dropped["t"], "state": "dropped"}
    assert names_in(stage.inbox) == []
    assert not staging_of(stage.inbox)
    jobs(stage, stage.alice, "cancel", sending["job"])
    assert list((stage.alice / "outgoing").iterdir()) == []
    assert jobs(stage, stage.alice) == jobs(stage, stage.bob) == []
    empty = stage.run("jobs", home=stage.bob)
    assert (empty.status, empty.out) == (0, "")
    assert "nothing is unfinished" in empty.err
    for word in ("resume", "cancel"):
        refused = stage.run("jobs", word, sending["job"], home=stage.alice)
        assert refused.status == 2
        assert "no unfinished job" in refused.err


@pytest.mark.deadline(150)
def test_a_running_job_is_neither_dropped_nor_run_twice(stage: Stage) -> None:
    source = stage.folder / "big.bin"
    random_file(source, SIZE)
    stage.receive("--no-code")
    alice = stage.send(source, "--limit", SLOW)
    until_bytes(alice, 2 * MIB)
    for home in (stage.alice, stage.bob):
        (job,) = jobs(stage, home)
        for word in ("resume", "cancel"):
            refused = stage.run("jobs", word, job["job"], home=home)
            assert refused.status == 2, refused
            assert "another process" in refused.err
    assert alice.poll() is None
    assert staging_of(stage.inbox)


@pytest.mark.deadline(150)
@pytest.mark.parametrize("restarted", [True, False])
def test_a_newer_state_supersedes_what_is_kept_of_an_earlier_one(stage: Stage, restarted: bool) -> None:
    """Also where the receiver that kept it has ended since."""
    source = stage.folder / "big.bin"
    random_file(source, 16 * MIB)
    bob = stage.receive("--no-code")
    alice = stage.send(source, "--limit", "2M")
    until_bytes(alice, 2 * MIB)
    kill(alice)
    (older,) = jobs(stage, stage.bob)
    if restarted:
        kill(bob)
        bob = stage.receive("--no-code", "--once")
    digest = random_file(source, 2 * MIB)
    stage.send(source).succeed(60)
    said = until_superseded(bob)
    drops = f"p2pxfer jobs cancel {older['job']} drops them"
    assert said.endswith(f" are kept of an earlier transfer of the same name, big.bin: {drops}")
    wait_until(lambda: "superseded" in jobs(stage, stage.bob)[0]["why"])
    (job,) = jobs(stage, stage.bob)
    assert (job["job"], job["state"]) == (older["job"], "cut")
    assert (
        "(superseded, a later one of the same name has arrived: jobs cancel drops it)"
        in stage.run("jobs", home=stage.bob).out
    )
    assert file_hash(stage.inbox / "big.bin") == digest
    jobs(stage, stage.bob, "cancel", job["job"])
    assert jobs(stage, stage.bob) == []
    assert not staging_of(stage.inbox)


def until_superseded(bob: Program) -> str:
    """What a receiver says of the earlier transfer."""
    for _ in range(20):
        said = str(bob.wait_for("note")["message"])
        if "earlier transfer" in said:
            return said
    raise AssertionError("it did not say it")
