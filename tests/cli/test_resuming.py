"""``p2pxfer jobs resume``: which jobs go on, in which order, and what becomes of one that fails."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from p2pxfer.cli import jobs, resuming
from p2pxfer.cli.main import cli
from p2pxfer.core.contact.codes import Code
from p2pxfer.core.ids import PeerId
from p2pxfer.errors import (
    CodeInvalid,
    DiskError,
    Interrupted,
    P2pxferError,
    Unreachable,
    UsageError,
    WrongCode,
)
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.private.privatedir import HeldLocks
from p2pxfer.net.queue.queuestore import Queued, QueueStore
from p2pxfer.net.queue.sendjobs import SendJob, SendJobs
from p2pxfer.net.staging.partials import Destination, Partial, drop, find, remember
from tests.net.disk_tools import Content, noise, open_staging, put

BOB = PeerId(bytes(32))


class World:
    """A home with cut jobs, and what becomes of each that goes on, by its number."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        Home(self.home).add_contact(Contact("bob", BOB, "code", "2026-01-01"))
        self.went: list[str] = []
        self.codes: list[str | None] = []
        self.fails: dict[str, Exception] = {}
        self.through: Callable[[str], None] = lambda number: None

    def cut_send(self, name: str, to: str = "bob") -> str:
        """A job of sending that was cut."""
        store, job = SendJobs(self.home), SendJob([f"/{name}"], to)
        store.save(job)
        store.close()
        return job.number

    def cut_receive(self, name: str) -> str:
        """The same of receiving."""
        what = Content({name: noise(5 * 65536)})
        staging = open_staging(self.inbox, what)
        first = what.addresses()[:1]
        put(staging, what, first)
        staging.sync(map(what.claim, first))
        staging.close()
        remember(self.home, Destination(str(self.inbox), "me"))
        (found,) = [each for each in find(self.home, HeldLocks()) if name in each.names]
        return found.number

    def failed_in_the_queue(self, name: str = "q") -> str:
        """A job of the agent that waits for a person."""
        return QueueStore(self.home).put(Queued([f"/{name}"], str(BOB), 1, failed=True, why="no")).number

    def prepared(self, options: object, home: Home, job: Any, code: Code | None = None) -> Callable[[object], Any]:
        """Instead of a run: note it, and what becomes of it."""
        self.codes.append(str(code) if code is not None else None)

        async def main(reactor: object) -> None:
            self.went.append(job.number)
            if job.number in self.fails:
                raise self.fails[job.number]
            self.through(job.number)
            if not isinstance(job, Partial):
                SendJobs(self.home).remove(job)

        return main

    def resume(self, *words: str) -> None:
        """Run the command."""
        cli.main(["--home", str(self.home), "jobs", "resume", *words], standalone_mode=False)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path)

    def run(main: Callable[[object], Any], verbose: int) -> None:
        ended: list[object] = []
        clock = Clock()
        Deferred.fromCoroutine(main(clock)).addBoth(ended.append)
        clock.pump([resuming.AGAIN_S] * 3)
        (failure,) = ended
        if failure is not None:
            failure.raiseException()  # type: ignore[attr-defined]  # it is a Failure

    monkeypatch.setattr(resuming, "prepared", made.prepared)
    monkeypatch.setattr("p2pxfer.cli.run.run", run)
    yield made


def test_without_a_number_the_only_one_that_waits_goes_on(world: World) -> None:
    number = world.cut_send("a")
    world.resume()
    assert world.went == [number]


def test_several_are_listed_with_what_to_do_and_none_goes_on(world: World) -> None:
    one, other = world.cut_send("a"), world.cut_receive("b")
    with pytest.raises(UsageError) as caught:
        world.resume()
    said = caught.value.message
    assert said.startswith("several jobs wait: ")
    assert f"{one}, a to bob" in said
    assert f"{other}, b from " in said
    assert said.endswith(": p2pxfer jobs resume JOB... names some, --all means all")
    assert world.went == []


def test_where_nothing_waits_that_is_said_and_no_failure(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--all"]):
        world.resume(*words)
        assert capsys.readouterr().err == "nothing waits to be resumed\n"


def test_those_that_are_named_go_on_what_is_sent_first(world: World) -> None:
    received, sent, queued = world.cut_receive("b"), world.cut_send("a"), world.failed_in_the_queue()
    world.cut_send("c")
    world.through = lambda number: drop_partials(world) if number == received else None
    world.resume(received, sent[:6], queued, sent)
    assert world.went == [sent, received]
    (entry,) = QueueStore(world.home).read()[0]
    assert not entry.failed


def drop_partials(world: World) -> None:
    """What was received is whole."""
    for each in find(world.home, HeldLocks()):
        drop(each)


def test_all_are_all_that_wait_for_a_person(world: World) -> None:
    sent, queued = {world.cut_send("a"), world.cut_send("b")}, world.failed_in_the_queue()
    waiting = QueueStore(world.home).put(Queued(["/w"], str(BOB), 2)).number
    world.resume("--all")
    assert set(world.went) == sent
    entries = {entry.number: entry for entry in QueueStore(world.home).read()[0]}
    assert (entries[queued].failed, entries[queued].resumed) == (False, 1)
    assert entries[waiting].resumed == 0


def test_one_that_fails_keeps_no_other_and_gives_its_exit_code(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = [world.cut_send(name) for name in ("a", "b", "c")]
    world.fails = {numbers[0]: Unreachable("bob is away"), numbers[2]: DiskError("it cannot be read")}
    with pytest.raises(Unreachable) as caught:
        world.resume(*numbers)
    assert world.went == numbers
    assert caught.value.message == (
        f"2 of 3 jobs did not come to their end: {numbers[0]}, {numbers[2]}; p2pxfer jobs lists what is left"
    )
    assert f"p2pxfer: {numbers[0]}: bob is away\n" in capsys.readouterr().err


@pytest.mark.parametrize("verbose", [False, True])
def test_a_fault_of_the_program_in_one_keeps_no_other(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verbose: bool
) -> None:
    """Where it happened is for those alone who asked for details."""
    monkeypatch.setattr(sys, "argv", ["p2pxfer", *(["-v"] if verbose else [])])
    numbers = [world.cut_send(name) for name in ("a", "b")]
    world.fails = {numbers[0]: ZeroDivisionError("in a thread")}
    with pytest.raises(P2pxferError) as caught:
        world.resume(*numbers)
    assert world.went == numbers
    assert (caught.value.word, caught.value.exit_code) == ("E_INTERNAL", 1)
    assert caught.value.message == (
        f"1 of 2 jobs did not come to their end: {numbers[0]}; p2pxfer jobs lists what is left"
    )
    said = capsys.readouterr().err
    hint = "" if verbose else "; run it again with -v before the command to see where"
    assert f"p2pxfer: {numbers[0]}: a fault inside the program (ZeroDivisionError){hint}\n" in said
    assert ("Traceback" in said) is verbose


@pytest.mark.parametrize("total", [1, 2])
def test_a_fault_of_the_only_one_or_for_want_of_memory_ends_the_command(world: World, total: int) -> None:
    numbers = [world.cut_send(name) for name in ("a", "b")[:total]]
    fault = ZeroDivisionError() if total == 1 else MemoryError()
    world.fails = {numbers[0]: fault}
    with pytest.raises(type(fault)):
        world.resume(*numbers)
    assert world.went == numbers[:1]


@pytest.mark.parametrize("others", [0, 1, 2])
def test_a_queued_one_that_cannot_be_changed_keeps_no_other(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    numbers = [world.failed_in_the_queue(name) for name in ("p", "q")]
    sent = [world.cut_send(name) for name in ("a", "b")[:others]]
    change = jobs.change

    def refuse(options: Any, number: str, *more: Any) -> None:
        if number == numbers[0]:
            raise DiskError(f"{number} is gone")
        change(options, number, *more)

    monkeypatch.setattr(jobs, "change", refuse)
    if others:
        world.fails = {sent[0]: Unreachable("bob is away")}
    with pytest.raises(DiskError) as caught:
        world.resume(*numbers, *sent)
    entries = {entry.number: entry for entry in QueueStore(world.home).read()[0]}
    assert [entries[number].resumed for number in numbers] == [0, 1]
    assert world.went == sent
    said = ", ".join([numbers[0], *sent[:1]])
    assert caught.value.message == (
        f"{1 + len(sent[:1])} of {2 + others} jobs did not come to their end: {said}; p2pxfer jobs lists what is left"
    )
    assert f"p2pxfer: {numbers[0]} is gone\n" in capsys.readouterr().err


def test_one_queued_one_that_cannot_be_changed_says_so_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = world.failed_in_the_queue()

    def refuse(*words: object) -> None:
        raise DiskError("the disk refused")

    monkeypatch.setattr(jobs, "change", refuse)
    with pytest.raises(DiskError, match=r"^the disk refused$"):
        world.resume(number)


@pytest.mark.parametrize("comes_back", [True, False])
def test_who_took_one_and_is_away_for_the_next_is_asked_for_once_more(world: World, comes_back: bool) -> None:
    """A receiver that goes on with several registers anew for each."""
    one, other, third = (world.cut_send(name) for name in ("a", "b", "c"))
    away = [Unreachable("bob is away")] * (1 if comes_back else 3)

    def through(number: str) -> None:
        if number != one and away:
            raise away.pop()

    world.through = through
    with contextlib.nullcontext() if comes_back else pytest.raises(Unreachable):
        world.resume(one, other, third)
    assert world.went == [one, other, other, third]


@pytest.mark.parametrize("stop", [Interrupted("stopped"), CancelledError()])
def test_who_interrupts_interrupts_all_that_is_left(world: World, stop: Any) -> None:
    numbers = [world.cut_send(name) for name in ("a", "b")]
    world.fails = {numbers[0]: stop}
    with pytest.raises((Interrupted, CancelledError)):
        world.resume(*numbers)
    assert world.went == numbers[:1]


def test_a_receiver_goes_on_until_its_own_job_is_through(world: World) -> None:
    """Another transfer may come first, be it another of the jobs."""
    one, other = world.cut_receive("b"), world.cut_receive("c")
    comes = iter([other, None, one])

    def through(number: str) -> None:
        came = next(comes)
        for each in find(world.home, HeldLocks()):
            if each.number == came:
                drop(each)

    world.through = through
    world.resume(one, other)
    assert world.went == [one, one, one]


def test_of_several_none_asks_for_a_code_under_the_reactor(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt there would keep everything waiting, Ctrl-C too."""
    monkeypatch.delenv("P2PXFER_CODE", raising=False)
    stranger, known, by_id = (world.cut_send(name, to) for name, to in (("a", "eve"), ("b", "bob"), ("c", str(BOB))))
    with pytest.raises(UsageError, match="1 of 3 jobs"):
        world.resume(stranger, known, by_id)
    assert world.went == [known, by_id]
    said = (
        f"p2pxfer: {stranger}: eve is not a contact (contacts are: bob), and its one-time code is asked for only where"
        f" one job goes on: p2pxfer jobs resume {stranger}, or give the code in P2PXFER_CODE\n"
    )
    assert said in capsys.readouterr().err


CODE = "7-acorn-tulip-zebra"
EVE = PeerId(b"e" * 32)
NO_CODE = (
    "{number}: eve is not a contact (contacts are: bob), and the one-time code that was given is not for it, or was"
    " used: p2pxfer jobs resume {number} goes on with this one alone"
)


@pytest.fixture
def coded(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A code is given."""
    monkeypatch.setenv("P2PXFER_CODE", CODE)
    return world


def test_the_code_is_for_the_one_peer_that_is_no_contact_and_is_proved_once(coded: World) -> None:
    numbers = [coded.cut_send(name, to) for name, to in (("a", "bob"), ("b", "eve"), ("c", "eve"), ("d", str(BOB)))]

    def through(number: str) -> None:
        if number == numbers[1]:
            Home(coded.home).add_contact(Contact("eve", EVE, "code", "2026-01-01"))

    coded.through = through
    coded.resume(*numbers)
    assert coded.went == numbers
    assert coded.codes == [None, CODE, None, None]


def test_a_code_is_given_again_as_long_as_it_was_not_tried(coded: World, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = [coded.cut_send(name, "eve") for name in ("a", "b", "c")]
    coded.fails = {numbers[0]: Unreachable("eve is away"), numbers[1]: WrongCode("wrong")}
    with pytest.raises(Unreachable):
        coded.resume(*numbers)
    assert coded.went == numbers[:2]
    assert coded.codes == [CODE, CODE]
    assert f"p2pxfer: {NO_CODE.format(number=numbers[2])}\n" in capsys.readouterr().err


def test_of_several_strangers_none_is_tried_with_a_code_that_may_be_another_ones(
    coded: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong one would use up what the other machine shows."""
    numbers = [coded.cut_send(name, to) for name, to in (("a", "eve"), ("b", "mallory"), ("c", "bob"))]
    with pytest.raises(UsageError, match="2 of 3 jobs"):
        coded.resume(*numbers)
    assert (coded.went, coded.codes) == ([numbers[2]], [None])
    assert NO_CODE.format(number=numbers[0]) in capsys.readouterr().err


@pytest.mark.parametrize(("peers", "given"), [(("bob", str(BOB)), [CODE, None]), (("bob", "carol"), [None, None])])
def test_a_contact_gets_the_code_where_there_is_no_other_peer(
    coded: World, peers: tuple[str, ...], given: list[str | None]
) -> None:
    """It may have forgotten this machine; what went well needs none."""
    Home(coded.home).add_contact(Contact("carol", PeerId(b"c" * 32), "code", "2026-01-01"))
    coded.resume(*[coded.cut_send(name, to) for name, to in zip("ab", peers, strict=True)])
    assert coded.codes == given


def test_one_alone_gets_the_code(coded: World) -> None:
    coded.resume(coded.cut_send("a"))
    assert coded.codes == [CODE]


def test_with_a_code_that_is_none_nothing_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PXFER_CODE", "nonsense")
    numbers = [world.cut_send("a"), world.cut_send("b"), world.failed_in_the_queue()]
    with pytest.raises(CodeInvalid):
        world.resume(*numbers)
    assert world.went == []
    assert QueueStore(world.home).read()[0][0].failed


def test_nothing_goes_on_where_one_is_wrong(world: World) -> None:
    number = world.cut_send("a")
    for words in ([number, "ffffffff"], [number, "--all"]):
        with pytest.raises(UsageError):
            world.resume(*words)
    running = SendJobs(world.home)
    with contextlib.closing(running):
        job = SendJob(["/r"], "bob")
        running.save(job)
        with pytest.raises(UsageError, match="is under way in another process"):
            world.resume(number, job.number)
    assert world.went == []
