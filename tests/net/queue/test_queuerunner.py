"""The runner of the queue, between real files and runs that do what the test says."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from msgspec.structs import replace
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from p2pxfer.core.ids import PeerId
from p2pxfer.core.transfer.queue import Queue
from p2pxfer.errors import ConfigError, DiskError, FilesLeftOut, Refused, ServerUntrusted, Unreachable, UsageError
from p2pxfer.inventory import JobListed
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.queue import queuerunner
from p2pxfer.net.queue.queuefiles import Look
from p2pxfer.net.queue.queuerun import RunOwner
from p2pxfer.net.queue.queuerunner import QueueRunner
from p2pxfer.net.queue.queuestore import Queued, QueueStore
from p2pxfer.net.session.machine import Machine
from p2pxfer.status import Event, Note
from tests.net.machines import machine_at

BOB, CAROL = (PeerId(letter * 32) for letter in (b"b", b"c"))
reactor: Any = installed


class FakeRun:
    """A run that does what the test says."""

    def __init__(self, world: World, entry: Queued, owner: RunOwner) -> None:
        self.entry = entry
        self.owner = owner
        self.transfer, self.size, self.acked = "", 0, 0
        self.end: Deferred[None] = Deferred()
        world.runs.append(self)
        self._world = world

    async def run(self) -> None:
        try:
            await self.end
        finally:
            self._world.runs.remove(self)

    def move(self, acked: int) -> None:
        """It has met the peer, who takes it, and this much is there."""
        self.transfer, self.size, self.acked = "ab" * 32, 100, acked
        self.owner.met()
        self.owner.accepted()


class World:
    """A home with two contacts, its queue and its runner."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        for name, peer in (("bob", BOB), ("carol", CAROL)):
            self.home.add_contact(Contact(name, peer, "code", "2026-11-21"))
        self.store = QueueStore(folder)
        self.runs: list[FakeRun] = []
        self.told: list[Event] = []
        self.runner = self.new_runner()

    def new_runner(self) -> QueueRunner:
        def make(machine: Machine, entry: Queued, owner: RunOwner) -> FakeRun:
            return FakeRun(self, entry, owner)

        return QueueRunner(machine_at(self.home, reactor), self.told.append, draw=lambda: 1.0, make_run=make)

    def put(self, path: str, peer: PeerId = BOB, added: int = 1, **options: Any) -> Queued:
        return self.store.put(Queued([path], str(peer), added, **options))

    def change(self, entry: Queued, **fields: Any) -> None:
        """What a command does."""
        self.store.change(entry.number, lambda old: replace(old, **fields))
        self.runner.doorbell()

    def resume(self, entry: Queued) -> None:
        self.store.change(
            entry.number, lambda old: replace(old, paused=False, failed=False, why="", resumed=old.resumed + 1)
        )
        self.runner.doorbell()

    @property
    def running(self) -> list[str]:
        return [run.entry.paths[0] for run in self.runs]

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(job.names[0], job.state) for job in self.runner.listed()]

    def entry(self) -> Queued:
        (found,), _ = self.store.read()
        return found

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for it; the test's deadline ends that."""
        while not condition():
            await deferLater(reactor, 0.005)

    async def settle(self) -> None:
        """Wait until the runner has looked at what the files say now."""
        self.runner.doorbell()
        await self.until(lambda: not self.runner._looking)
        await deferLater(reactor, 0)


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(queuerunner, "SAVE_S", 0.05)
    made = World(tmp_path)
    yield made
    await made.runner.stop()


@pytest_twisted.ensureDeferred
async def test_what_is_queued_is_sent_in_order_and_forgotten_when_it_is_done(world: World) -> None:
    first, second, other = world.put("/1", added=1), world.put("/2", added=2), world.put("/3", CAROL, added=3)
    world.runner.start()
    await world.until(lambda: world.running == ["/1", "/3"])
    for run in list(world.runs):
        run.move(100)
    assert world.states == [("1", "running"), ("2", "queued"), ("3", "running")]
    world.runs[0].end.callback(None)
    await world.until(lambda: world.running == ["/3", "/2"])
    for run in list(world.runs):
        run.end.callback(None)
    await world.until(lambda: world.store.read() == ([], []))
    done = [event for event in world.told if isinstance(event, JobListed) and event.state == "done"]
    assert [(job.job, job.bytes, job.total) for job in done] == [
        (each.number, 100 * moved, 100 * moved) for each, moved in ((first, 1), (other, 1), (second, 0))
    ]
    assert {job.peer for job in done} == {"bob", "carol"}
    assert world.runner.listed() == []


@pytest_twisted.ensureDeferred
async def test_a_peer_whose_user_has_not_agreed_is_waited_for_and_holds_up_nobody_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.runner._queue = Queue(lambda: 1.0, most=1)
    entry = world.put("/1", added=1)
    world.put("/2", CAROL, added=2)
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    asking = world.runs[0]
    asking.owner.met()
    await world.until(lambda: world.running == ["/1", "/2"])
    assert world.states == [("1", "asking"), ("2", "queued")]
    await world.until(lambda: any(each.running and each.asking for each in world.store.read()[0]))
    asking.owner.accepted()
    assert world.states[0] == ("1", "running")
    asking.owner.accepted()  # after a cut
    await world.until(lambda: any(each.running and not each.asking for each in world.store.read()[0]))
    told = [event.state for event in world.told if isinstance(event, JobListed) and event.job == entry.number]
    assert told[-2:] == ["asking", "running"]
    world.runs[1].owner.met()
    world.runs[1].end.errback(Unreachable("the peer went away before its user had looked"))
    await world.until(
        lambda: not any(each.asking or (each.running and each.peer == str(CAROL)) for each in world.store.read()[0])
    )


@pytest_twisted.ensureDeferred
async def test_what_comes_later_is_found_by_the_bell_and_without_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queuerunner, "LOOK_S", 0.05)
    world.runner.start()
    world.put("/late")
    await world.until(lambda: world.running == ["/late"])


@pytest_twisted.ensureDeferred
async def test_a_person_pauses_goes_on_and_cancels(world: World) -> None:
    entry, second = world.put("/1"), world.put("/2", added=2)
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    world.runs[0].move(50)
    world.change(entry, paused=True)
    await world.until(lambda: world.running == ["/2"])
    assert world.states == [("1", "paused"), ("2", "queued")]
    await world.until(lambda: [each.acked for each in world.store.read()[0]] == [50, 0])
    assert world.store.read()[0][0].paused
    world.resume(entry)
    world.store.remove(second.number)
    world.runner.doorbell()
    await world.until(lambda: world.running == ["/1"])
    assert world.runs[0].entry.acked == 50
    world.store.remove(entry.number)
    world.runner.doorbell()
    await world.until(lambda: world.running == [])
    assert world.runner.listed() == []
    assert world.store.read() == ([], [])  # and nothing that was noted brought it back


@pytest_twisted.ensureDeferred
async def test_what_a_person_says_while_progress_is_written_is_kept(world: World) -> None:
    entry = world.put("/1")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    for number in range(20):
        world.runs[0].move(number)
        world.store.change(entry.number, lambda old: replace(old, priority=old.priority + 1))
        await deferLater(reactor, 0.01)
    await world.until(lambda: world.entry().acked == 19)
    assert world.entry().priority == 20


@pytest_twisted.ensureDeferred
async def test_urgent_ones_go_first(world: World) -> None:
    world.put("/1", added=1)
    second = world.put("/2", added=2)
    world.put("/3", added=3, priority=1)
    world.runner.start()
    await world.until(lambda: world.running == ["/3"])
    world.runs[0].move(1)
    world.change(second, priority=5)
    await world.settle()
    assert world.running == ["/3"]
    world.runs[0].end.callback(None)
    await world.until(lambda: world.running == ["/2"])


@pytest_twisted.ensureDeferred
async def test_what_failed_for_good_waits_for_a_person_and_the_others_go_on(world: World) -> None:
    entry = world.put("/1")
    world.put("/2", added=2)
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    world.runs[0].end.errback(UsageError("'/1' does not exist\x1b"))
    await world.until(lambda: world.running == ["/2"])
    await world.until(lambda: world.store.read()[0][0].failed)
    (failed, _) = world.runner.listed()
    assert (failed.state, failed.why) == ("failed", r"'/1' does not exist\x1b")
    world.runs[0].end.callback(None)
    await world.until(lambda: len(world.store.read()[0]) == 1)
    await world.settle()
    assert world.running == []
    world.resume(entry)
    await world.until(lambda: world.running == ["/1"])
    assert world.states == [("1", "queued")]


@pytest.mark.parametrize("error", [Unreachable("gone"), ServerUntrusted("another key"), ConfigError("damaged")])
@pytest_twisted.ensureDeferred
async def test_what_may_pass_is_tried_again(world: World, error: Exception) -> None:
    world.put("/1")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    world.runs[0].end.errback(error)
    await world.until(lambda: world.running == [])
    await world.until(lambda: world.running == ["/1"])
    await world.until(lambda: world.entry().why == str(error))
    world.runs[0].move(1)
    await world.until(lambda: world.entry().why == "")


@pytest_twisted.ensureDeferred
async def test_a_fault_of_the_program_ends_one_entry_and_is_logged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("/1")
    world.put("/2", CAROL, added=2)
    world.runner.start()
    await world.until(lambda: len(world.running) == 2)
    faults: list[object] = []
    monkeypatch.setattr(world.runner, "_fault", lambda failure, what: faults.append(failure.value))
    world.runs[0].end.errback(ZeroDivisionError())
    await world.until(lambda: ("1", "failed") in world.states)
    assert "ZeroDivisionError" in world.runner.listed()[0].why
    assert [type(fault) for fault in faults] == [ZeroDivisionError]
    assert world.running == ["/2"]


@pytest_twisted.ensureDeferred
async def test_what_is_through_is_not_sent_again_even_if_it_is_stopped_then(world: World) -> None:
    entry = world.put("/1")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    world.runs[0].move(100)
    world.runs[0].owner.through()
    await world.until(lambda: world.store.read() == ([], []))
    assert world.running == ["/1"]  # it parts
    await world.settle()
    assert world.running == ["/1"]
    await world.runner.stop()
    assert world.running == []
    assert isinstance(world.told[-1], JobListed)
    assert (world.told[-1].state, world.told[-1].job) == ("done", entry.number)


SHORT = FilesLeftOut("'1' changed while it was being sent; it was left out, and everything else has arrived")


@pytest_twisted.ensureDeferred
async def test_what_is_through_but_for_files_that_were_left_out_waits_for_a_person(world: World) -> None:
    """Sent again, what has arrived would come twice."""
    entry = world.put("/1")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    world.runs[0].move(90)
    await world.runs[0].owner.short(SHORT)
    await world.settle()
    assert world.running == ["/1"]  # it parts
    world.runs[0].end.errback(SHORT)
    await world.until(lambda: world.states == [("1", "failed")])
    await world.settle()
    assert world.running == []
    assert (world.entry().failed, world.entry().why) == (True, SHORT.message)
    world.resume(entry)
    await world.until(lambda: world.running == ["/1"])


@pytest.mark.parametrize("how", ["the server is gone", "paused"])
@pytest_twisted.ensureDeferred
async def test_a_run_that_is_cut_while_it_parts_is_not_run_again_for_what_was_left_out(world: World, how: str) -> None:
    entry = world.put("/1")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    world.runs[0].move(90)
    await world.runs[0].owner.short(SHORT)
    if how == "paused":
        world.change(entry, paused=True)
    else:
        world.runs[0].end.errback(Unreachable(how))
    await world.until(lambda: not world.running)
    await world.settle()
    assert world.states == [("1", "failed")]
    assert world.running == []
    assert (world.entry().failed, world.entry().why) == (True, SHORT.message)


@pytest_twisted.ensureDeferred
async def test_what_was_left_out_is_noted_before_the_run_has_ended(world: World) -> None:
    """An agent that is stopped or killed then does not send it once more when it is started again."""
    world.put("/1")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    world.runs[0].move(90)
    await world.runs[0].owner.short(SHORT)
    await world.runner.stop()
    assert (world.entry().failed, world.entry().why) == (True, SHORT.message)
    world.runner = world.new_runner()
    world.runner.start()
    await world.until(lambda: world.states == [("1", "failed")])
    await world.settle()
    assert world.running == []


@pytest_twisted.ensureDeferred
async def test_a_file_that_cannot_be_removed_sends_nothing_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = world.put("/1")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    with monkeypatch.context() as harmed:
        harmed.setattr(Path, "unlink", refuse)
        world.runs[0].end.callback(None)
        await world.until(lambda: any(isinstance(event, Note) for event in world.told))
        await world.settle()
        assert world.running == []
        assert world.entry() == replace(entry, changed=world.entry().changed)
    world.runner.doorbell()
    await world.until(lambda: world.store.read() == ([], []))
    world.put("/1", added=2)
    world.runner.doorbell()
    await world.until(lambda: world.running == ["/1"])  # another one


@pytest_twisted.ensureDeferred
async def test_what_is_queued_again_while_it_is_sent_is_sent_again(world: World) -> None:
    entry = world.put("/1")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    await world.runs[0].owner.met()
    assert world.entry().running
    world.put("/1", added=2, limit=7)
    await world.runs[0].owner.through()
    world.runs[0].end.callback(None)
    await world.settle()
    await world.until(lambda: world.running == ["/1"])
    assert (world.runs[0].entry.limit, world.entry().number) == (7, entry.number)
    world.runs[0].end.callback(None)
    await world.until(lambda: world.store.read() == ([], []))


@pytest_twisted.ensureDeferred
async def test_a_run_ends_for_the_same_that_is_queued_again_and_nothing_is_dropped(world: World) -> None:
    world.put("/1")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    await world.runs[0].owner.met()
    world.put("/1", added=2, limit=7)
    world.runner.doorbell()
    await world.until(lambda: [run.entry.limit for run in world.runs] == [7])
    assert world.states == [("1", "queued")]
    assert not any(isinstance(event, JobListed) and event.state == "dropped" for event in world.told)


@pytest_twisted.ensureDeferred
async def test_what_is_queued_again_after_a_refused_removal_is_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("/1")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    await world.runs[0].owner.met()
    with monkeypatch.context() as harmed:
        harmed.setattr(Path, "unlink", refuse)
        world.runs[0].end.callback(None)
        await world.until(lambda: any(isinstance(event, Note) for event in world.told))
    world.put("/1", added=2)
    world.runner.doorbell()
    await world.until(lambda: world.running == ["/1"])


def refuse(*words: object, **options: object) -> None:
    raise OSError(30, "Read-only file system")


@pytest_twisted.ensureDeferred
async def test_an_end_that_could_not_be_noted_is_noted_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("/1")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    with monkeypatch.context() as harmed:
        harmed.setattr(Path, "replace", refuse)
        world.runs[0].end.errback(Refused("no"))
        await world.until(lambda: world.states == [("1", "failed")])
        await world.settle()
        assert not world.entry().failed
    world.runner.doorbell()
    await world.until(lambda: world.entry().failed)
    assert world.running == []


@pytest_twisted.ensureDeferred
async def test_one_that_was_tried_again_meanwhile_is_not_shown_as_failed(world: World) -> None:
    """A person resumes it in the moment in which it fails, before the runner knows."""
    entry = world.put("/1")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    world.store.change(entry.number, lambda old: replace(old, resumed=1))
    world.runs[0].end.errback(Refused("no"))
    await world.until(lambda: world.running == [])
    world.runner.doorbell()
    await world.until(lambda: world.running == ["/1"])
    await world.settle()
    assert not world.entry().failed
    assert world.states == [("1", "queued")]


@pytest_twisted.ensureDeferred
async def test_damaged_files_are_told_once_and_the_rest_goes_on(world: World) -> None:
    entry = world.put("/1")
    (world.store.path / "00000000.json").write_text("?")
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    (world.store.path / f"{entry.number}.json").write_bytes(b'{"schema": 9}')  # which cancels nothing
    await world.settle()
    await world.settle()
    assert world.running == ["/1"]
    notes = [event.message for event in world.told if isinstance(event, Note)]
    assert ["damaged" in note or "newer" in note for note in notes] == [True, True]
    assert all(note.endswith("the other transfers go on") for note in notes)


@pytest_twisted.ensureDeferred
async def test_a_look_that_fails_cancels_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, lost_errors: Any
) -> None:
    """No descriptor is free, or the file server is away."""
    world.put("/1")
    world.put("/2", CAROL, added=2, paused=True)
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    with monkeypatch.context() as harmed:
        harmed.setattr(os, "listdir", refuse)
        await world.settle()
    assert [type(each) for each in lost_errors.flush(DiskError)] == [DiskError]
    assert world.states == [("1", "queued"), ("2", "paused")]
    await world.settle()
    assert world.running == ["/1"]
    assert [each.paths for each in world.store.read()[0]] == [["/1"], ["/2"]]


@pytest_twisted.ensureDeferred
async def test_files_that_were_away_come_back(world: World) -> None:
    """The disk with the home was gone for a moment: what was not seen is ended, and its file is nobody's to remove."""
    world.put("/1")
    world.put("/2", added=2, paused=True)
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    world.runner._compare(Look([], [], {}))
    assert ("2", "paused") not in world.states
    await world.until(lambda: world.running == [])
    world.runner.doorbell()
    await world.until(lambda: world.running == ["/1"])
    assert world.states == [("1", "queued"), ("2", "paused")]
    assert len(world.store.read()[0]) == 2


@pytest_twisted.ensureDeferred
async def test_the_next_runner_goes_on_where_the_last_one_was(world: World) -> None:
    paused, failed, entry = world.put("/p"), world.put("/f", added=2), world.put("/1", CAROL, added=3)
    world.store.change(paused.number, lambda old: replace(old, paused=True))
    world.store.change(failed.number, lambda old: replace(old, failed=True, why="no"))
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    with pytest.raises(ConfigError, match="another agent"):
        world.new_runner().start()
    world.runs[0].move(60)
    await world.until(lambda: world.store.read()[0][2].running)
    world.runs[0].move(70)
    await world.runner.stop()
    assert not world.store.attended
    stopped = world.store.read()[0][2]
    assert (stopped.acked, stopped.running, stopped.failed) == (70, False, False)
    world.store.change(entry.number, lambda old: replace(old, running=True))  # as after a kill
    world.runner = world.new_runner()
    world.runner.start()
    await world.until(lambda: world.running == ["/1"])
    assert world.states == [("p", "paused"), ("f", "failed"), ("1", "queued")]
    assert world.runs[0].entry.acked == 70
    await world.until(lambda: not world.store.read()[0][2].running)
