"""``send --queue`` and what ``jobs`` says and does about the queue, without an agent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from msgspec.structs import replace

from p2pxfer.cli.main import cli
from p2pxfer.core.ids import PeerId
from p2pxfer.errors import LimitReached, NoSpace, P2pxferError, UsageError
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.queue import queuestore
from p2pxfer.net.queue.queuestore import Queued, QueueStore
from p2pxfer.net.queue.sendjobs import SendJob, SendJobs
from tests.e2e.conftest import mounted, needs_mounts
from tests.eventcheck import fault_in

BOB = PeerId(b"b" * 32)
Call = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    where = tmp_path / "home"
    Home(where).add_contact(Contact("bob", BOB, "code", "2026-01-01"))
    return where


@pytest.fixture
def call(home: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command with ``--json``; its events."""

    def run(*words: str | Path) -> list[dict[str, Any]]:
        capsys.readouterr()
        cli.main(["--home", str(home), "--json", *map(str, words)], standalone_mode=False)
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert not any(map(fault_in, events)), events
        return events

    return run


@pytest.fixture
def said(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Run a command; what people read of it."""

    def run(*words: str | Path) -> tuple[str, str]:
        capsys.readouterr()
        cli.main(["--home", str(home), *map(str, words)], standalone_mode=False)
        read = capsys.readouterr()
        return read.out, read.err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a file"
    path.write_text("content")
    return path


def entries(home: Path) -> list[Queued]:
    return QueueStore(home).read()[0]


def test_it_is_kept_with_its_options(home: Path, call: Call, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    (event,) = call(
        "send", "--queue", "--links", "keep", "--delta", "--limit", "5M", "--path", "direct", "--gentle",
        "--no-port-mapping", "--wait", file.name, "bob",
    )  # fmt: skip
    (entry,) = entries(home)
    assert event.pop("t") >= 0
    assert event == {
        "event": "queued", "job": entry.number, "peer": "bob", "names": ["a file"], "attended": False,
    }  # fmt: skip
    assert entry == Queued(
        [str(file)], str(BOB), entry.added, "keep", True, 5 * 2**20, "direct", True, port_mapping=False, size=7,
        changed=entry.changed,
    )  # fmt: skip


def test_it_says_whether_an_agent_is_there(home: Path, said: Callable[..., tuple[str, str]], file: Path) -> None:
    out, err = said("send", "--queue", file, "bob")
    assert not out
    assert "no agent runs on this home" in err
    start = f"this starts one: twistd p2pxfer-agent --home {home}\n"
    assert err.endswith(start)
    assert said("--quiet", "send", "--queue", file, "bob")[1].endswith(start)  # nothing would come of it
    assert said("jobs")[1].endswith(start)
    held = QueueStore(home).hold()
    assert said("send", "--queue", file, "bob")[1].endswith("the agent sends it as soon as bob is there\n")
    assert said("--quiet", "send", "--queue", file, "bob") == ("", "")
    out, err = said("jobs")
    assert "a file in" in out
    assert "(queued, goes next)" in out
    assert not err
    held.close()


def test_nobody_is_missed_where_nothing_waits(
    home: Path, call: Call, said: Callable[..., tuple[str, str]], file: Path
) -> None:
    """What has failed, or was paused, no agent would send."""
    call("send", "--queue", file, "bob")
    (entry,) = entries(home)
    assert "no agent runs" not in said("jobs", "pause", entry.number)[1]
    assert not said("jobs")[1]
    QueueStore(home).change(entry.number, lambda there: replace(there, paused=False, failed=True, why="no"))
    assert not said("jobs")[1]
    assert "no agent runs" in said("jobs", "resume", entry.number)[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-", "bob"], "standard input"),
        (["FILE", "carol"], "carol is not a contact"),
        (["FILE", str(PeerId(b"c" * 32))], "is not a contact"),
        (["/does/not/exist", "bob"], "does not exist"),
        (["--code-file", "x", "FILE", "bob"], "without a code"),
        (["--timeout", "60", "FILE", "bob"], "--timeout"),
        (["--name", "x", "FILE", "bob"], "--name"),
        (["FILE", "FILE", "bob"], "named twice"),
    ],
)
def test_what_cannot_be_queued(home: Path, call: Call, file: Path, words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        call("send", "--queue", *(str(file) if word == "FILE" else word for word in words))
    assert caught.value.message.isprintable()
    assert entries(home) == []


def test_the_queue_is_full(home: Path, call: Call, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queuestore, "MAX_ENTRIES", 0)
    with pytest.raises(LimitReached):
        call("send", "--queue", file, "bob")
    assert entries(home) == []


@needs_mounts
def test_the_disk_is_full(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mounted(tmp_path / "small", "size=64k", "mode=700") as small:
        Home(small).add_contact(Contact("bob", BOB, "code", "2026-01-01"))
        (small / "ballast").write_bytes(bytes(os.statvfs(small).f_bavail * os.statvfs(small).f_bsize))
        with pytest.raises(NoSpace, match="nothing was queued") as caught:
            cli.main(["--home", str(small), "send", "--queue", str(file), "bob"], standalone_mode=False)
        assert caught.value.message.isprintable()
        assert entries(small) == []
    assert capsys.readouterr() == ("", "")


def put(home: Path, path: str, added: int, **options: Any) -> Queued:
    return QueueStore(home).put(Queued([path], str(BOB), added, changed=float(added), **options))


def test_a_person_changes_the_queue(home: Path, call: Call) -> None:
    first, second = put(home, "/1", 1), put(home, "/2", 2)
    assert [(job["job"], job["state"]) for job in call("jobs") if job["event"] == "job"] == [
        (first.number, "queued"), (second.number, "queued"),
    ]  # fmt: skip
    events = call("jobs", "pause", first.number, second.number[:6])
    assert [(event["job"], event["state"]) for event in events] == [(first.number, "paused"), (second.number, "paused")]
    assert [entry.paused for entry in entries(home)] == [True, True]
    (event,) = call("jobs", "resume", first.number)
    assert (event["state"], entries(home)[0].paused, entries(home)[0].resumed) == ("queued", False, 1)
    assert call("jobs", "priority", first.number, "-3")[0]["priority"] == -3
    assert call("jobs", "first", second.number)[0]["priority"] == 0
    assert call("jobs", "first", first.number)[0]["priority"] == 1
    assert call("jobs", "first", first.number)[0]["priority"] == 1
    assert call("jobs", "priority", first.number, "1000")[0]["priority"] == 1000
    assert call("jobs", "first", second.number)[0]["priority"] == 1001
    (event,) = call("jobs", "cancel", second.number)
    assert (event["job"], event["state"], event["place"]) == (second.number, "dropped", 0)
    assert [entry.number for entry in entries(home)] == [first.number]
    with pytest.raises(click.UsageError):
        call("jobs", "priority", first.number, "100000")


def test_they_are_listed_as_they_will_go(home: Path, call: Call, said: Callable[..., tuple[str, str]]) -> None:
    """What runs, then what waits in the order of sending, then the rest, the latest first."""
    older, newer, urgent, paused, runs, asks = (put(home, f"/{number}", number) for number in range(1, 7))
    QueueStore(home).change(urgent.number, lambda old: replace(old, priority=1))
    QueueStore(home).change(paused.number, lambda old: replace(old, paused=True))
    QueueStore(home).change(runs.number, lambda old: replace(old, running=True, changed=2.0))
    QueueStore(home).change(asks.number, lambda old: replace(old, running=True, asking=True, changed=1.0))
    QueueStore(home).change(older.number, lambda old: replace(old, changed=99.0))
    held = QueueStore(home).hold()
    jobs = call("jobs")
    assert [(job["job"], job["place"]) for job in jobs] == [
        (runs.number, 0), (asks.number, 0), (urgent.number, 1), (older.number, 2), (newer.number, 3),
        (paused.number, 0),
    ]  # fmt: skip
    out, _ = said("jobs")
    assert "(queued, goes next, priority 1)" in out
    assert "(queued, place 3)" in out
    assert "(waits for the peer's consent)" in out
    held.close()


def test_what_failed_is_shown_with_its_reason_and_tried_again(
    home: Path, call: Call, said: Callable[..., tuple[str, str]]
) -> None:
    entry = put(home, "/1", 1, priority=4)
    QueueStore(home).change(entry.number, lambda old: replace(old, failed=True, why="refused: \x1b[2J"))
    out, _ = said("jobs")
    assert r"(failed, priority 4; refused: \x1b[2J)" in out
    with pytest.raises(UsageError, match="has failed"):
        call("jobs", "pause", entry.number)
    (event,) = call("jobs", "resume", entry.number)
    assert (event["state"], event["why"]) == ("queued", "")
    QueueStore(home).change(entry.number, lambda old: replace(old, why="bob was not reachable"))
    assert "(queued, goes next, priority 4; the last try: bob was not reachable)" in said("jobs")[0]


def test_what_an_agent_said_holds_as_long_as_it_lives(home: Path, call: Call) -> None:
    entry = put(home, "/1", 1, size=10)
    QueueStore(home).change(entry.number, lambda old: replace(old, running=True, acked=5))
    (job,) = [event for event in call("jobs") if event["event"] == "job"]
    assert (job["state"], job["bytes"], job["total"]) == ("queued", 5, 10)
    held = QueueStore(home).hold()
    (job,) = call("jobs")
    assert job["state"] == "running"
    with pytest.raises(UsageError, match="under way"):
        call("jobs", "resume", entry.number)
    (event,) = call("jobs", "cancel", entry.number)
    assert event["state"] == "dropped"
    held.close()


def test_a_file_that_cannot_be_used_is_one_line_and_can_be_dropped(
    home: Path, call: Call, said: Callable[..., tuple[str, str]]
) -> None:
    good = put(home, "/1", 1)
    (home / "queue" / "12345678.json").write_text("\x1b[2J")
    (home / "queue" / "23456789.json").write_text('{"schema": 2}')
    out, err = said("jobs")
    assert good.number in out
    lines = [line for line in err.splitlines() if "jobs cancel" in line]
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    notes = [event["message"] for event in call("jobs") if event["event"] == "note"]
    assert notes[:2] == lines
    with pytest.raises(P2pxferError):
        call("jobs", "resume", "12345678")
    assert "dropped 12345678" in said("jobs", "cancel", "12345678")[1]
    assert (home / "queue" / "23456789.json").exists()
    assert entries(home) == [good]


def test_other_jobs_are_neither_paused_nor_put_first(home: Path, call: Call) -> None:
    job = SendJob(["/1"], "bob")
    SendJobs(home).save(job)
    for words in (["pause", job.number], ["first", job.number], ["priority", job.number, "1"]):
        with pytest.raises(UsageError, match="is not in the queue"):
            call("jobs", *words)
    put(home, "/1", 1)
    assert len([event for event in call("jobs") if event["event"] == "job"]) == 2


@pytest.mark.parametrize("command", ["resume", "pause", "cancel", "first", "priority"])
def test_numbers_of_jobs_are_completed(home: Path, command: str) -> None:
    entry = put(home, "/1", 1)
    SendJobs(home).save(SendJob(["/2"], "bob"))
    complete = ShellComplete(cli, {}, "p2pxfer", "_P2PXFER_COMPLETE").get_completions
    words = ["--home", str(home), "jobs", command]
    assert {item.value for item in complete(words, "")} == {entry.number, SendJob(["/2"], "bob").number}
    assert [item.value for item in complete(words, entry.number[:4])] == [entry.number]
    assert complete(["--home", str(home / "nowhere"), "jobs", command], "") == []
    assert not (home / "nowhere").exists()


def test_numbers_of_jobs_are_completed_where_nobody_is_known(tmp_path: Path) -> None:
    """Who receives by codes alone has jobs and no contacts; and asking makes no file."""
    home = Home(tmp_path / "alone").path
    complete = ShellComplete(cli, {}, "p2pxfer", "_P2PXFER_COMPLETE").get_completions
    words = ["--home", str(home)]
    assert complete([*words, "jobs", "cancel"], "") == []
    assert complete([*words, "chat"], "") == []
    assert list(home.iterdir()) == []
    SendJobs(home).save(SendJob(["/2"], "bob"))
    assert [item.value for item in complete([*words, "jobs", "cancel"], "")] == [SendJob(["/2"], "bob").number]
