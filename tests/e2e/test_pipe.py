"""`p2pxfer pipe` with whole programs on one machine: both directions, back pressure, every way to end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.e2e.conftest import MIB, Stage, check_failure
from tests.ends import End, drained, resident, until_nothing_more_is_read
from tests.pipes import PipeEnd, joined
from tests.scene import file_hash, random_file

pytestmark = pytest.mark.deadline(240)
PAUSE_S = 40.0
"""Longer than anything that a session waits for before it gives up."""


class Pausing(NamedTuple):
    """A pipe with a writer that has given all, a reader that does not read, and until when that is to last."""

    writer: PipeEnd
    reader: PipeEnd
    out: int
    digest: str
    until: float


def begin_to_pause(stage: Stage, writer: str) -> Pausing:
    """Start both ends."""
    source = stage.folder / "some"
    digest = random_file(source, 4 * MIB)
    out, into = os.pipe()
    with source.open("rb") as file, (stage.folder / "nothing").open("wb") as nothing:
        first = PipeEnd(stage, writer, source=file, target=nothing)
        second = PipeEnd(stage, "bob" if writer == "alice" else "alice", target=into)
    os.close(into)
    return Pausing(first, second, out, digest, time.monotonic() + PAUSE_S)


@pytest.fixture(scope="module", autouse=True)
def pausing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pausing]:
    """Begun before the first test of this file, for its last one: the time passes beside the others."""
    with Stage(tmp_path_factory.mktemp("pausing")) as stage:
        stage.start_server()
        stage.make_contacts()
        yield begin_to_pause(stage, "alice")


@pytest.mark.parametrize("path", ["auto", "relay"])
def test_both_inputs_come_out_whole_at_the_other_end(room: Stage, path: str) -> None:
    sources = {"alice": room.folder / "one", "bob": room.folder / "two"}
    hashes = {"bob": random_file(sources["alice"], 40 * MIB), "alice": random_file(sources["bob"], 7 * MIB, seed=2)}
    for end in joined(room, sources, "--path", path):
        said = end.ends(0)
        assert "sent" in said
        assert "lost" not in said
    for role, digest in hashes.items():
        assert file_hash(room.folder / f"{role}.out") == digest


def test_an_empty_pipe_ends_well(room: Stage) -> None:
    for end in joined(room, {}):
        assert "lost" not in end.ends(0)


def test_a_pipe_on_which_nothing_flows_says_which_path_it_has(room: Stage) -> None:
    (there, feed), nothing = os.pipe(), subprocess.DEVNULL
    ends = PipeEnd(room, "alice", source=there, target=nothing), PipeEnd(room, "bob", target=nothing)
    os.close(there)
    for end in ends:
        end.waits_for("; nothing has come or gone yet")
    os.close(feed)
    for end in ends:
        said = end.ends(0)
        assert re.search(r"^path: (direct|lan|ipv6) to \S+ after .*; nothing has come or gone yet$", said, re.MULTILINE)
        assert said.count("path: ") == 1


def test_a_reader_that_does_not_read_holds_the_writer_and_memory_stays_flat(room: Stage) -> None:
    source = room.folder / "big"
    digest = random_file(source, 160 * MIB)
    out, into = os.pipe()
    with source.open("rb") as file, (room.folder / "alice.out").open("wb") as nothing:
        alice = PipeEnd(room, "alice", source=file, target=nothing)
        bob = PipeEnd(room, "bob", target=into)
        os.close(into)
        assert until_nothing_more_is_read(file) < 40 * MIB
        assert all(resident(end.child.pid) < 150 * MIB for end in (alice, bob))
        drained(out, room.folder / "bob.out")
    alice.ends(0)
    bob.ends(0)
    assert file_hash(room.folder / "bob.out") == digest


def running(stage: Stage, *words: str) -> tuple[PipeEnd, PipeEnd, int, int]:
    """A pipe on which something has come through: both ends, alice's input and bob's output."""
    (there, feed), (drain, back) = os.pipe(), os.pipe()
    with (stage.folder / "alice.out").open("wb") as nothing:
        alice = PipeEnd(stage, "alice", *words, source=there, target=nothing)
    bob = PipeEnd(stage, "bob", *words, target=back)
    os.close(there)
    os.close(back)
    os.write(feed, b"something")
    assert os.read(drain, 100) == b"something"
    return alice, bob, feed, drain


def test_a_reader_that_goes_away_ends_both(room: Stage) -> None:
    alice, bob, feed, drain = running(room)
    os.close(drain)
    os.write(feed, b"more")
    assert "nobody reads the output any more" in bob.ends(130)
    assert "nobody reads the output any more" in alice.ends(4)
    os.close(feed)


def test_a_peer_that_runs_something_else_is_not_called_absent(room: Stage) -> None:
    room.receive()
    for role, wanted in (("alice", ["pipe", "bob"]), ("alice", ["connect", "bob:web", "--wait", "--listen", "-"])):
        end = End(room, role, *wanted, target=subprocess.DEVNULL)
        lacks = "run pipe" if wanted[0] == "pipe" else "expose web"
        end.waits_for(f"waiting for bob, who does not {lacks} yet")
        end.child.send_signal(signal.SIGINT)
        end.ends(130)


def test_an_interrupted_end_tells_the_other_one(room: Stage) -> None:
    alice, bob, feed, drain = running(room)
    alice.child.send_signal(signal.SIGINT)
    alice.ends(130)
    assert "interrupted there; what was under way is lost; a pipe cannot go on later" in bob.ends(75)
    os.close(feed)
    os.close(drain)


def test_an_end_that_is_killed_leaves_the_other_one_incomplete(room: Stage) -> None:
    alice, bob, feed, drain = running(room, "--timeout", "3")
    alice.child.kill()
    said = bob.ends(75)
    assert "has not been reachable" in said
    assert "a pipe cannot go on later" in said
    os.close(feed)
    os.close(drain)


def test_an_end_that_was_started_anew_does_not_go_on_in_the_middle(room: Stage) -> None:
    """What the first process had taken and not passed on is lost, so both say that it went wrong."""
    alice, bob, feed, drain = running(room)
    alice.child.kill()
    again = PipeEnd(room, "alice", target=subprocess.DEVNULL)
    assert "started anew" in bob.ends(75)
    assert again.child.wait(60) in (4, 75), again.said()
    os.close(feed)
    os.close(drain)


def test_who_cannot_be_room_to(room: Stage) -> None:
    check_failure(room.run("pipe", "carol"), 2, "carol is not a contact")
    # One of the two asks for the other one, and the other one waits to be asked for.
    for home, peer in ((room.alice, "bob"), (room.bob, "alice")):
        outcome = room.run("pipe", peer, "--timeout", "1", home=home)
        nobody = f"no connection to {peer} came about in 1 seconds: {peer} does not run p2pxfer pipe now; "
        check_failure(outcome, 3, nobody + "run p2pxfer pipe there too, with this machine as its PEER; ")
    outcome = room.run("pipe", "bob", as_json=True)
    assert outcome.status == 2
    assert "--json has no place" in outcome.out


@pytest.mark.parametrize("writer", ["alice", pytest.param("bob", marks=pytest.mark.soak)])
def test_a_writer_stays_until_a_reader_that_pauses_has_everything(pausing: Pausing, room: Stage, writer: str) -> None:
    """The process of the other end holds all of it soon, which is not enough."""
    first, second, out, digest, until = pausing if writer == "alice" else begin_to_pause(room, writer)
    with pytest.raises(subprocess.TimeoutExpired):
        first.child.wait(max(0.0, until - time.monotonic()))
    copy = room.folder / "copy"
    drained(out, copy)
    for end in (first, second):
        end.ends(0)
    assert file_hash(copy) == digest
