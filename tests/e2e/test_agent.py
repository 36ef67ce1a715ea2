"""The agent as a real program: what it receives and exposes with nobody there, whatever ends it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from p2pxfer.core.ids import PeerId
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.queue.queuerunner import LOOK_S
from scripts.product import BIN, JsonEvent, Program
from tests.agents import befriend, configure, start_agent, until
from tests.e2e.conftest import MIB, Outcome, Stage, check_failure, staging_of, wait_until
from tests.scene import WORDS, events_of, file_hash, random_file
from tests.services import Service

pytestmark = pytest.mark.deadline(240)


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Stage]:
    """A stage on which bob has an agent to come, alice knows him, and carol as well."""
    with Stage(tmp_path) as stage:
        stage.start_server()
        stage.make_contacts()
        befriend(stage.bob, "carol", carol_of(stage), "bob")
        configure(stage.bob, 'name = "bob"\n')
        yield stage
    stage.check_logs()


def carol_of(stage: Stage) -> Path:
    return stage.folder / "carol-home"


def folder_of(stage: Stage, name: str) -> Path:
    """Where the agent puts what a contact sends, by default."""
    return stage.bob / "inbox" / name


def arrived(folder: Path) -> list[str]:
    """Everything below a directory that somebody sent."""
    found = [path.relative_to(folder) for path in folder.rglob("*")]
    return sorted(str(path) for path in found if not any(part.startswith(".p2pxfer-") for part in path.parts))


def send(stage: Stage, source: Path, *words: str | Path, home: Path | None = None, **options: Any) -> Outcome:
    """A whole run of somebody's sender, alice's by default."""
    return stage.run("send", source, "bob", *words, home=home, as_json=True, timeout=90, **options)


def kill(program: Program) -> None:
    """As a power cut does it: no chance to do anything."""
    os.killpg(program.pid, signal.SIGKILL)
    program.wait(30)


def agent_fails(stage: Stage, home: Path, says: str, *words: str | Path) -> None:
    """An agent must not start: one line, and the exit code of a wrong configuration."""
    argv = [BIN / "twist", "--log-format=text", "p2pxfer-agent", "--home", home, "--server", stage.address, *words]
    outcome = stage.run_bare(argv, timeout=60)
    assert outcome.status == 2, outcome
    assert len(outcome.err.splitlines()) == 1, outcome.err
    assert outcome.err.startswith("p2pxfer-agent: ")
    assert says in outcome.err
    assert outcome.err.rstrip("\n").isprintable()


# -- receiving -------------------------------------------------------------------------------------------------------


def test_each_contact_has_a_folder_and_a_stranger_none(field: Stage) -> None:
    agent = start_agent(field, "bob", field.bob)
    source = field.folder / "report.bin"
    digest = random_file(source, 3 * MIB)
    assert send(field, source).status == 0
    assert send(field, source, home=carol_of(field)).status == 0
    tree = field.folder / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "inner" / "leaf").write_text("green")
    assert send(field, tree).status == 0
    for name in ("alice", "carol"):
        assert file_hash(folder_of(field, name) / "report.bin") == digest
    assert (folder_of(field, "alice") / "tree" / "inner" / "leaf").read_text() == "green"
    assert arrived(field.bob / "inbox") == [
        "alice", "alice/report.bin", "alice/tree", "alice/tree/inner", "alice/tree/inner/leaf",
        "carol", "carol/report.bin",
    ]  # fmt: skip
    # A stranger who knows bob's key, and one who has a code for him.
    mallory = field.folder / "mallory-home"
    Home(mallory).add_contact(Contact("bob", Home(field.bob).identity().id, "id", "2026-01-01"))
    stranger = field.folder / "stranger-home"
    code = {"P2PXFER_CODE": f"1-{WORDS}"}
    with ThreadPoolExecutor(2) as pool:  # side by side, as it is waiting
        tries = [
            pool.submit(send, field, source, "--timeout", "4", home=home, env=env)
            for home, env in ((mallory, None), (stranger, code))
        ]
        assert all(each.result().status != 0 for each in tries)
    # A contact who may not.
    assert field.run("contacts", "deny", "carol", "files", home=field.bob).status == 0
    assert send(field, source, home=carol_of(field)).status == 4
    assert sorted(path.name for path in (field.bob / "inbox").iterdir()) == ["alice", "carol"]
    assert sorted(path.name for path in folder_of(field, "carol").iterdir()) == [".p2pxfer-contact", "report.bin"]
    log = agent.last_words(200)
    assert "received report.bin from alice" in log
    assert "received report.bin from carol" in log


def test_a_receiver_beside_it_needs_another_name(field: Stage) -> None:
    start_agent(field, "bob", field.bob)
    inbox = field.folder / "desk"
    inbox.mkdir()
    refused = field.run("receive", "--as", "bob", "--to", inbox, home=field.bob, timeout=60)
    check_failure(refused, 2, "receives as bob already")
    quiet = field.run("receive", "--as", "bob-desk", "--to", inbox, "--timeout", "1", home=field.bob, timeout=60)
    assert "registered as bob-desk" in quiet.err
    source = field.folder / "note"
    source.write_text("still here")
    assert send(field, source).status == 0


def test_standard_input_goes_into_the_folder_too(field: Stage) -> None:
    start_agent(field, "bob", field.bob)
    done = field.run("send", "-", "bob", "--name", "notes.txt", typed="a line\n", timeout=60)
    assert done.status == 0, done
    assert (folder_of(field, "alice") / "notes.txt").read_text() == "a line\n"


def test_a_contact_with_a_folder_elsewhere(field: Stage) -> None:
    elsewhere = field.folder / "elsewhere"
    folders = f'[folders]\nalice = "{elsewhere}"\ndora = "inbox/x"\n'
    configure(field.bob, f'name = "bob"\ninbox = "{field.folder}/arrived"\n{folders}')
    agent = start_agent(field, "bob", field.bob)
    assert "folders.dora: there is no such contact" in agent.last_words(50)
    source = field.folder / "report.bin"
    digest = random_file(source, MIB)
    for home in (field.alice, carol_of(field)):
        assert send(field, source, home=home).status == 0
    assert file_hash(elsewhere / "report.bin") == digest
    assert file_hash(field.folder / "arrived" / "carol" / "report.bin") == digest


def test_a_contact_that_is_renamed_keeps_its_folder_and_another_one_does_not_get_it(field: Stage) -> None:
    start_agent(field, "bob", field.bob)
    source = field.folder / "report.bin"
    digest = random_file(source, MIB)
    assert send(field, source).status == 0
    assert field.run("contacts", "rename", "alice", "alicia", home=field.bob).status == 0
    assert field.run("contacts", "rename", "carol", "alice", home=field.bob).status == 0
    second = field.folder / "second.bin"
    random_file(second, MIB)
    assert send(field, second).status == 0
    assert send(field, source, home=carol_of(field)).status == 0
    assert arrived(folder_of(field, "alice")) == ["report.bin", "second.bin"]
    assert file_hash(folder_of(field, "alice-2") / "report.bin") == digest
    assert sorted(path.name for path in (field.bob / "inbox").iterdir()) == ["alice", "alice-2"]


# -- being killed, and ending ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM"])
def test_a_transfer_goes_on_with_the_next_agent(field: Stage, end: str) -> None:
    """The sender's command lives on; what was there is not sent again, also when the contact has another name now."""
    agent = start_agent(field, "bob", field.bob)
    source = field.folder / "big.bin"
    digest = random_file(source, 32 * MIB)
    alice = field.send(source, "--limit", "6M")
    found = until(field.bob, lambda now: any(job.bytes > 12 * MIB for job in now.transfers), agent)
    (job,) = found.transfers
    assert (job.direction, job.peer, job.names, job.total) == ("receive", "alice", ("big.bin",), 32 * MIB)
    assert job.where == str(folder_of(field, "alice"))
    if end == "SIGKILL":
        kill(agent)
    else:
        os.kill(agent.pid, signal.SIGTERM)
        assert agent.wait(30).status in (0, -signal.SIGTERM)
        assert "ending; what is under way is kept" in agent.last_words(30)
    assert len([path for path in staging_of(folder_of(field, "alice")) if path.is_dir()]) == 1
    assert not (folder_of(field, "alice") / "big.bin").exists()
    listed = [json.loads(line) for line in field.run("jobs", home=field.bob, as_json=True).out.splitlines()]
    assert [(one["job"], one["state"], one["names"]) for one in listed] == [(job.job, "cut", ["big.bin"])]
    assert field.run("contacts", "rename", "alice", "alicia", home=field.bob).status == 0
    again = start_agent(field, "bob", field.bob)
    alice.succeed(90)
    assert file_hash(folder_of(field, "alice") / "big.bin") == digest
    assert "going on: " in again.last_words(100)
    (done,) = [event for event in events_of(alice) if event["event"] == "done"]
    assert sum(done["bytes_by_path"].values()) < 32 * MIB + 10 * MIB


def test_without_a_server_it_waits_for_one_and_comes_back_to_it(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        server = stage.start_server()
        stage.make_contacts()
        server.stop()
        configure(stage.bob, 'name = "bob"\n')
        agent = start_agent(stage, "bob", stage.bob, ready=False)
        wait_until(lambda: "cannot be reached" in agent.last_words(50), 60)
        assert until(stage.bob, lambda now: True, agent).agent.observed == ""
        server = stage.start_server()
        until(stage.bob, lambda now: now.agent.observed != "", agent)
        source = tmp_path / "one.bin"
        digest = random_file(source, MIB)
        assert send(stage, source).status == 0
        assert file_hash(folder_of(stage, "alice") / "one.bin") == digest
        server.stop()
        until(stage.bob, lambda now: now.agent.observed == "", agent)
        stage.start_server()
        until(stage.bob, lambda now: now.agent.observed != "", agent)
        two = tmp_path / "two.bin"
        digest = random_file(two, MIB)
        assert send(stage, two).status == 0
        assert file_hash(folder_of(stage, "alice") / "two.bin") == digest
    stage.check_logs()


# -- what is queued --------------------------------------------------------------------------------------------------


def queued(stage: Stage) -> list[JsonEvent]:
    """What ``jobs`` says of alice's sending."""
    return [
        job for job in stage.run("jobs", as_json=True).events if job["event"] == "job" and job["direction"] == "send"
    ]


def test_what_is_queued_goes_at_once_where_both_are_there(field: Stage) -> None:
    """Nobody waits for the half minute after which an agent looks by itself: the command rings."""
    alice = start_agent(field, "alice", field.alice)
    start_agent(field, "bob", field.bob)
    source = field.folder / "report.bin"
    digest = random_file(source, MIB)
    (event,) = field.run("send", "--queue", source, "bob", as_json=True).events
    assert (event["event"], event["peer"], event["attended"]) == ("queued", "bob", True)
    wait_until(lambda: event["job"] in alice.last_words(50), LOOK_S * 0.7)
    wait_until((folder_of(field, "alice") / "report.bin").exists, 60)
    assert file_hash(folder_of(field, "alice") / "report.bin") == digest
    until(field.alice, lambda now: now.agent.queued == 0 and now.agent.transfers == 0, alice)
    wait_until(lambda: queued(field) == [], 30)


def test_what_is_queued_survives_a_reboot_of_both(field: Stage) -> None:
    """Only what is on the disks is left; only the agents are started again."""
    source = field.folder / "big.bin"
    digest = random_file(source, 32 * MIB)
    outcome = field.run("send", "--queue", "--limit", "6M", source, "bob")
    assert outcome.status == 0
    assert "no agent runs" in outcome.err
    alice = start_agent(field, "alice", field.alice)
    assert until(field.alice, lambda now: now.agent.queued == 1, alice).agent.transfers == 0
    bob = start_agent(field, "bob", field.bob)
    until(field.bob, lambda now: any(job.bytes > 6 * MIB for job in now.transfers), bob)
    found = until(field.alice, lambda now: any(job.bytes > 4 * MIB for job in now.transfers), alice)
    assert [(job.direction, job.peer, job.names) for job in found.transfers] == [("send", "bob", ("big.bin",))]
    for agent in (alice, bob):
        kill(agent)
    assert not (folder_of(field, "alice") / "big.bin").exists()
    assert [job["state"] for job in queued(field)] == ["queued"]
    start_agent(field, "alice", field.alice)
    again = start_agent(field, "bob", field.bob)
    wait_until((folder_of(field, "alice") / "big.bin").exists, 120)
    assert file_hash(folder_of(field, "alice") / "big.bin") == digest
    assert "going on: " in again.last_words(100)
    wait_until(lambda: queued(field) == [], 60)


# -- one agent, and its socket ---------------------------------------------------------------------------------------


def test_a_second_agent_of_a_home_is_refused(field: Stage) -> None:
    agent = start_agent(field, "bob", field.bob)
    agent_fails(field, field.bob, f"another agent runs for the home {field.bob} (process {agent.pid})")
    assert until(field.bob, lambda now: True, agent).agent.pid == agent.pid
    kill(agent)
    assert (field.bob / "agent" / "socket").exists()
    again = start_agent(field, "bob", field.bob)
    assert until(field.bob, lambda now: True, again).agent.pid == again.pid
    assert (field.bob / "agent" / "socket").stat().st_mode & 0o777 == 0o600
    assert (field.bob / "agent").stat().st_mode & 0o777 == 0o700


def test_what_status_says(field: Stage) -> None:
    check_failure(field.run("agent", "status", home=field.bob), 3, "no agent runs for the home")
    agent = start_agent(field, "bob", field.bob)
    outcome = field.run("agent", "status", home=field.bob, as_json=True)
    (event,) = outcome.events
    assert (event["pid"], event["name"], event["services"]) == (agent.pid, "bob", 0)
    assert event["id"] == str(PeerId(Home(field.bob).identity().id.digest))
    assert event["observed"].startswith("127.0.0.1:")
    outcome = field.run("agent", "status", home=field.bob)
    assert outcome.status == 0
    assert f"the agent runs as bob (process {agent.pid}" in outcome.out
    assert "registered at 127.0.0.1:" in outcome.out
    assert f"files go to {field.bob / 'inbox'}, a folder for each contact\n" in outcome.out


def test_status_says_why_it_is_not_registered_and_what_it_exposes(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        server = stage.start_server()
        stage.make_contacts()
        web = '[[services]]\ntarget = "127.0.0.1:80"\nto = ["nobody"]\nas = "web"\n'
        configure(stage.bob, f'name = "bob"\n[folders]\nalice = "{tmp_path / "photos"}"\n{web}')
        (tmp_path / "photos").mkdir()
        agent = start_agent(stage, "bob", stage.bob, ready=False)
        left_out = "web, 127.0.0.1:80: nobody is not a contact, and is left out"
        until(stage.bob, lambda now: now.agent.closed == (left_out,), agent)
        until(stage.bob, lambda now: now.agent.observed != "" and now.agent.trouble == "", agent)
        server.stop()
        until(stage.bob, lambda now: now.agent.observed == "" and now.agent.trouble != "", agent)
        shown = stage.run("agent", "status", home=stage.bob).out
        assert re.search(r"not registered at 127\.0\.0\.1:\d+: .+\n", shown), shown
        assert f"files go to {stage.bob / 'inbox'}, a folder for each contact; 1 has another one\n" in shown
        assert re.search(r"\n0 of 1 services can be reached\n  web, 127\.0\.0\.1:80: .+\n", shown), shown
    stage.check_logs()


def test_a_home_with_a_long_path_and_a_daemon(field: Stage) -> None:
    """A path that no address of a socket can hold; and a daemon of twistd, which is another process than began."""
    home = field.folder / ("deep-" * 12) / ("down-" * 12) / "home"
    home.parent.mkdir(parents=True)
    argv: list[str | Path] = [
        BIN / "twistd", "--pidfile", field.folder / "pid", "--logfile", field.folder / "agent-daemon.log",
        "p2pxfer-agent", "--home", home, "--server", field.address,
    ]  # fmt: skip
    field.callback(end_daemon, field.folder / "pid")
    outcome = field.run_bare(argv, timeout=60)
    assert outcome.status == 0, outcome

    def there() -> bool:
        return field.run("agent", "status", home=home).status == 0

    wait_until(there, 60)
    (event,) = field.run("agent", "status", home=home, as_json=True).events
    assert event["pid"] == int((field.folder / "pid").read_text())
    agent_fails(field, home, f"(process {event['pid']})")


def test_it_is_stopped_by_a_command_which_waits_for_its_end(field: Stage) -> None:
    check_failure(field.run("agent", "stop", home=field.bob), 3, "no agent runs for the home")
    agent = start_agent(field, "bob", field.bob)
    outcome = field.run("agent", "stop", home=field.bob)
    assert outcome.status == 0, outcome
    assert f"the agent (process {agent.pid}) has ended" in outcome.out
    ended = agent.poll()
    assert ended is not None
    assert ended.status == 0
    assert "what is under way is kept" in agent.last_words(20)
    check_failure(field.run("agent", "stop", home=field.bob), 3, "no agent runs for the home")
    agent = start_agent(field, "bob", field.bob)
    (event,) = field.run("agent", "stop", home=field.bob, as_json=True).events
    assert (event["event"], f"process {agent.pid}" in event["message"]) == ("note", True)
    start_agent(field, "bob", field.bob)


def test_an_agent_that_does_not_end_is_waited_for_no_longer_than_asked(field: Stage) -> None:
    agent = start_agent(field, "bob", field.bob)
    os.killpg(agent.pid, signal.SIGSTOP)
    try:
        check_failure(field.run("agent", "stop", home=field.bob), 3, "the agent does not answer")
    finally:
        os.killpg(agent.pid, signal.SIGCONT)
    # It was told, and does so when it can.
    assert agent.wait(30).status == 0


def test_a_server_and_an_agent_begin_in_one_directory(field: Stage, tmp_path: Path) -> None:
    """Both are daemons with nothing said about their files; so a directory holds those of each."""
    here = tmp_path / "one directory"
    here.mkdir()
    began: dict[str, list[str | Path]] = {
        "p2pxfer-rendezvous": ["--listen", "tcp:0:interface=127.0.0.1"],
        "p2pxfer-agent": ["--home", field.bob, "--server", field.address],
    }
    for program, words in began.items():
        field.callback(end_daemon, here / f"{program}.pid")
        outcome = field.run_bare([BIN / "twistd", program, *words], timeout=60, cwd=here)
        assert outcome.status == 0, outcome
        wait_until((here / f"{program}.pid").exists, 30)
    wait_until(lambda: field.run("agent", "status", home=field.bob).status == 0, 60)
    wait_until((here / "p2pxfer-state" / "address").exists, 30)
    assert sorted(path.name for path in here.iterdir()) == [
        "p2pxfer-agent.log", "p2pxfer-agent.pid", "p2pxfer-rendezvous.log", "p2pxfer-rendezvous.pid", "p2pxfer-state",
    ]  # fmt: skip
    second = field.run_bare([BIN / "twistd", "p2pxfer-rendezvous"], timeout=60, cwd=here)
    assert "Another twistd server is running" in second.out + second.err


def end_daemon(pidfile: Path) -> None:
    """End a daemon, if it began, and wait for that."""
    if pidfile.exists():
        pid = int(pidfile.read_text())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), 30)


# -- what is configured, and what is wrong with it -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("limit = 'fast'", "agent.toml: limit: a rate is"),
        ("nmae = 'bob'", "agent.toml: nmae: there is no such key"),
        ("name = ", "agent.toml is not TOML"),
        ("schema = 99", "agent.toml is for a newer version"),
        ("inbox = '/dev/null/x'", "inbox: the directory /dev/null/x cannot be made"),
        ("[folders]\nalice = '/dev/null/x'", "folders.alice: the directory /dev/null/x cannot be made"),
        ("[[services]]\ntarget = 'here'\nto = ['alice']", "agent.toml: services[0].target: an address is HOST:PORT"),
    ],
)
def test_a_wrong_configuration_is_one_line(field: Stage, text: str, says: str) -> None:
    configure(field.bob, text)
    agent_fails(field, field.bob, says)


def test_state_that_is_damaged_or_newer_is_one_line_and_left_alone(field: Stage) -> None:
    contacts = field.bob / "contacts.json"
    good = contacts.read_bytes()
    for damaged, says in ((good[:-20], "is damaged"), (b'{"schema": 99}', "was written by a newer version")):
        contacts.write_bytes(damaged)
        agent_fails(field, field.bob, says)
        assert contacts.read_bytes() == damaged
    contacts.write_bytes(good)
    (field.bob / "settings.json").write_text("{")
    agent_fails(field, field.bob, "settings.json is damaged")


def test_contacts_that_are_damaged_meanwhile_let_nobody_in_until_they_are_mended(field: Stage) -> None:
    agent = start_agent(field, "bob", field.bob)
    contacts = field.bob / "contacts.json"
    good = contacts.read_bytes()
    contacts.write_bytes(b"nothing")
    source = field.folder / "report.bin"
    digest = random_file(source, MIB)
    alice = field.send(source, "--timeout", "60")
    wait_until(lambda: "nobody is let in: " in agent.last_words(50), 60)
    alice.stop()
    assert not folder_of(field, "alice").exists()
    contacts.write_bytes(good)
    assert send(field, source).status == 0
    assert file_hash(folder_of(field, "alice") / "report.bin") == digest


def test_a_server_line_that_is_none_is_one_line(field: Stage) -> None:
    agent_fails(field, field.bob, "no where is not a server address", "--server", "no where")


# -- services --------------------------------------------------------------------------------------------------------


def web(connection: socket.socket) -> None:
    """A page for whoever asks."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 12\r\n\r\nit works now")


def test_a_web_server_is_reached_through_the_agent(field: Stage) -> None:
    with Service(web) as service:
        configure(
            field.bob,
            f'name = "bob"\nreceive = false\n'
            f'[[services]]\ntarget = "{service.address}"\nto = ["alice", "nobody-yet"]\nas = "web"\n'
            '[[services]]\ntarget = "127.0.0.1:1"\nto = ["nobody-yet"]\nas = "other"\n',
        )
        agent = start_agent(field, "bob", field.bob, ready=False)
        found = until(field.bob, lambda now: len(now.services) == 1, agent)
        assert (found.agent.services, found.services[0].service, found.services[0].to) == (2, "web", ("alice",))
        assert found.agent.observed.startswith("127.0.0.1:")
        for _ in range(2):
            reader = field.program("alice", field.alice, "connect", "bob:web", "--listen", "0")
            address = reader.wait_for("listening")["address"]
            with urllib.request.urlopen(f"http://{address}/", timeout=60) as page:
                assert page.read() == b"it works now"
            reader.stop()
            kill(agent)
            agent = start_agent(field, "bob", field.bob, ready=False)
            until(field.bob, lambda now: len(now.services) == 1, agent)
        wait_until(lambda: "service web: nobody-yet is not a contact" in agent.last_words(50))
        wait_until(lambda: "service other: it is exposed to nobody" in agent.last_words(50))
        source = field.folder / "report.bin"
        random_file(source, MIB)
        assert send(field, source, "--timeout", "4").status != 0
        assert list((field.bob / "inbox").iterdir()) == []
        denied = field.run("connect", "bob:web", "--listen", "-", "--timeout", "4", home=carol_of(field), timeout=60)
        assert denied.status != 0
        assert service.connections == 2
