"""The disk side of an incoming transfer with a disk that fails, stalls or is slow."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from p2pxfer.core.session.transferwire import MAX_CHUNK, Chunk
from p2pxfer.core.transfer.journal import Claim
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import ChunkRefused, DiskError, NoSpace
from p2pxfer.net.transfer import landing as module
from p2pxfer.net.transfer.landing import DiskThreads, Landing
from p2pxfer.net.transfer.syncing import SYNC_S
from tests.net.reactors import reactor, until

SIZE = 100_000


class FakeStaging:
    """Counts; ``gate`` holds back syncs, ``sync_error`` makes them fail."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.synced: list[int] = []
        self.ends: list[str] = []
        self.announced: list[int] = []
        self.found: list[bytes | None] = []
        self.under_way = 0
        self.sync_error: Exception | None = None
        self.write_error: Exception | None = None
        self.bad: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()

    def write_chunk(
        self, file: int, index: int, payload: memoryview, digest: bytes, found: bytes | None = None
    ) -> None:
        if self.write_error or index in self.bad:
            raise self.write_error or ChunkRefused("bad")
        self.found.append(found)
        self.written.append(index)

    def write_hole(self, file: int, first: int, stop: int) -> list[Claim]:
        self.written += range(first, stop)
        return [(file, first, stop, b"z" * 32)]

    def announce(self, announced: Announced) -> None:
        self.gate.wait(10)
        self.announced.append(announced.files)

    def sync(self, claims: list[Claim], pages: list[int]) -> None:
        self.under_way += 1
        self.gate.wait(10)
        self.under_way -= 1
        if self.sync_error:
            raise self.sync_error
        self.synced += [index for _, first, stop, _ in claims for index in range(first, stop)]

    def close(self) -> None:
        assert not self.under_way
        self.ends.append("closed")

    def discard(self) -> None:
        assert not self.under_way
        self.ends.append("discarded")


class World:
    def __init__(self) -> None:
        self.staging = FakeStaging()
        self.disk = DiskThreads(reactor)
        self.holds: list[bool] = []
        self.failures: list[Any] = []
        self.landing = Landing(reactor, self.disk, self.staging, self.holds.append, self.failures.append)  # type: ignore[arg-type]  # a double

    def store(self, index: int, size: int = SIZE) -> Deferred[None]:
        stored: Deferred[None] = Deferred()
        self.landing.store(Chunk(1, 0, index, b"h" * 32, memoryview(bytes(size))), stored.callback)
        return stored

    async def end(self) -> None:
        await self.landing.close()
        self.disk.stop()


@pytest_twisted.ensureDeferred
async def test_everything_stored_is_durable_after_settling() -> None:
    world = World()
    for index in range(100):
        world.store(index)
    await world.landing.settle()
    assert world.staging.synced == world.staging.written == list(range(100))
    await world.end()
    assert world.staging.ends == ["closed"]


@pytest_twisted.ensureDeferred
async def test_the_hash_that_was_made_on_the_way_is_not_made_again() -> None:
    world = World()
    for index, found in enumerate([b"f" * 32, None]):
        stored: Deferred[None] = Deferred()
        world.landing.store(Chunk(1, 0, index, b"h" * 32, memoryview(bytes(SIZE)), found), stored.callback)
        await stored
    assert world.staging.found == [b"f" * 32, None]
    await world.end()


@pytest_twisted.ensureDeferred
async def test_a_few_chunks_are_synced_without_being_asked() -> None:
    world = World()
    await world.store(1)
    await until(lambda: world.staging.synced == [1])
    await world.end()


@pytest.mark.parametrize("error", [NoSpace("full"), DiskError("broken")])
@pytest_twisted.ensureDeferred
async def test_f14_a_failed_sync_is_told_once_and_never_repeated(error: DiskError) -> None:
    world = World()
    world.staging.sync_error = error
    await world.store(1)
    with pytest.raises(type(error)):
        await world.landing.settle()
    with pytest.raises(type(error)):
        await world.landing.settle()
    world.staging.sync_error = None
    await world.store(2)
    await deferLater(reactor, SYNC_S + 0.1)
    assert world.staging.synced == []
    assert [failure.value for failure in world.failures] == [error]
    await world.end()
    assert world.staging.ends == ["closed"]


@pytest_twisted.ensureDeferred
async def test_small_chunks_go_to_the_thread_together_and_a_bad_one_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    jobs: list[int] = []
    do = world.disk.writer.do

    def counted(work: Any, *batch: Any) -> Deferred[Any]:
        jobs.extend(map(len, batch))
        return do(work, *batch)

    monkeypatch.setattr(world.disk.writer, "do", counted)
    world.staging.bad = {7, 200}
    stores = [world.store(index, 100) for index in range(300)]
    for index, store in enumerate(stores):
        if index in world.staging.bad:
            with pytest.raises(ChunkRefused):
                await store
        else:
            await store
    assert jobs == [module.BATCH_CHUNKS, module.BATCH_CHUNKS, 300 - 2 * module.BATCH_CHUNKS]
    assert world.staging.written == [index for index in range(300) if index not in world.staging.bad]
    await world.landing.settle()
    assert world.staging.synced == world.staging.written
    await world.end()


async def written(world: World, gate: threading.Event, stores: Iterable[Awaitable[object]]) -> None:
    """The disk goes on: everything is written, and reading, which was held, goes on too."""
    gate.set()
    for store in stores:
        await store
    await world.landing.settle()
    assert world.holds == [True, False]


@pytest_twisted.ensureDeferred
async def test_thousands_of_tiny_chunks_and_holes_hold_the_paths() -> None:
    """Their payload is nothing; what they take while they wait is not."""
    world = World()
    gate = threading.Event()
    blocked = world.disk.writer.do(gate.wait, 10)
    stores = [world.store(index, 1) for index in range(1200)]
    assert world.holds == []
    stores += [world.landing.store_hole(0, 5000 + index, 5001 + index) for index in range(1200)]
    assert world.holds == [True]
    await written(world, gate, [blocked, *stores])
    assert world.staging.synced == world.staging.written
    assert sorted(world.staging.synced) == [*range(1200), *range(5000, 6200)]
    await world.end()


@pytest_twisted.ensureDeferred
async def test_many_tiny_chunks_that_wait_for_a_sync_hold_the_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of each until it is journalled takes more than a byte."""
    monkeypatch.setattr(module, "UNSAFE_BYTES", 256 * 1024)
    world = World()
    world.staging.gate.clear()
    stored = 0
    while stored < 6000 and world.holds[-1:] != [True]:
        for store in [world.store(stored + each, 1) for each in range(50)]:
            await store
        stored += 50
    assert world.holds[-1:] == [True]
    world.staging.gate.set()
    await world.landing.settle()
    assert not world.holds[-1]
    assert world.staging.synced == world.staging.written == [*range(stored)]
    await world.end()


@pytest_twisted.ensureDeferred
async def test_while_one_of_the_largest_chunks_is_written_the_next_one_may_come() -> None:
    world = World()
    gate = threading.Event()
    blocked = world.disk.writer.do(gate.wait, 10)
    stores = [world.store(0, MAX_CHUNK)]
    assert world.holds == []
    stores.append(world.store(1, MAX_CHUNK))
    assert world.holds == [True]
    await written(world, gate, [blocked, *stores])
    await world.end()


@pytest_twisted.ensureDeferred
async def test_a_disk_that_is_behind_holds_the_paths_and_lets_them_go() -> None:
    world = World()
    world.staging.gate.clear()
    stores = [world.store(index, 1 << 20) for index in range(16)]
    for store in stores:
        await store
    assert world.holds == [True]
    world.staging.gate.set()
    await world.landing.settle()
    assert world.holds == [True, False]
    await world.end()


@pytest_twisted.ensureDeferred
async def test_f45_a_failure_while_the_paths_are_held_lets_them_go() -> None:
    world = World()
    world.staging.gate.clear()
    world.staging.sync_error = NoSpace("full")
    for index in range(16):
        world.store(index, 1 << 20)
    await deferLater(reactor, 0.1)
    world.staging.gate.set()
    await world.end()
    assert world.holds == [True, False]


@pytest_twisted.ensureDeferred
async def test_the_staging_place_is_closed_only_when_no_work_is_under_way() -> None:
    world = World()
    world.staging.gate.clear()
    await world.store(1)
    settling = Deferred.fromCoroutine(world.landing.settle())
    closing = Deferred.fromCoroutine(world.landing.close(discard=True))
    await deferLater(reactor, 0.1)
    assert world.staging.ends == []
    world.staging.gate.set()
    await closing
    await settling
    await world.landing.close()
    assert world.staging.ends == ["discarded"]
    world.disk.stop()


@pytest_twisted.ensureDeferred
async def test_whoever_cancels_a_closing_loses_nothing_of_what_came() -> None:
    """As often as it is: what was stored is claimed, and the place is closed, once."""
    world = World()
    world.staging.gate.clear()
    await world.store(1)
    await until(lambda: world.staging.under_way)
    await world.store(2)
    closing = Deferred.fromCoroutine(world.landing.close())
    for _ in range(2):
        closing.cancel()
    assert world.staging.ends == []
    world.staging.gate.set()
    await closing
    assert world.staging.synced == [1, 2]
    assert world.staging.ends == ["closed"]
    assert world.failures == []
    world.disk.stop()


@pytest_twisted.ensureDeferred
async def test_of_many_announcements_that_wait_the_last_one_counts() -> None:
    """Each waits for the disk in the thread that writes, and a sender may make as many as it likes."""
    world = World()
    world.staging.gate.clear()
    for files in range(1000):
        world.landing.announce(Announced(files, 0, 0, counting=True))
    world.staging.gate.set()
    await world.end()
    assert world.staging.announced == [0, 999]
    assert not world.failures


@pytest_twisted.ensureDeferred
async def test_an_announcement_for_which_there_is_no_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(world.staging, "announce", raiser(NoSpace("too much")))
    world.landing.announce(Announced(1, 0, 0, counting=True))
    await until(lambda: bool(world.failures))
    assert world.failures[0].check(NoSpace)
    await world.end()


def raiser(error: Exception) -> Callable[[Announced], None]:
    def fail(_: Announced) -> None:
        raise error

    return fail
