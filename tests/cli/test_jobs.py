"""What ``p2pxfer jobs`` finds: records of sending, and staging places where they lie."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.shell_completion import ShellComplete
from twisted.internet.defer import Deferred

from p2pxfer.cli import receiving, sending, sendmemory
from p2pxfer.cli.elsewhere import waits
from p2pxfer.cli.fileload import FileLoad
from p2pxfer.cli.jobs import everything, remark
from p2pxfer.cli.main import cli
from p2pxfer.cli.sendmemory import SAVE_S
from p2pxfer.cli.settings import Global
from p2pxfer.core.ids import PeerId
from p2pxfer.errors import ConfigError, DiskError, Incomplete, UsageError
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.private.privatedir import HeldLocks
from p2pxfer.net.queue import sendjobs
from p2pxfer.net.queue.queuestore import Queued, QueueStore
from p2pxfer.net.queue.sendjobs import SendJob, SendJobs
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.staging import partials
from p2pxfer.net.staging.partials import MAX_DESTINATIONS, Destination, beside, destinations, drop, find, remember
from p2pxfer.net.staging.waitmark import WaitMark
from p2pxfer.net.transfer.source import Source
from p2pxfer.status import Accepted, Progress, Resumed
from tests.net.disk_tools import SENDER, Content, count_lock_reads, noise, open_fds, open_staging, put, restricted, run
from tests.net.reactors import Threads

CHUNK = 65_536


def content() -> Content:
    return Content({"d/big.bin": noise(5 * CHUNK), "d/small": b"small", "top": b"t"})


def begin(dest: Path, what: Content, chunks: int) -> None:
    """Receive the first chunks, durably, and stop."""
    staging = open_staging(dest, what)
    addresses = what.addresses()[:chunks]
    put(staging, what, addresses)
    staging.sync(map(what.claim, addresses))
    staging.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def dest(tmp_path: Path, home: Path) -> Path:
    where = tmp_path / "dest"
    where.mkdir()
    remember(home, Destination(str(where), "bob"))
    return where


def test_what_is_not_whole_is_found(home: Path, dest: Path) -> None:
    before = open_fds()
    begin(dest, content(), 3)
    (found,) = find(home, HeldLocks())
    assert (found.names, found.have, found.total) == (["d", "top"], 3 * CHUNK, 5 * CHUNK + 6)
    assert (found.sender, found.into, found.busy) == (SENDER, Destination(str(dest), "bob"), False)
    assert abs(found.changed - (dest / found.name / "journal").stat().st_mtime) < 1
    assert open_fds() == before


def test_what_waits_in_another_directory_is_found_by_its_transfer(home: Path, dest: Path) -> None:
    begin(dest, content(), 3)
    (found,) = find(home, HeldLocks())
    other = dest.parent / "other"
    number = content().manifest.transfer_id
    assert beside(home, str(other), SENDER, number) == found
    assert beside(home, str(dest / "." / ""), SENDER, number) is None, "it goes on here"
    assert beside(home, str(other), SENDER, b"another") is beside(home, str(other), b"r" * 32, number) is None
    held = open_staging(dest, content())
    assert beside(home, str(other), SENDER, number) is None, "a process has it in hand"
    held.close()
    assert waits(found) == (
        f"this begins anew here; 59 % of d, top wait in {dest}: p2pxfer jobs resume {found.number} goes on there"
    )


def test_what_is_whole_is_not_found(home: Path, dest: Path) -> None:
    run(dest, content(), batch=3)
    assert list(find(home, HeldLocks())) == []


def test_of_a_receiver_it_is_said_for_how_long_nothing_was_written(home: Path, dest: Path) -> None:
    """Whether its sender is there, or slow, only its process knows; what is on the disk everybody sees."""
    staging = open_staging(dest, content())
    ((_, job),) = everything(Home(home))
    assert (job.state, job.why, remark(job)) == ("running", "", " (running)")
    (found,) = find(home, HeldLocks())
    journal = dest / found.name / "journal"
    then = journal.stat().st_mtime - 100
    os.utime(journal, (then, then))
    ((_, job),) = everything(Home(home))
    assert re.fullmatch(r" \(waiting or slow; nothing was written for 1\d\d s\)", remark(job))
    staging.close()
    ((_, job),) = everything(Home(home))
    assert (job.state, remark(job)) == ("cut", "")


def test_a_receiver_shows_at_once_that_its_sender_is_away(home: Path, dest: Path) -> None:
    """By a lock, so that nothing of it is left when the process has ended."""
    staging = open_staging(dest, content())
    mark = WaitMark(staging.where)
    for _ in range(2):
        mark.show(True)
        mark.show(True)
        ((_, job),) = everything(Home(home))
        assert (job.state, job.why) == ("waiting", "its sender is not connected")
        with pytest.raises(UsageError, match="under way in another process"):
            cli.main(["--home", str(home), "jobs", "cancel", job.job], standalone_mode=False)
        assert remark(job) == " (waiting; its sender is not connected)"
        mark.show(False)
        mark.show(False)
        ((_, job),) = everything(Home(home))
        assert (job.state, remark(job)) == ("running", " (running)")
    mark.show(True)
    staging.close()
    ((_, job),) = everything(Home(home))
    assert (job.state, remark(job)) == ("cut", "")
    mark.show(False)
    gone = WaitMark(str(dest / "gone"))
    gone.show(True)
    gone.show(False)


def test_a_running_transfer_is_shown_and_not_dropped(home: Path, dest: Path) -> None:
    staging = open_staging(dest, content())
    (found,) = find(home, HeldLocks())
    assert (found.busy, found.process) == (True, os.getpid())
    with pytest.raises(UsageError) as raised:
        cli.main(["--home", str(home), "jobs", "cancel", found.number], standalone_mode=False)
    assert raised.value.message == (
        f"{found.number} is under way in another process, which receives it or waits for its sender: {os.getpid()}; end"
        " that with Ctrl-C, then cancel, and start it again"
    )
    with pytest.raises(ConfigError):
        drop(found)
    staging.close()
    (found,) = find(home, HeldLocks())
    assert (found.busy, found.process) == (False, 0)
    drop(found)
    assert os.listdir(dest) == []
    with pytest.raises(UsageError):
        drop(found)


def test_a_job_of_sending_that_is_dropped_leaves_what_arrived(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who drops it does not want it sent: while it runs nothing is said of starting it again."""
    jobs = SendJobs(home)
    some, none = SendJob(["/a"], "bob", size=9, acked=5), SendJob(["/b"], "bob", size=9)
    for job in (none, some):  # the last one is held
        jobs.save(job)
    arguments = ["--home", str(home), "jobs", "cancel", some.number, none.number]
    with pytest.raises(UsageError) as raised:
        cli.main(arguments, standalone_mode=False)
    assert raised.value.message == (f"{some.number} is under way in another process; end that with Ctrl-C, then cancel")
    jobs.close()
    cli.main(arguments, standalone_mode=False)
    assert capsys.readouterr().err.splitlines() == [
        f"dropped {some.number}; what arrived stays with bob until it is cancelled there",
        f"dropped {none.number}",
    ]


@pytest.mark.parametrize("later", ["the other order", "this order"])
def test_a_record_of_before_with_the_same_paths_in_another_order_is_the_same_job(
    home: Path, capsys: pytest.CaptureFixture[str], later: str
) -> None:
    """Else two numbers stand for one transfer, and the second one stays when that is through."""
    jobs = SendJobs(home)
    this, other = SendJob(["/a", "/b"], "bob", acked=1), SendJob(["/b", "/a"], "bob", acked=2)
    pair = [this, other] if later == "the other order" else [other, this]
    for moment, job in enumerate(pair, 1):
        jobs.save(msgspec.structs.replace(job, changed=float(moment)))
        os.utime(home / "jobs" / f"{job.number}.json", (moment, moment))
    jobs.close()
    (found,) = jobs.all()
    assert (found.number, found.paths, found.acked) == (this.number, ["/a", "/b"], pair[-1].acked)
    assert [path.name for path in (home / "jobs").iterdir()] == [f"{this.number}.json"]
    cli.main(["--home", str(home), "jobs", "cancel", this.number], standalone_mode=False)
    assert capsys.readouterr().err.startswith(f"dropped {this.number}; ")
    assert jobs.all() == []


def test_all_jobs_and_the_queue_take_one_look_at_the_locks(
    home: Path, dest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading the kernel's list of them takes longer than all else that ``jobs`` does."""
    staging = open_staging(dest, content())
    queue = QueueStore(home)
    queue.put(Queued(["/1"], str(PeerId(SENDER)), 1, changed=1.0))
    sends = SendJobs(home)
    sends.save(SendJob(["/2"], "bob", changed=2.0))
    reads = count_lock_reads(monkeypatch)
    with contextlib.closing(sends), queue.hold():
        cli.main(["--home", str(home), "jobs"], standalone_mode=False)
    staging.close()
    assert len(capsys.readouterr().out.splitlines()) >= 3
    assert len(reads) == 1


def test_nothing_else_is_dropped(home: Path, dest: Path, tmp_path: Path) -> None:
    """Links are removed and not followed, and what lies beside stays."""
    begin(dest, content(), 3)
    (found,) = find(home, HeldLocks())
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (dest / found.name / "tree" / "d" / "link").symlink_to(outside)
    (dest / found.name / "link").symlink_to(outside)
    (dest / "beside").write_text("kept")
    drop(found)
    assert os.listdir(dest) == ["beside"]
    assert (outside / "kept").read_text() == "kept"


def test_directories_that_shut_their_owner_out_are_dropped(home: Path, dest: Path) -> None:
    begin(dest, restricted(), 2)
    (found,) = find(home, HeldLocks())
    inner = dest / found.name / "tree" / "d" / "e"
    inner.mkdir(parents=True, exist_ok=True)
    for path in (inner, inner.parent):
        path.chmod(0)
    drop(found)
    assert os.listdir(dest) == []


@pytest.mark.parametrize("harm", ["open", "link", "journal", "nothing", "not a directory"])
def test_what_is_not_to_be_trusted_is_left_alone(home: Path, dest: Path, tmp_path: Path, harm: str) -> None:
    begin(dest, content(), 3)
    (found,) = find(home, HeldLocks())
    place = dest / found.name
    if harm == "open":
        place.chmod(0o755)
    elif harm == "link":
        place.rename(tmp_path / "moved")
        place.symlink_to(tmp_path / "moved")
    elif harm == "journal":
        (place / "journal").write_bytes(b"?" * 300)
    elif harm == "nothing":
        (place / "journal").unlink()
    else:
        place.rename(tmp_path / "moved")
        place.write_text("")
    assert list(find(home, HeldLocks())) == []
    if harm in ("open", "link", "not a directory"):
        with pytest.raises(DiskError):
            drop(found)


def test_destinations_are_remembered_in_order_and_bounded(home: Path, tmp_path: Path) -> None:
    for number in range(MAX_DESTINATIONS + 5):
        remember(home, Destination(str(tmp_path / str(number)), "bob"))
    remember(home, Destination(str(tmp_path / "7"), "bobby"))
    known = destinations(home)
    assert len(known) == MAX_DESTINATIONS
    assert known[0] == Destination(str(tmp_path / "7"), "bobby")
    assert known[1] == Destination(str(tmp_path / str(MAX_DESTINATIONS + 4)), "bob")
    (home / partials.DESTINATIONS).write_bytes(b"[1, 2")
    assert destinations(home) == []
    remember(home, Destination(str(tmp_path), "bob"))
    assert destinations(home) == [Destination(str(tmp_path), "bob")]
    assert list(find(home, HeldLocks())) == []


def test_jobs_of_sending_come_back(home: Path) -> None:
    jobs = SendJobs(home)
    assert jobs.all() == []
    first = SendJob(["/a/b", "/c"], "bob", "keep", 5, "direct", True, "ab" * 32, 10, 3, 100.0)
    second = SendJob(["/a/b"], "bob", changed=200.0)
    for job in (first, second, msgspec.structs.replace(first, acked=4)):
        jobs.save(job)
    assert jobs.all() == [second, msgspec.structs.replace(first, acked=4)]
    assert first.number == msgspec.structs.replace(first, acked=9, size=1, changed=7.0).number != second.number
    jobs.remove(first)
    jobs.remove(first)
    assert jobs.all() == [second]


def test_a_job_runs_while_who_saved_it_does(home: Path) -> None:
    before = open_fds()
    job = SendJob(["/a"], "bob", transfer="cd" * 32)
    jobs, looked = SendJobs(home), SendJobs(home)
    assert not looked.is_running(job, HeldLocks())
    for acked in range(3):
        jobs.save(msgspec.structs.replace(job, acked=acked))
        assert looked.is_running(job, HeldLocks())
    assert not looked.is_running(msgspec.structs.replace(job, peer="carol"), HeldLocks())
    jobs.close()
    assert not looked.is_running(job, HeldLocks())
    assert looked.all() == [msgspec.structs.replace(job, acked=2)]
    assert open_fds() == before


def test_a_job_that_is_gone_on_with_runs_before_its_receiver_is_there(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("a")
    before = open_fds()
    job = SendJob([str(file)], "bob")
    source = Source.scan(job.paths)
    memory = sendmemory.SendMemory(Home(home), job, source)
    assert SendJobs(home).all() == []  # nothing is there yet that could be gone on with
    memory.close()
    jobs = SendJobs(home)
    jobs.save(job)
    with pytest.raises(UsageError) as raised:  # else the second goes on from there, and the first into nothing
        sendmemory.SendMemory(Home(home), job, source)
    assert raised.value.message == (
        f"already being sent to bob by process {os.getpid()} (job {job.number}): wait for that, or end it with Ctrl-C"
        " and send it again"
    )
    assert jobs.is_running(job, HeldLocks())
    jobs.close()
    again = sendmemory.SendMemory(Home(home), job, source)
    assert jobs.is_running(job, HeldLocks())
    again.close()
    source.close()
    assert not jobs.is_running(job, HeldLocks())
    assert open_fds() == before


def test_the_record_of_a_job_follows_what_the_receiver_confirmed(home: Path, tmp_path: Path) -> None:
    """Also in its first second, and from where an earlier run had come to: it may be killed at any moment."""
    file = tmp_path / "a"
    file.write_bytes(bytes(1000))
    job = SendJob([str(file)], "bob")
    source = Source.scan(job.paths)
    reactor = Threads()
    memory = sendmemory.SendMemory(Home(home), job, source)
    memory.begin(reactor)  # type: ignore[arg-type]  # all that a worker needs

    def recorded() -> int | None:
        return next((job.acked for job in SendJobs(home).all()), None)

    def progress(size: int) -> None:
        memory.event(Progress(bytes=size, total=1000, rate=0, path="relay"))

    progress(0)
    assert recorded() is None  # nothing was accepted yet
    memory.event(Accepted())
    reactor.wait()
    assert recorded() == 0
    progress(10)
    progress(20)  # while that is being written
    reactor.wait()
    assert recorded() == 10
    reactor.advance(SAVE_S / 2)
    progress(30)
    reactor.advance(SAVE_S / 2)
    progress(40)
    reactor.wait()
    assert recorded() == 40
    memory.event(Accepted())
    memory.event(Resumed(have_bytes=700))
    reactor.wait()
    while recorded() != 700:
        reactor.wait()
    cutting = Deferred.fromCoroutine(memory.failed(Incomplete("cut"), 720))
    while not cutting.called:
        reactor.wait()
    assert recorded() == 720
    ending = Deferred.fromCoroutine(memory.done())
    ended: list[object] = []
    ending.addBoth(ended.append)
    ending.cancel()  # too late
    while not ended:
        reactor.wait()
    assert ended == [None]
    memory.close()
    source.close()
    assert recorded() is None


def hashes_of(home: Path, job: SendJob) -> Path:
    (home / "outgoing").mkdir(exist_ok=True)
    path = home / "outgoing" / job.transfer
    path.touch()
    return path


def test_the_hashes_of_a_job_go_with_it(home: Path) -> None:
    job = SendJob(["/a"], "bob", transfer="cd" * 32)
    jobs = SendJobs(home)
    jobs.save(job)
    record = hashes_of(home, job)
    jobs.remove(job)
    assert not record.exists()
    jobs.remove(SendJob(["/a"], "bob"))
    assert record.parent.is_dir()


def test_the_hashes_of_what_another_job_sends_stay(home: Path) -> None:
    """The same files, to two peers: one is through, or dropped, while the other runs or was cut."""
    first = SendJob(["/a"], "bob", transfer="cd" * 32)
    second = msgspec.structs.replace(first, peer="carol")
    jobs = SendJobs(home)
    jobs.save(first)
    record = hashes_of(home, first)
    with record.open("rb") as held:  # by a process whose receiver has not accepted yet
        fcntl.flock(held, fcntl.LOCK_EX)
        jobs.remove(first)
    assert record.exists()
    jobs.save(first)
    jobs.save(second)
    jobs.remove(first)
    assert record.exists()
    assert jobs.all() == [second]
    jobs.remove(second)
    assert not record.exists()


def test_records_are_bounded_and_damaged_ones_ignored(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sendjobs, "MAX_JOBS", 3)
    jobs = SendJobs(home)
    for number in range(5):
        jobs.save(SendJob([f"/{number}"], "bob", changed=float(number)))
        newest = home / "jobs" / f"{SendJob([f'/{number}'], 'bob').number}.json"
        os.utime(newest, (number, number))
    assert [job.paths for job in jobs.all()] == [["/4"], ["/3"], ["/2"]]
    newest.write_bytes(b'{"paths": ["/x"], "peer": "bob", "transfer": "../../etc"}')
    assert [job.paths for job in jobs.all()] == [["/3"], ["/2"]]
    newest.write_bytes(b'{"paths": [], "peer": "bob"}')
    assert [job.paths for job in jobs.all()] == [["/3"], ["/2"]]


def test_records_are_private_from_their_first_moment_and_leave_nothing_beside_them(home: Path, tmp_path: Path) -> None:
    """Whatever the umask is; and one that could not be written leaves nothing either."""
    jobs = SendJobs(home)
    old = os.umask(0)
    try:
        remember(home, Destination(str(tmp_path), "bob"))
        jobs.save(SendJob(["/a"], "bob"))
        with pytest.MonkeyPatch.context() as broken:
            broken.setattr(fcntl, "flock", refuse)
            jobs.save(SendJob(["/b"], "bob"))
    finally:
        os.umask(old)
        jobs.close()
    found = {path.relative_to(home): stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*") if path.is_file()}
    record = Path("jobs", f"{SendJob(['/a'], 'bob').number}.json")
    assert found == dict.fromkeys([Path("lock"), Path("destinations.json"), record], 0o600)


def refuse(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_a_home_that_refuses_stops_nothing(home: Path) -> None:
    home.write_text("a file")
    jobs = SendJobs(home)
    jobs.save(SendJob(["/a"], "bob"))
    jobs.remove(SendJob(["/a"], "bob", transfer="ef" * 32))
    remember(home, Destination("/tmp", "bob"))
    assert jobs.all() == []
    assert destinations(home) == []


class Run:
    """What a command was about to run, instead of it; what it would remember is stored, as a run does."""

    made: list[Run]

    def __init__(self, options: Global, *words: object, **options_given: Any) -> None:
        self.words = [word for word in words if not isinstance(word, FileLoad)]
        self.options = options_given
        type(self).made.append(self)

    def run(self, machine: Machine) -> None:
        """Instead of that, what it would have run on is noted."""
        memory = self.options.get("memory")
        if memory is not None:
            memory.close()
            self.options["memory"] = memory._memo
            SendJobs(machine.home.path).save(memory._memo)
        self.words += [machine.name, machine.server, machine.approach, machine.patience]


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Call the program up to the point where it would run; the run that it prepared."""
    Run.made = []
    monkeypatch.setattr(receiving, "Receiving", Run)
    monkeypatch.setattr(sending, "Sending", Run)
    monkeypatch.setattr("p2pxfer.cli.run.run", lambda main, verbose: main(None))
    monkeypatch.setattr("p2pxfer.cli.inputs.can_answer", lambda _: True)

    def run(*words: str) -> Run:
        cli.main(["--home", str(home), "--server", f"h:1#{PeerId(bytes(32))}", *words], standalone_mode=False)
        return Run.made.pop()

    return run


@pytest.mark.parametrize("group", ["jobs", "contacts"])
def test_a_group_alone_lists_and_its_subcommands_are_completed(
    home: Path, capsys: pytest.CaptureFixture[str], group: str
) -> None:
    said: list[str] = []
    for words in ([group], [group, "list"]):
        cli.main(["--home", str(home), *words], standalone_mode=False)
        said.append(capsys.readouterr().err)
    assert said[0] == said[1] != ""
    found = ShellComplete(cli, {}, "p2pxfer", "_P2PXFER_COMPLETE").get_completions([group], "")
    assert "list" in [item.value for item in found]
    assert len(found) > 2
    with pytest.raises(click.UsageError):
        cli.main(["--home", str(home), group, "nonsense"], standalone_mode=False)


RECEIVE = [
    ["--accept", "ask", "--no-code", "--path", "direct", "--limit", "5M", "--gentle", "--no-port-mapping"],
    ["--accept", "all", "--timeout", "7", "--as", "carol"],
    ["--verify"],
    [],
]


@pytest.mark.parametrize("options", RECEIVE)
def test_receiving_goes_on_with_the_options_of_before(
    home: Path, tmp_path: Path, call: Callable[..., Run], options: list[str]
) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    before = call("receive", "--to", str(dest), *options)
    begin(dest, content(), 3)
    (found,) = find(home, HeldLocks())
    after = call("jobs", "resume", found.number)
    assert after.words == before.words
    assert after.options == {**before.options, "once": True}


SEND = [
    ["--no-port-mapping", "--wait", "--timeout", "7"],
    ["--verify"],
    ["--links", "keep", "--path", "relay", "--limit", "5M", "--gentle"],
    [],
]


@pytest.mark.parametrize("options", SEND)
def test_sending_goes_on_with_the_options_of_before(
    home: Path, tmp_path: Path, call: Callable[..., Run], options: list[str]
) -> None:
    (tmp_path / "a").write_text("a")
    Home(home).add_contact(Contact("bob", PeerId(bytes(32)), "code", "2026-01-01"))
    before = call("send", str(tmp_path / "a"), "bob", *options)
    (job,) = SendJobs(home).all()
    after = call("jobs", "resume", job.number)
    assert (after.words, after.options) == (before.words, before.options)
