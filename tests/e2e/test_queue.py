"""``send --queue`` with whole programs: a peer that is away, pauses, order, faults of one entry, kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pxfer.net.queue.queuestore import Queued, QueueStore
from scripts.product import JsonEvent, Program
from tests.agents import start_agent, until
from tests.e2e.conftest import MIB, Outcome, Stage, fast_folder, fast_pair, kill, names_in, staging_of, wait_until
from tests.scene import file_hash, random_file

KILLED_AGENT = Path(__file__).with_name("killed_agent.py")
SIZE = 24 * MIB
SLOW = "1M"
"""A rate at which that takes long enough for every step of a test to come in its middle."""
BRISK = "3M"
"""The same for a test of one step, which is a kill."""


@pytest.fixture
def stage() -> Iterator[Stage]:
    with fast_pair() as made:
        yield made


def start(stage: Stage) -> Program:
    """Alice's agent."""
    return start_agent(stage, "alice", stage.alice)


def entries(stage: Stage) -> list[Queued]:
    return QueueStore(stage.alice).read()[0]


def run(stage: Stage, *words: str | Path) -> list[JsonEvent]:
    outcome: Outcome = stage.run(*words, as_json=True)
    assert outcome.status == 0, outcome
    return outcome.events


def queue(stage: Stage, path: Path, *options: str) -> str:
    """Queue a file for bob; the number of the job."""
    (queued,) = run(stage, "send", "--queue", *options, path, "bob")
    assert queued["event"] == "queued"
    assert (queued["peer"], queued["names"]) == ("bob", [path.name])
    return str(queued["job"])


def jobs(stage: Stage) -> dict[str, JsonEvent]:
    return {event["job"]: event for event in run(stage, "jobs") if event["event"] == "job"}


def moving(stage: Stage, agent: Program, number: str, least: int) -> None:
    """Wait until so much of a job is there."""
    until(stage.alice, lambda now: any(job.job == number and job.bytes >= least for job in now.transfers), agent)


def arrived(stage: Stage, name: str, digest: str) -> None:
    """Wait until it is there, and was forgotten here."""
    wait_until((stage.inbox / name).exists, 60)
    assert file_hash(stage.inbox / name) == digest
    wait_until(lambda: not any(each.paths[0].endswith(name) for each in entries(stage)), 20)


def came_once(bob: Program) -> None:
    """What bob got in the transfer that is done next is hardly more than the file: what he had was not sent again."""
    assert sum(bob.wait_for("done", 60)["bytes_by_path"].values()) <= SIZE + 2 * MIB


@pytest.mark.deadline(120)
def test_it_waits_for_the_agent_and_for_the_peer(stage: Stage) -> None:
    source = stage.folder / "a.bin"
    digest = random_file(source, MIB)
    said = stage.run("send", "--queue", source, "bob")
    assert said.status == 0, said
    assert "no agent runs on this home" in said.err
    assert "twistd p2pxfer-agent" in said.err
    (job,) = jobs(stage).values()
    assert (job["state"], job["peer"], job["names"]) == ("queued", "bob", ["a.bin"])
    start(stage)
    again = stage.run("send", "--queue", source, "bob")
    assert "sends it as soon as bob is there" in again.err
    source.write_bytes(b"changed while bob is away")
    stage.receive("--no-code")
    wait_until((stage.inbox / "a.bin").exists, 40)
    assert (stage.inbox / "a.bin").read_bytes() == b"changed while bob is away"
    assert file_hash(stage.inbox / "a.bin") != digest
    wait_until(lambda: entries(stage) == [], 20)
    assert names_in(stage.inbox) == ["a.bin"]
    wait_until(lambda: not staging_of(stage.inbox), 20)
    assert "nothing is unfinished" in stage.run("jobs").err


@pytest.mark.deadline(180)
def test_paused_in_the_middle_and_resumed(stage: Stage) -> None:
    source = stage.folder / "big.bin"
    digest = random_file(source, SIZE)
    bob = stage.receive("--no-code")
    agent = start(stage)
    number = queue(stage, source, "--limit", SLOW)
    moving(stage, agent, number, 3 * MIB)
    assert jobs(stage)[number]["state"] == "running"
    (event,) = run(stage, "jobs", "pause", number)
    assert (event["job"], event["state"]) == (number, "paused")
    wait_until(lambda: not entries(stage)[0].running, 20)
    (paused,) = entries(stage)
    assert 3 * MIB <= paused.acked < SIZE
    assert staging_of(stage.inbox)
    (event,) = run(stage, "jobs", "resume", number)
    assert event["state"] == "queued"
    moving(stage, agent, number, paused.acked + MIB)
    run(stage, "jobs", "pause", number)
    assert queue(stage, source) == number  # resumes it, without the limit
    arrived(stage, "big.bin", digest)
    came_once(bob)
    wait_until(lambda: not staging_of(stage.inbox), 20)


@pytest.mark.deadline(120)
def test_a_peer_that_asks_its_user_is_shown_as_that(stage: Stage) -> None:
    source = stage.folder / "asked.bin"
    digest = random_file(source, MIB)
    answers, into = os.pipe()
    try:
        stage.asking_receiver(answers, "--no-code")
        start(stage)
        number = queue(stage, source)
        wait_until(lambda: jobs(stage)[number]["state"] == "asking", 40)
        assert "asked.bin in " in stage.run("jobs").out
        assert "(waits for the peer's consent)" in stage.run("jobs").out
        there = stage.run("agent", "status")
        assert "0 to be sent, 1 under way" in there.out
        assert "  asked.bin to bob: waits for the peer's consent" in there.out
        assert not (stage.inbox / "asked.bin").exists()
        os.write(into, b"y\n")
        arrived(stage, "asked.bin", digest)
    finally:
        os.close(answers)
        os.close(into)
    (stage.folder / "asking.log").unlink()


@pytest.mark.deadline(120)
def test_order(stage: Stage) -> None:
    numbers = []
    for name in ("old", "middle", "young"):
        random_file(stage.folder / name, MIB)
        numbers.append(queue(stage, stage.folder / name))
    run(stage, "jobs", "priority", numbers[1], "-2")
    run(stage, "jobs", "first", numbers[2])
    listed = jobs(stage)
    assert [listed[number]["priority"] for number in numbers] == [0, -2, 1]
    agent = start(stage)
    threads = held(agent)
    bob = stage.receive("--no-code")
    order = [Path(bob.wait_for("done", 40)["saved"][0]).name for _ in numbers]
    assert order == ["young", "old", "middle"]
    wait_until(lambda: entries(stage) == [], 20)
    wait_until(lambda: held(agent) <= threads, 20)  # nothing is left of the runs
    first = opened(agent)
    for name in ("old", "young"):
        queue(stage, stage.folder / name)
        bob.wait_for("done", 40)
    wait_until(lambda: held(agent) <= threads and opened(agent) <= first, 20)


def held(agent: Program) -> int:
    """How many threads it has."""
    return len(os.listdir(f"/proc/{agent.pid}/task"))


def opened(agent: Program) -> int:
    """How many descriptors it has."""
    return len(os.listdir(f"/proc/{agent.pid}/fd"))


@pytest.mark.deadline(120)
def test_cancelled_ones_do_not_arrive(stage: Stage) -> None:
    for name in ("waits", "runs", "last"):
        random_file(stage.folder / name, SIZE if name == "runs" else MIB)
    stage.receive("--no-code")
    agent = start(stage)
    running = queue(stage, stage.folder / "runs", "--limit", SLOW)
    moving(stage, agent, running, 2 * MIB)
    waiting = queue(stage, stage.folder / "waits")
    queue(stage, stage.folder / "last")
    for number in (waiting, running):
        (event,) = run(stage, "jobs", "cancel", number)
        assert (event["job"], event["state"]) == (number, "dropped")
    wait_until((stage.inbox / "last").exists, 40)
    wait_until(lambda: entries(stage) == [], 20)
    assert names_in(stage.inbox) == ["last"]
    wait_until(lambda: list((stage.alice / "outgoing").iterdir()) == [], 20)
    refused = stage.run("jobs", "cancel", running)
    assert refused.status == 2


@pytest.mark.deadline(120)
def test_what_is_gone_fails_and_the_others_go_on(stage: Stage) -> None:
    gone, other = stage.folder / "gone", stage.folder / "other"
    random_file(gone, MIB)
    digest = random_file(other, MIB)
    number = queue(stage, gone)
    queue(stage, other)
    (stage.alice / "queue" / "00000000.json").write_bytes(b'{"schema": 7}')
    gone.unlink()
    stage.receive("--no-code")
    start(stage)
    arrived(stage, "other", digest)
    listed = jobs(stage)
    assert list(listed) == [number]
    assert listed[number]["state"] == "failed"
    assert "does not exist" in listed[number]["why"]
    shown = stage.run("jobs")
    assert "(failed; " in shown.out
    assert [line for line in shown.err.splitlines() if "newer version" in line and "jobs cancel 00000000" in line]
    assert stage.run("jobs", "pause", number).status == 2
    digest = random_file(gone, MIB)
    run(stage, "jobs", "resume", number)
    arrived(stage, "gone", digest)


@pytest.mark.deadline(120)
def test_a_peer_that_refuses_is_not_asked_again_before_a_person_wants_it(stage: Stage) -> None:
    source = stage.folder / "a"
    digest = random_file(source, MIB)
    assert stage.run("contacts", "deny", "alice", "files", home=stage.bob).status == 0
    stage.receive("--no-code")
    start(stage)
    number = queue(stage, source)
    wait_until(lambda: entries(stage)[0].failed, 40)
    assert "takes no files from you" in jobs(stage)[number]["why"]
    assert stage.run("contacts", "allow", "alice", "files", home=stage.bob).status == 0
    run(stage, "jobs", "resume", number)
    arrived(stage, "a", digest)


@pytest.mark.deadline(180)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_agent_is_killed_in_the_middle(stage: Stage, how: signal.Signals) -> None:
    source = stage.folder / "big.bin"
    digest = random_file(source, SIZE)
    bob = stage.receive("--no-code")
    agent = start(stage)
    number = queue(stage, source, "--limit", BRISK)
    moving(stage, agent, number, 5 * MIB)
    kill(agent, how)
    assert jobs(stage)[number]["state"] == "queued"
    if how == signal.SIGTERM:
        assert entries(stage)[0].acked >= 5 * MIB
    queue(stage, source)  # without the limit
    start(stage)
    arrived(stage, "big.bin", digest)
    came_once(bob)
    assert names_in(stage.inbox) == ["big.bin"]


@pytest.mark.deadline(120)
@pytest.mark.parametrize("point", ["before", "after"])
def test_the_agent_is_killed_when_the_peer_has_everything(stage: Stage, point: str) -> None:
    """Before or after the entry is forgotten: nothing arrives twice."""
    source = stage.folder / "a"
    digest = random_file(source, MIB)
    stage.receive("--no-code")
    queue(stage, source)
    words: list[str | Path] = ["--log-format=text", "p2pxfer-agent", "--home", stage.alice, "--server", stage.address]
    agent = stage.start(sys.executable, KILLED_AGENT, point, *words, stdout=subprocess.DEVNULL)
    assert agent.wait(60) == -signal.SIGKILL
    assert file_hash(stage.inbox / "a") == digest
    assert len(entries(stage)) == (1 if point == "before" else 0)
    start(stage)
    wait_until(lambda: entries(stage) == [], 40)
    random_file(stage.folder / "b", MIB)
    number = queue(stage, stage.folder / "b")  # when that is there too, nothing else comes
    wait_until(lambda: number not in jobs(stage), 40)
    assert names_in(stage.inbox) == ["a", "b"]


@pytest.mark.deadline(180)
def test_the_peer_goes_away_in_the_middle_and_comes_back(stage: Stage) -> None:
    source = stage.folder / "big.bin"
    digest = random_file(source, SIZE)
    bob = stage.receive("--no-code")
    agent = start(stage)
    number = queue(stage, source, "--limit", BRISK)
    moving(stage, agent, number, 4 * MIB)
    kill(bob)
    stage.receive("--no-code")
    arrived(stage, "big.bin", digest)


@pytest.mark.deadline(120)
def test_somebody_else_under_the_name_of_the_peer(stage: Stage) -> None:
    source = stage.folder / "a"
    digest = random_file(source, MIB)
    start(stage)
    eve = stage.program("eve", stage.folder / "eve", "receive", "--as", "bob", "--accept", "all", "--to", stage.inbox)
    eve.wait_for("registered")
    number = queue(stage, source)
    wait_until(lambda: entries(stage)[0].failed, 40)
    assert "was verified before; nothing was sent" in jobs(stage)[number]["why"]
    assert names_in(stage.inbox) == []
    eve.stop()
    # The name is hers at this server now, and what counts is the key.
    stage.program("bob", stage.bob, "receive", "--as", "bobby", "--to", stage.inbox, "--no-code").wait_for("registered")
    run(stage, "jobs", "resume", number)
    arrived(stage, "a", digest)


@pytest.mark.deadline(120)
def test_the_server_is_away_when_it_begins_and_while_it_waits() -> None:
    with fast_folder() as folder, Stage(folder) as stage:
        server = stage.start_server()
        stage.make_contacts()
        source = stage.folder / "a"
        digest = random_file(source, MIB)
        kill(server)
        agent = start_agent(stage, "alice", stage.alice, ready=False)
        wait_until(lambda: QueueStore(stage.alice).attended, 40)
        queue(stage, source)
        wait_until(lambda: "cannot be reached" in entries(stage)[0].why, 40)
        assert not entries(stage)[0].failed
        server = stage.start_server()
        until(stage.alice, lambda now: now.agent.observed != "", agent)
        kill(server)
        stage.start_server()
        stage.receive("--no-code")
        arrived(stage, "a", digest)
        stage.close()
        stage.check_logs()
