"""A user who stops a command: what the one at the other end reads of it, in text and as events."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from p2pxfer.net.staging.journalfile import UNAGREED
from p2pxfer.net.transfer import undecided
from scripts.product import JsonEvent, Program, client
from tests.chats import ChatEnd
from tests.e2e.conftest import MIB, Stage, Words, end_of, kill, staging_of, until_bytes, wait_until
from tests.e2e.terminal import Terminal
from tests.pipes import PipeEnd
from tests.scene import events_of, file_hash, last, random_file

STOPS = [signal.SIGINT, signal.SIGTERM]
SAYING_S = 8.0
"""How soon the other end has to know, seconds: far less than a path takes to be noticed as lost."""

GONE_S = 6.0
"""How soon a sender has to know that who it was introduced to has gone, seconds: the server says so within three."""

MOMENT_S = 2.5
"""How long a stop may take where nobody listens, seconds: shorter than what an orderly end has."""


def note_of(program: Program, wanted: str, silence: float = 20.0) -> tuple[JsonEvent, list[JsonEvent]]:
    """The first note with these words, and everything that came before it."""
    before: list[JsonEvent] = []
    deadline = time.monotonic() + silence
    for event in program.events(silence):
        assert time.monotonic() < deadline, f"no note {wanted!r} in {before}"
        if event["event"] == "note" and wanted in event["message"]:
            return event, before
        before.append(event)
    raise AssertionError(f"no note {wanted!r} in {before}")


def stop(program: Program, signum: signal.Signals, other: Program) -> tuple[JsonEvent, list[JsonEvent]]:
    """Stop one; the note by which the other end knows soon, and what that said before."""
    stopped_at = time.monotonic()
    os.kill(program.pid, signum)
    said, before = note_of(other, "stopped")
    assert time.monotonic() - stopped_at < SAYING_S
    return said, before


def test_who_stops_sending_says_so(pair: Stage) -> None:
    big = pair.folder / "big.bin"
    digest = random_file(big, 8 * MIB)
    for signum in STOPS:
        bob = pair.receive("--once", "--no-code")
        alice = pair.send(big, "--limit", "4M")
        until_bytes(bob, 2 * MIB)
        said, before = stop(alice, signum, bob)
        assert "of 8.0 MiB are kept" in said["message"]
        assert "alice runs the same command again" in said["message"]
        assert not [event for event in before if event["event"] == "path" and event["state"] == "down"]
        assert alice.wait(20).status == 130
        assert bob.poll() is None  # it goes on waiting, also with --once
        if signum is STOPS[-1]:
            break
        bob.stop()
    alice = pair.send(big)
    assert last(events_of(alice), "resumed")["have_bytes"] >= 2 * MIB
    events = events_of(bob)
    assert not [event for event in events if event["event"] == "note" and "gone" in event["message"]]
    assert file_hash(pair.inbox / "big.bin") == digest


def test_both_ends_tell_the_same_of_a_sender_that_was_killed_and_is_back_at_once(pair: Stage) -> None:
    """The receiver ran through both senders: what it says is what the second one sent, and in what time."""
    big = pair.folder / "big.bin"
    random_file(big, 8 * MIB)
    line: Words = ["--server", pair.address, "--home", pair.bob, "receive", "--as", "bob", "--no-code", "--once"]
    bob = pair.start(pair.binary, *line, "--to", pair.inbox, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert bob.stderr is not None
    assert b"registered" in bob.stderr.readline()
    alice = pair.send(big, "--limit", "2M", "--wait")
    until_bytes(alice, 2 * MIB)
    kill(alice)
    sent = pair.run("send", big, "bob")
    said = bob.communicate(timeout=30)[1].decode()
    assert (sent.status, bob.returncode) == (0, 0), sent
    ends = [re.search(r"done: 1 file, 8\.0 MiB, of which (.*) were sent, in (.*) s", text) for text in (sent.err, said)]
    here = [re.search(r"going on: .*?([\d.]+ MiB)", text) for text in (sent.err, said)]
    assert all([*ends, *here]), (sent.err, said)
    assert len({found and found[1] for found in ends}) == len({found and found[1] for found in here}) == 1, said


def test_the_end_of_the_sender_is_one_line(pair: Stage) -> None:
    big = pair.folder / "big.bin"
    random_file(big, 8 * MIB)
    said = pair.folder / "said.txt"
    with said.open("w") as screen:
        words: Words = ["--home", pair.bob, "--server", pair.address, "receive", "--as", "bob", "--to", pair.inbox]
        pair.start(pair.binary, *words, "--no-code", stdout=screen, stderr=screen)
        wait_until(lambda: "waiting" in said.read_text() or "registered" in said.read_text())
        alice = pair.send(big, "--limit", "4M")
        until_bytes(alice, 2 * MIB)
        before = len(said.read_text())
        os.kill(alice.pid, signal.SIGINT)
        wait_until(lambda: "stopped" in said.read_text()[before:])
        alice.wait(20)
        pair.send(pair.folder / "big.bin").succeed(40)
        wait_until(lambda: "saved" in said.read_text()[before:])
    lines = [line for line in said.read_text()[before:].splitlines() if re.search("stopped|lost|gone", line)]
    assert len(lines) == 1, said.read_text()


def test_a_question_goes_with_its_sender_and_the_next_offer_is_asked_anew(pair: Stage) -> None:
    some = pair.folder / "some.bin"
    digest = random_file(some, MIB)
    question = re.compile(r"take some\.bin [^?]*from alice\? \[y/N\] ")
    words: Words = ["--home", pair.bob, "--server", pair.address, "receive", "--as", "bob", "--to", pair.inbox]
    bob = Terminal.of([pair.binary, *words, "--once", "--accept", "ask", "--no-code"], os.environ)
    pair.callback(bob.close)
    bob.wait_for(re.compile("registered|waiting"))
    alice = pair.send(some)
    bob.wait_for(question)
    os.kill(alice.pid, signal.SIGINT)
    assert alice.wait(20).status == 130
    bob.wait_for(re.compile("alice was stopped there before anything was taken"))
    wait_until(lambda: not staging_of(pair.inbox))  # nobody agreed to it, so nothing is kept
    alice = pair.send(some)
    bob.wait_for(question, 2)
    bob.type("y")
    assert bob.status() == 0, bob.text
    assert file_hash(pair.inbox / "some.bin") == digest
    alice.succeed(20)
    assert len(question.findall(bob.text)) == 2, bob.text
    assert not re.search("error|lost", bob.text), bob.text


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_a_question_goes_with_a_sender_that_was_killed(pair: Stage, path: str) -> None:
    some = pair.folder / "some.bin"
    random_file(some, MIB)
    words: Words = ["--home", pair.bob, "--server", pair.address, "receive", "--as", "bob", "--to", pair.inbox]
    bob = Terminal.of([pair.binary, *words, "--accept", "ask", "--no-code"], os.environ)
    pair.callback(bob.close)
    bob.wait_for(re.compile("registered|waiting"))
    alice = pair.send(some, "--path", path)
    bob.wait_for(re.compile(r"take some\.bin [^?]*from alice\? \[y/N\] "))
    began = time.monotonic()
    os.kill(alice.pid, signal.SIGKILL)
    bob.wait_for(re.compile("alice has not come back; nothing was taken"))
    assert time.monotonic() - began < 2 * undecided.GONE_S
    wait_until(lambda: not staging_of(pair.inbox))


@pytest.mark.parametrize("answer", ["", "y"])
def test_a_receiver_killed_while_it_asks_leaves_no_job(pair: Stage, answer: str) -> None:
    """What nobody agreed to goes when the jobs are listed; what somebody did stays."""
    some = pair.folder / "some.bin"
    random_file(some, MIB)
    words: Words = ["--home", pair.bob, "--server", pair.address, "receive", "--as", "bob", "--to", pair.inbox]
    with closing(Terminal.of([pair.binary, *words, "--accept", "ask", "--no-code"], os.environ)) as bob:
        bob.wait_for(re.compile("registered|waiting"))
        pair.send(some, "--limit", "16K")
        bob.wait_for(re.compile(r"take some\.bin [^?]*from alice\? \[y/N\] "))
        (place,) = staging_of(pair.inbox)
        if answer:
            bob.type(answer)
            wait_until(lambda: not (pair.inbox / place / UNAGREED.decode()).exists())
    outcome = pair.run("jobs", home=pair.bob, as_json=True)
    assert outcome.status == 0, outcome
    assert [event["names"] for event in outcome.events] == ([["some.bin"]] if answer else [])
    assert len(staging_of(pair.inbox)) == len(outcome.events)


@pytest.mark.parametrize("signum", STOPS)
def test_who_stops_receiving_says_so(pair: Stage, signum: signal.Signals) -> None:
    big = pair.folder / "big.bin"
    digest = random_file(big, 8 * MIB)
    bob = pair.receive("--no-code")
    alice = pair.send(big, "--limit", "4M")
    until_bytes(alice, 2 * MIB)
    said, before = stop(bob, signum, alice)
    assert "bob was stopped there" in said["message"]
    assert "what arrived is kept there" in said["message"]
    assert not [event for event in before if event["event"] == "note" and "lost" in event["message"]]
    assert bob.wait(20).status == 130
    assert alice.poll() is None
    bob = pair.receive("--once", "--no-code")
    status, events = end_of(alice)
    assert status == 0, events
    bob.succeed(20)
    assert not [event for event in events if event["event"] == "note" and "lost" in event["message"]]
    assert file_hash(pair.inbox / "big.bin") == digest


def test_a_sender_whose_receiver_stays_stopped_ends_and_says_so(pair: Stage) -> None:
    big = pair.folder / "big.bin"
    random_file(big, 8 * MIB)
    bob = pair.receive("--no-code")
    alice = pair.send(big, "--limit", "4M", "--timeout", "3")
    until_bytes(alice, 2 * MIB)
    os.kill(bob.pid, signal.SIGINT)
    status, events = end_of(alice, 20)
    assert status == 75
    message = last(events, "error")["message"]
    assert "was stopped" in message
    assert "run the same command again" in message


@pytest.fixture
def left(pair: Stage) -> Callable[[Words], tuple[Program, float]]:
    """A sender whose receiver is killed when the two are introduced and no path is up, and the moment of that."""

    def meet(more: Words) -> tuple[Program, float]:
        random_file(pair.folder / "big.bin", MIB)
        bob = pair.receive("--no-code")
        os.kill(bob.pid, signal.SIGSTOP)
        alice = pair.send(pair.folder / "big.bin", *more)
        alice.wait_for("introduced")
        os.kill(bob.pid, signal.SIGKILL)
        bob.wait(5)
        return alice, time.monotonic()

    return meet


def test_a_sender_hears_that_its_receiver_has_gone_before_a_path_is_up(
    left: Callable[[Words], tuple[Program, float]],
) -> None:
    alice, gone_at = left([])
    status, events = end_of(alice, 20)
    assert time.monotonic() - gone_at < GONE_S
    assert status == 3
    assert "bob is not here now" in last(events, "error")["message"]
    assert not [event for event in events if event["event"] == "note"]


def test_a_sender_that_waits_goes_back_to_that_when_its_receiver_has_gone(
    pair: Stage, left: Callable[[Words], tuple[Program, float]]
) -> None:
    alice, gone_at = left(["--wait"])
    _, before = note_of(alice, "bob lost its connection to the server; waiting for it to come back")
    assert time.monotonic() - gone_at < GONE_S
    assert not [event for event in before if event["event"] == "note"]
    pair.receive("--once", "--no-code").succeed(30)
    status, events = end_of(alice)
    assert status == 0, events


def transfer_ends(pair: Stage) -> dict[str, tuple[int, Callable[[], int]]]:
    """Both ends of a large file under way: their processes, and how each is waited for."""
    big = pair.folder / "big.bin"
    random_file(big, 64 * MIB)
    bob = pair.receive("--no-code")
    alice = pair.send(big, "--limit", "8M")
    until_bytes(alice, 2 * MIB)
    return {
        "send": (alice.pid, lambda: alice.wait(10).status or 0),
        "receive": (bob.pid, lambda: bob.wait(10).status or 0),
    }


def pipe_ends(pair: Stage) -> dict[str, tuple[int, Callable[[], int]]]:
    """Both ends of a pipe into which one of them writes without end."""
    came = pair.folder / "came"
    with Path("/dev/zero").open("rb") as zeros, came.open("wb") as target, (pair.folder / "none").open("wb") as nothing:
        alice, bob = PipeEnd(pair, "alice", source=zeros, target=nothing), PipeEnd(pair, "bob", target=target)
    wait_until(lambda: came.stat().st_size > 0)
    return {"pipe": (alice.child.pid, lambda: alice.child.wait(10)), "other": (bob.child.pid, lambda: 0)}


def service_ends(pair: Stage) -> dict[str, tuple[int, Callable[[], int]]]:
    """A service and a program that is connected to it."""
    bob = pair.program("bob", pair.bob, "expose", "127.0.0.1:9", "--to", "alice", "--as", "web")
    bob.wait_for("exposed")
    alice = pair.program("alice", pair.alice, "connect", "bob:web", "--listen", "0")
    alice.wait_for("peer")
    bob.wait_for("peer")
    return {
        "expose": (bob.pid, lambda: bob.wait(10).status or 0),
        "connect": (alice.pid, lambda: alice.wait(10).status or 0),
    }


def words_ends(pair: Stage) -> dict[str, tuple[int, Callable[[], int]]]:
    """Two that pair and are asked whether they see the same words: who shows the code, and who entered it."""
    found: dict[str, tuple[int, Callable[[], int]]] = {}
    code: list[str] = []
    for role, home in (("shows", pair.folder / "one"), ("enters", pair.folder / "two")):
        words = ["pair", "--as", role, "--verify", *code]
        log = pair.folder / f"{role}.said"  # its question is no failure
        program = Program(pair.place, role, client(pair.address, home, *words), log, commanded=True)
        pair.callback(program.stop)
        if not code:
            code.append(str(program.wait_for("code")["code"]))
        found[role] = program.pid, partial(lambda ends: ends.wait(10).status or 0, program)
        last_one = program
    last_one.wait_for("words")
    return found


@pytest.mark.parametrize(
    ("ends", "stopped"),
    [
        pytest.param(transfer_ends, "send", id="send"),
        pytest.param(transfer_ends, "receive", id="receive"),
        pytest.param(pipe_ends, "pipe", id="pipe"),
        pytest.param(service_ends, "expose", id="expose"),
        pytest.param(service_ends, "connect", id="connect"),
        pytest.param(words_ends, "shows", id="pair shows"),
        pytest.param(words_ends, "enters", id="pair enters"),
    ],
)
def test_a_stop_waits_for_nobody(
    pair: Stage, ends: Callable[[Stage], dict[str, tuple[int, Callable[[], int]]]], stopped: str
) -> None:
    """The other end does not even read: the farewell is sent in vain, and not for long."""
    both = ends(pair)
    pid, status = both.pop(stopped)
    ((deaf, _),) = both.values()
    os.kill(deaf, signal.SIGSTOP)
    try:
        began = time.monotonic()
        os.kill(pid, signal.SIGINT)
        assert status() == 130
        assert time.monotonic() - began < MOMENT_S
    finally:
        os.kill(deaf, signal.SIGCONT)


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_who_stops_a_chat_leaves_it(pair: Stage, role: str) -> None:
    """Either the one who asked for introductions or the one who waited for them."""
    ends = {name: ChatEnd(pair, name) for name in ("alice", "bob")}
    for name, end in ends.items():
        end.say(f"{name} speaks")
    for end in ends.values():
        end.wait_heard(1)
    stopped = ends.pop(role)
    (other,) = ends.values()
    stopped_at = time.monotonic()
    stopped.child.send_signal(signal.SIGINT)
    other.waits_for(f"{role} has left; lines for {role} wait")
    assert time.monotonic() - stopped_at < SAYING_S
    assert "has left" not in stopped.ends(130, 10)
    assert not re.search("lost|reconnecting", other.said())


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_who_stops_a_pipe_loses_no_path(pair: Stage, role: str) -> None:
    (there, feed), (drain, back) = os.pipe(), os.pipe()
    with (pair.folder / "nothing").open("wb") as nothing:
        ends = {"alice": PipeEnd(pair, "alice", source=there, target=nothing), "bob": PipeEnd(pair, "bob", target=back)}
    os.close(there)
    os.close(back)
    os.write(feed, b"something")
    assert os.read(drain, 100) == b"something"
    stopped = ends.pop(role)
    stopped.child.send_signal(signal.SIGTERM)
    (other,) = ends.values()
    assert "interrupted there; what was under way is lost" in other.ends(75, 20)
    assert "path lost" not in other.said()
    stopped.ends(130, 10)
    os.close(feed)
    os.close(drain)


def test_a_service_that_is_stopped_is_waited_for(pair: Stage) -> None:
    bob = pair.program("bob", pair.bob, "expose", "127.0.0.1:9", "--to", "alice", "--as", "web")
    bob.wait_for("exposed")
    alice = pair.program("alice", pair.alice, "connect", "bob:web", "--listen", "0")
    alice.wait_for("peer")
    bob.wait_for("peer")
    os.kill(bob.pid, signal.SIGTERM)
    said, before = note_of(alice, "stopped")
    assert said["message"].startswith("bob was stopped there; waiting up to ")
    assert not [event for event in before if event["event"] == "note"]
    assert bob.wait(20).status == 130
    assert alice.poll() is None
