"""`send -` and `receive --stdout` with whole programs on one machine: what arrives, and every way to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import MIB, Stage, check_failure, names_in, staging_of, wait_until
from tests.ends import End, drained, resident, until_nothing_more_is_read
from tests.scene import events_of, file_hash, last, random_file
from tests.streams import giver, opened, taker

pytestmark = pytest.mark.deadline(240)
AWAY = "8"
"""Seconds after which a side that was killed is given up; the other one has as long to start on a busy machine."""


# -- what arrives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 40 * MIB])
@pytest.mark.parametrize("path", ["auto", "relay"])
def test_standard_input_comes_out_of_standard_output(pair: Stage, path: str, size: int) -> None:
    source, out = pair.folder / "in", pair.folder / "out"
    digest = random_file(source, size)
    with opened(out) as target:
        bob = taker(pair, target, "--path", path)
    with source.open("rb") as file:
        alice = giver(pair, file, "--path", path)
    assert "stream of unknown size" in alice.ends(0)
    said = bob.ends(0)
    assert "offered: stdin (a stream of unknown size)" in said
    assert "written to standard output from" in said
    assert file_hash(out) == digest


def test_standard_input_becomes_a_file(pair: Stage) -> None:
    """Under its name, beside what has that already; unknown sizes are null for programs."""
    source = pair.folder / "in"
    digest = random_file(source, 5 * MIB)
    (pair.inbox / "dump.sql").write_text("old")
    bob = pair.receive("--once", "--no-code")
    with source.open("rb") as file:
        alice = End(
            pair, "alice", "--json", "send", "-", "bob", "--name", "dump.sql", source=file,
            target=(pair.folder / "alice.json").open("wb"),
        )  # fmt: skip
    alice.ends(0)
    assert last(events_of(bob), "offer")["bytes"] is None
    assert bob.wait(20).status == 0
    events = [json.loads(line) for line in (pair.folder / "alice.json").read_text().splitlines()]
    offer, done = last(events, "offer"), last(events, "done")
    assert (offer["bytes"], offer["names"]) == (None, ["dump.sql"])
    assert done["bytes"] == 5 * MIB
    assert sum(done["bytes_by_path"].values()) >= 5 * MIB
    assert names_in(pair.inbox) == ["dump (1).sql", "dump.sql"]
    assert (pair.inbox / "dump.sql").read_text() == "old"
    assert file_hash(pair.inbox / "dump (1).sql") == digest
    assert not staging_of(pair.inbox)


def test_a_file_comes_out_of_standard_output(pair: Stage) -> None:
    """Sparse, so that chunks are told and not sent."""
    source, out = pair.folder / "disk.img", pair.folder / "out"
    random_file(source, 9 * MIB + 17)
    with source.open("r+b") as file:
        file.truncate(30 * MIB)
        file.seek(29 * MIB)
        file.write(b"end")
    with opened(out) as target:
        bob = taker(pair, target)
    outcome = pair.run("send", source, "bob", as_json=True)
    assert outcome.status == 0, outcome
    bob.ends(0)
    assert file_hash(out) == file_hash(source)


def test_a_pipeline_of_programs(pair: Stage) -> None:
    """The end of the producer is the end of the stream, and nothing but data is on standard output."""
    out = pair.folder / "out"
    with opened(out) as target:
        bob = taker(pair, target)
    with subprocess.Popen(["seq", "200000"], stdout=subprocess.PIPE) as producer:
        assert producer.stdout is not None
        giver(pair, producer.stdout).ends(0)
    bob.ends(0)
    assert out.read_text() == "".join(f"{number}\n" for number in range(1, 200001))


@pytest.mark.parametrize("side", ["alice", "bob"])
def test_a_limit_holds(pair: Stage, side: str) -> None:
    """Either side's; the receiver's is kept by the sender."""
    source, out = pair.folder / "in", pair.folder / "out"
    digest = random_file(source, 6 * MIB)
    limit = {side: ["--limit", "2M"]}
    with opened(out) as target:
        bob = taker(pair, target, *limit.get("bob", []))
    with source.open("rb") as file:
        alice = giver(pair, file, *limit.get("alice", []))
    said = alice.ends(0)
    bob.ends(0)
    assert file_hash(out) == digest
    (line,) = [line for line in said.splitlines() if line.startswith("done: ")]
    assert float(line.split(" in ")[1].split(" s ")[0]) >= 2.0


def test_a_reader_that_does_not_read_holds_the_writer_and_memory_stays_flat(pair: Stage) -> None:
    source = pair.folder / "big"
    digest = random_file(source, 160 * MIB)
    out, into = os.pipe()
    bob = taker(pair, into)
    os.close(into)
    with source.open("rb") as file:
        alice = giver(pair, file)
        assert until_nothing_more_is_read(file) < 40 * MIB
        assert all(resident(end.child.pid) < 150 * MIB for end in (alice, bob))
    drained(out, pair.folder / "out")
    alice.ends(0)
    bob.ends(0)
    assert file_hash(pair.folder / "out") == digest


# -- ends ----------------------------------------------------------------------------------------------------------


def running(stage: Stage, *words: str) -> tuple[End, End, int, int]:
    """A stream of which something has come through: both ends, alice's input and bob's output."""
    (there, feed), (drain, back) = os.pipe(), os.pipe()
    bob = taker(stage, back, *words)
    alice = giver(stage, there, *words)
    os.close(there)
    os.close(back)
    os.write(feed, b"something")
    assert os.read(drain, 100) == b"something"
    return alice, bob, feed, drain


def test_a_reader_that_goes_away_ends_both(pair: Stage) -> None:
    alice, bob, feed, drain = running(pair)
    os.close(drain)
    os.write(feed, b"more")
    assert "nobody reads" in bob.ends(130)
    assert "p2pxfer: the other side ended it: nobody reads the output any more\n" in alice.ends(4)
    os.close(feed)


def test_a_file_that_nobody_reads_any_more_is_no_job_that_could_go_on(pair: Stage) -> None:
    source = pair.folder / "big.bin"
    random_file(source, 8 * MIB)
    drain, back = os.pipe()
    bob = taker(pair, back)
    os.close(back)
    alice = End(pair, "alice", "send", source, "bob", target=subprocess.DEVNULL)
    assert os.read(drain, 100)
    os.close(drain)
    assert "nobody reads" in alice.ends(4)
    bob.ends(130)
    assert "nothing is unfinished" in pair.run("jobs").err


def test_a_file_that_the_output_refuses_is_no_job_that_could_go_on(pair: Stage) -> None:
    """Nothing of it is kept there: what was written cannot be gone on with."""
    source = pair.folder / "big.bin"
    random_file(source, 8 * MIB)
    full = os.open("/dev/full", os.O_WRONLY)
    bob = taker(pair, full)
    os.close(full)
    alice = End(pair, "alice", "send", source, "bob", target=subprocess.DEVNULL)
    assert "No space left on device; nothing of it is kept" in alice.ends(4)
    bob.ends(8)
    assert "nothing is unfinished" in pair.run("jobs").err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sender_tells_the_receiver(pair: Stage, number: signal.Signals) -> None:
    alice, bob, feed, drain = running(pair)
    alice.child.send_signal(number)
    assert alice.ends(130).endswith(
        "p2pxfer: interrupted; a stream cannot go on later; send it again from its beginning\n"
    )
    assert "the sender ended before the stream did; a stream cannot go on later" in bob.ends(75)
    os.close(feed)
    os.close(drain)


def test_an_interrupted_receiver_tells_the_sender(pair: Stage) -> None:
    alice, bob, feed, drain = running(pair)
    bob.child.send_signal(signal.SIGINT)
    bob.ends(130)
    assert "the receiver ended before the stream did; a stream cannot go on later" in alice.ends(75)
    os.close(feed)
    os.close(drain)


@pytest.mark.parametrize("victim", ["alice", "bob"])
def test_who_survives_a_kill_says_that_a_stream_cannot_go_on(pair: Stage, victim: str) -> None:
    alice, bob, feed, drain = running(pair, "--timeout", AWAY)
    killed, survivor = (alice, bob) if victim == "alice" else (bob, alice)
    killed.child.kill()
    said = survivor.ends(75)
    assert ("has not come back" if victim == "alice" else "has not been reachable") in said
    assert "a stream cannot go on" in said
    os.close(feed)
    os.close(drain)


def test_a_receiver_that_was_started_anew_does_not_go_on_in_the_middle(pair: Stage) -> None:
    alice, bob, feed, drain = running(pair)
    bob.child.kill()
    out = pair.folder / "second"
    with opened(out) as target:
        taker(pair, target)
    said = alice.ends(75)
    assert "started anew" in said
    assert "a stream cannot go on" in said
    assert out.read_bytes() == b""
    os.close(feed)
    os.close(drain)


def test_a_killed_receiver_leaves_nothing_under_the_name_and_the_next_one_clears_up(pair: Stage) -> None:
    there, feed = os.pipe()
    bob = pair.receive("--no-code")
    alice = giver(pair, there, "--timeout", AWAY, "--name", "log.txt")
    os.close(there)
    os.write(feed, b"something")
    wait_until(lambda: any(path.stat().st_size for path in pair.inbox.glob(".p2pxfer-*/data")), 60)
    os.kill(bob.pid, signal.SIGKILL)
    bob.wait(40)
    assert "a stream cannot go on" in alice.ends(75)
    os.close(feed)
    assert names_in(pair.inbox) == []
    assert len(staging_of(pair.inbox)) == 1
    bob = pair.receive("--once", "--no-code")
    with (pair.folder / "alice.out").open("wb") as nothing, open(os.devnull, "rb") as empty:
        End(pair, "alice", "send", "-", "bob", "--name", "log.txt", source=empty, target=nothing).ends(0)
    bob.succeed(20)
    assert names_in(pair.inbox) == ["log.txt"]
    assert not staging_of(pair.inbox)


def test_a_killed_sender_leaves_nothing_under_the_name(pair: Stage) -> None:
    there, feed = os.pipe()
    bob = pair.receive("--no-code", "--once", "--timeout", AWAY)
    alice = giver(pair, there, "--name", "log.txt")
    os.close(there)
    os.write(feed, b"something")
    wait_until(lambda: any(path.stat().st_size for path in pair.inbox.glob(".p2pxfer-*/data")), 60)
    alice.child.kill()
    ended = bob.wait(60)
    assert ended.status == 75, ended
    os.close(feed)
    assert names_in(pair.inbox) == []
    assert not staging_of(pair.inbox)


def test_the_server_may_restart(tmp_path: Path) -> None:
    """And the path over it with it: not a byte is lost or doubled."""
    source, out = tmp_path / "in", tmp_path / "out"
    digest = random_file(source, 36 * MIB)
    with Stage(tmp_path) as stage:
        server = stage.start_server()
        stage.make_contacts()
        with opened(out) as target:
            bob = taker(stage, target, "--path", "relay")
        with source.open("rb") as file:
            alice = giver(stage, file, "--path", "relay", "--limit", "12M")
        wait_until(lambda: out.stat().st_size > 6 * MIB, 60)
        server.stop()
        assert out.stat().st_size < 36 * MIB
        stage.start_server()
        assert alice.ends(0).count("path: relay") >= 2
        bob.ends(0)
    assert file_hash(out) == digest


# -- what is refused -----------------------------------------------------------------------------------------------


def test_standard_output_takes_one_file_and_no_directory(pair: Stage) -> None:
    folder = pair.folder / "folder"
    folder.mkdir()
    one, two = folder / "one", folder / "two"
    random_file(one, 1000)
    random_file(two, 1000)
    out = pair.folder / "out"
    with opened(out) as target:
        bob = taker(pair, target)
    pair.fails_plainly(4, "standard output takes one file", "send", folder, "bob")
    assert bob.ends(4).count("standard output takes one file") >= 1
    assert out.read_bytes() == b""
    with opened(out) as target:
        bob = taker(pair, target)
    pair.fails_plainly(4, "standard output takes one file", "send", one, two, "bob")
    bob.ends(4)


def test_a_second_stream_is_refused_and_the_first_goes_on(pair: Stage) -> None:
    alice, bob, feed, drain = running(pair)
    with open(os.devnull, "rb") as empty:
        assert "has got it" in giver(pair, empty).ends(4)
    os.write(feed, b" more")
    os.close(feed)
    alice.ends(0)
    bob.ends(0)
    assert os.read(drain, 100) == b" more"
    os.close(drain)


@pytest.mark.parametrize(("typed", "status"), [(b"n\n", 4), (b"y\n", 0)])
def test_somebody_is_asked_about_a_stream(pair: Stage, typed: bytes, status: int) -> None:
    there, answers = os.pipe()
    bob = End(
        pair, "bob", "receive", "--as", "bob", "--to", pair.inbox, "--no-code", "--accept", "ask", "--once",
        source=there, target=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(there)
    bob.waits_for("registered as bob")
    with open(os.devnull, "rb") as empty:
        alice = giver(pair, empty)
    bob.waits_for("take stdin (a stream of unknown size, ")
    os.write(answers, typed)
    said = alice.ends(status)
    assert ("the receiver's user said no" in said) == bool(status)
    bob.ends(status)
    os.close(answers)


def test_a_question_about_a_stream_goes_with_its_sender(pair: Stage) -> None:
    there, answers = os.pipe()
    bob = End(
        pair, "bob", "receive", "--as", "bob", "--to", pair.inbox, "--no-code", "--accept", "ask",
        source=there, target=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(there)
    bob.waits_for("registered as bob")
    for number in (1, 2):
        with open(os.devnull, "rb") as empty:
            alice = giver(pair, empty)
        wait_until(lambda asked=number: bob.said().count("take stdin (a stream of unknown size, ") == asked)
        if number == 1:
            alice.child.send_signal(signal.SIGINT)
            alice.ends(130)
            bob.waits_for("the sender ended before the stream did")
    os.write(answers, b"y\n")
    alice.ends(0)
    bob.waits_for("saved stdin")
    assert "the user here" not in bob.said()
    bob.child.send_signal(signal.SIGINT)
    bob.ends(130)
    os.close(answers)


def test_commands_that_make_no_sense(pair: Stage) -> None:
    some = pair.folder / "some"
    random_file(some, 10)
    pair.fails_plainly(2, "sent alone", "send", "-", some, "bob")
    pair.fails_plainly(2, "--name is for standard input", "send", some, "bob", "--name", "x")
    pair.fails_plainly(2, "--stdout and --to contradict", "receive", "--stdout", "--to", pair.inbox)
    check_failure(pair.run("send", "-", "bob", "--name", "../../x", typed="x"), 2, "../../x")
    check_failure(pair.run("send", "-", "bob", "--name", "con", typed="x"), 2, "con")
    check_failure(pair.run("send", "-", "bob", "--delta", typed="x"), 2, "--delta is for files")
    outcome = pair.run("receive", "--stdout", as_json=True)
    assert outcome.status == 2
    assert "--json has no place" in outcome.out
    for words, which in (("send - bob <&-", "input"), ("receive --stdout >&-", "output")):
        line = f"{pair.binary} --server {pair.address} --home {pair.alice} {words}"
        closed = pair.run_bare(["sh", "-c", line])
        assert closed.status == 2, closed
        assert f"standard {which} is closed" in closed.err


def test_a_terminal_is_neither_input_nor_output(pair: Stage) -> None:
    """Neither would anybody know how to end it, nor may a peer write to the screen."""
    keyboard, terminal = os.openpty()
    try:
        for role, words, says in (
            ("alice", ["send", "-", "bob"], "standard input is a terminal"),
            ("bob", ["receive", "--stdout"], "standard output is a terminal"),
        ):
            assert says in End(pair, role, *words, source=terminal, target=terminal).ends(2, 20)
    finally:
        os.close(keyboard)
        os.close(terminal)
