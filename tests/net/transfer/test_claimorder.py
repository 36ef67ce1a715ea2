"""Chunks that are written more than once, as data and as holes: what was written last is here, and is what is claimed.

It is so for the core, for the staging place and for the journal that the next run reads.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.transfer.geometry import MIN_CHUNK, chunk_span
from p2pxfer.core.transfer.inflow import Inflow, claims_of
from p2pxfer.core.transfer.journal import Claim
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.transfer import syncing
from p2pxfer.net.transfer.landing import DiskThreads, Landing
from tests.net.disk_tools import NOW, SENDER
from tests.net.reactors import reactor

CHUNKS = 4
SIZE = (CHUNKS - 1) * MIN_CHUNK + 77
SAID = Announced(1, SIZE, 0, counting=False)

Step = tuple[str, int, int]
"""What came: data of a chunk with a seed, a hole with the chunk behind its last, or that what came is made durable."""
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.integers(0, CHUNKS - 1), st.integers(0, 2)),
        st.tuples(st.just("hole"), st.integers(0, CHUNKS), st.integers(0, CHUNKS)),
        st.tuples(st.just("sync"), st.just(0), st.just(0)),
    ),
    max_size=12,
)


def listed() -> Manifest:
    return Manifest([Entry("f", FILE, SIZE)])


def chunk(index: int, seed: int) -> Chunk:
    """Seed 0 is a chunk of zeros that comes as data."""
    _, length = chunk_span(SIZE, index)
    data = random.Random(seed).randbytes(length) if seed else bytes(length)
    return Chunk(1, 0, index, blake3(data).digest(), memoryview(data))


def on_disk(dest: Path, staging: Staging) -> bytes:
    return (dest / staging.name / "tree" / "f").read_bytes()


def hashes(data: bytes) -> list[bytes]:
    spans = [chunk_span(SIZE, index) for index in range(CHUNKS)]
    return [blake3(data[offset : offset + length]).digest() for offset, length in spans]


def check(dest: Path, flow: Inflow, left: list[bytes]) -> None:
    """The journal claims what the core and the place held, which is what is on the disk, and that is published."""
    manifest = listed()
    again = Staging.open(str(dest), SENDER, manifest, announced=SAID)
    data = on_disk(dest, again)
    assert [again.have[0, index] for index in range(CHUNKS)] == left == hashes(data)
    assert [flow.table.hash(number) for number in range(CHUNKS)] == left
    again.finish(flow.table.root(), NOW)
    again.discard()
    assert (dest / "f").read_bytes() == data


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_what_was_written_last_is_what_is_claimed(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dest = Path(folder)
        staging = Staging.open(folder, SENDER, manifest := listed(), announced=SAID)
        flow = Inflow(manifest, {})
        batch: list[Claim] = []
        for what, first, other in [("hole", 0, CHUNKS), *steps, ("sync", 0, 0)]:
            match what:
                case "data":
                    came = chunk(first, other)
                    staging.write_chunk(0, first, came.payload, came.hash)
                    batch += claims_of(came)
                    flow.stored_all(came)
                case "hole":
                    batch += staging.write_hole(0, min(first, other), max(first, other))
                    flow.stored_hole(0, min(first, other), max(first, other))
                case _:
                    staging.sync(batch)
                    batch = []
        left = [staging.have[0, index] for index in range(CHUNKS)]
        staging.close()
        check(dest, flow, left)


class World:
    """A transfer that lands, of which nothing is made durable by itself."""

    def __init__(self, dest: Path) -> None:
        manifest = listed()
        self.staging = Staging.open(str(dest), SENDER, manifest, announced=SAID)
        self.flow = Inflow(manifest, {})
        self.disk = DiskThreads(reactor)
        self.failures: list[Failure] = []
        self.landing = Landing(reactor, self.disk, self.staging, lambda _: None, self.failures.append)

    async def data(self, index: int, seed: int) -> None:
        came = chunk(index, seed)
        assert self.flow.wants(index, came.hash)
        written: Deferred[None] = Deferred()
        self.landing.store(came, written.callback)
        await written
        self.flow.stored_all(came)

    async def hole(self, first: int, stop: int) -> None:
        _, wanted = self.flow.hole(0, first, stop)
        assert wanted
        for run in wanted:
            await self.landing.store_hole(0, *run)
            self.flow.stored_hole(0, *run)

    async def close(self) -> list[bytes]:
        """What the place held at the end."""
        await self.landing.settle()
        left = [self.staging.have[0, index] for index in range(CHUNKS)]
        await self.landing.close()
        assert not self.failures
        self.disk.stop()
        return left


@pytest.mark.parametrize(
    "steps",
    [
        [("hole", 0, CHUNKS), ("data", 1, 1)],
        [("hole", 0, CHUNKS), ("data", 1, 1), ("hole", 0, CHUNKS)],
        [("data", 1, 1), ("hole", 0, CHUNKS)],
        [("data", 1, 1), ("hole", 0, CHUNKS), ("data", 1, 2), ("data", CHUNKS - 1, 1)],
    ],
)
@pytest_twisted.ensureDeferred
async def test_one_batch_of_a_landing_keeps_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[Step]
) -> None:
    monkeypatch.setattr(syncing, "SYNC_S", 600)
    synced = counted(monkeypatch)
    world = World(tmp_path)
    for what, first, other in steps:
        await (world.data(first, other) if what == "data" else world.hole(first, other))
    left = await world.close()
    assert synced == [1]
    check(tmp_path, world.flow, left)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many batches were made durable, as one number."""
    count = [0]
    sync: Callable[..., None] = Staging.sync

    def counting(*arguments: object) -> None:
        count[0] += 1
        sync(*arguments)

    monkeypatch.setattr(Staging, "sync", counting)
    return count
