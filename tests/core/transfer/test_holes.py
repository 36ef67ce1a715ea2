"""Holes: told and not sent, told again where they were lost, and never the receiver's burden beyond its cap."""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import cast

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.session.transferwire import MAX_CHUNK, Ack, Holes
from p2pxfer.core.transfer import inflow as module
from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.geometry import MIN_CHUNK, chunk_count, zero_hash
from p2pxfer.core.transfer.hashpages import PAGE
from p2pxfer.core.transfer.holes import CHUNKS_PER_MESSAGE, RUNS_PER_MESSAGE, HoleTeller, judge
from p2pxfer.core.transfer.inflow import Inflow
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.ranges import Range, RangeSet
from p2pxfer.core.transfer.receiveeffect import ReceiverEffect, StoreHole
from p2pxfer.core.transfer.sendeffect import Send
from p2pxfer.errors import ChunkRefused, LimitReached, ProtocolBreach
from tests.core.transferworld import KIB, World, make_manifest, make_world

MIB = 1 << 20
TEBIBYTE = 1 << 40


def test_the_hash_of_zeros() -> None:
    assert zero_hash(70_000) == blake3(bytes(70_000)).digest()


SIZES = st.lists(st.integers(min_value=0, max_value=900 * KIB), min_size=1, max_size=4)
FAULTS = st.lists(st.sampled_from(["path", "cut", "kill sender", "kill receiver", "lose cache", "lie"]), max_size=8)


@settings(max_examples=80, deadline=None)
@given(SIZES, st.integers(min_value=0, max_value=2**32), FAULTS)
def test_holes_are_never_sent_and_never_lost(sizes: list[int], seed: int, faults: list[str]) -> None:
    """Any holes, any faults: whole at the end, and no hole travels as data unless the receiver lied about it."""
    world = make_world(sizes, seed)
    world.holes = some_holes(sizes, world.rng)
    world.start_sender()
    world.go_through(faults)
    world.finish()
    assert world.published == 1
    assert len(world.disk) == sum(map(chunk_count, sizes))
    assert world.lied or not world.hole_chunks_sent


def some_holes(sizes: list[int], rng: random.Random) -> dict[int, list[tuple[int, int]]]:
    """Random ranges of whole chunks, none for some files, empty ones for others."""
    found: dict[int, list[tuple[int, int]]] = {}
    for file, size in enumerate(sizes):
        if rng.random() < 0.3:
            continue
        holes = RangeSet()
        for _ in range(rng.randrange(4)):
            start = rng.randint(0, chunk_count(size))
            holes.add(start, rng.randint(start, chunk_count(size)))
        found[file] = holes.to_list()
    return found


def open_world(holes: dict[int, list[tuple[int, int]]]) -> World:
    world = make_world([64 * MIN_CHUNK], 1)
    world.holes = holes
    world.start_sender()
    path = world.add_path()
    while not world.sender.is_open(path):
        world.deliver(path, True)
        world.deliver(path, False)
    return world


def test_a_whole_hole_needs_no_chunk() -> None:
    world = open_world({0: [(0, 64)]})
    world.finish()
    assert world.sent_chunks == 0
    assert len(world.disk) == 64


@pytest.mark.parametrize("run", [(0, 0, 65), (0, 65, 65), (0, 3, 2), (1, 0, 1)])
def test_holes_outside_the_transfer_are_refused(run: tuple[int, int, int]) -> None:
    world = open_world({})
    with pytest.raises(ChunkRefused):
        world.receiver.receive(1, Holes(handle=1, chunks=[run]))


def test_a_hole_without_a_chunk_at_the_end_of_the_last_file_says_that_it_is_sparse() -> None:
    """As at its beginning, though no chunk has the number where it stands."""
    world = open_world({})
    effects = world.receiver.receive(1, Holes(handle=1, chunks=[(0, 64, 64)]))
    assert effects == [StoreHole(1, 0, 64, 64)]
    world.do_receiver(effects)
    world.finish()
    assert world.published == 1


def test_one_message_tells_a_bounded_number_of_chunks() -> None:
    """And the sender keeps to it, however large a hole is."""
    size = 3 * CHUNKS_PER_MESSAGE * MAX_CHUNK
    world = World(Manifest([Entry("huge", FILE, size)]), random.Random(1))
    world.holes = {0: [(0, 3 * CHUNKS_PER_MESSAGE - 1)]}
    world.start_sender()
    world.start_receiver()
    path = world.add_path()
    while not world.sender.is_open(path):
        world.deliver(path, True)
        world.deliver(path, False)
    messages = holes_of(world.sender.take_holes(path))
    table = ChunkTable(world.manifest)
    assert [judge(table, message, 0) for message in messages] == [65_536, 65_536, 65_535]
    with pytest.raises(ProtocolBreach):
        world.receiver.receive(path, Holes(handle=1, chunks=[(0, 0, CHUNKS_PER_MESSAGE + 1)]))


def test_a_tebibyte_of_holes_takes_no_memory_for_each_chunk() -> None:
    """Neither while they are stored nor afterwards: what is alike is kept once, what follows one another as a range."""
    world = World(Manifest([Entry("huge", FILE, TEBIBYTE)]), random.Random(1))
    world.holes = {0: [(0, chunk_count(TEBIBYTE))]}
    tracemalloc.start()
    try:
        world.start_sender()
        world.start_receiver()
        world.do_receiver = carry_out = Leaving(world)  # type: ignore[method-assign]  # no disk that notes each chunk
        world.add_path()
        while world.wires[1][0] or world.wires[1][1]:
            world.deliver(1, True)
            world.wires[1][1].extend(ack.message for ack in world.receiver.take_acks(1))
            world.deliver(1, False)
            world.wires[1][0].extend(send.message for send in world.sender.take_holes(1))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert world.receiver.have_bytes == world.sender.acked_bytes == TEBIBYTE
    assert carry_out.largest == CHUNKS_PER_MESSAGE
    assert peak < 3 * MIB


class Leaving:
    """What a receiver does whose disk leaves each hole, once all were told that come in one message."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._carry_out = world.do_receiver
        self.largest = 0

    def __call__(self, effects: Sequence[ReceiverEffect]) -> None:
        self._carry_out([effect for effect in effects if not isinstance(effect, StoreHole)])
        for effect in effects:
            if isinstance(effect, StoreHole):
                self.largest = max(self.largest, effect.stop - effect.first)
                self._world.receiver.stored_hole(effect.path, effect.file, effect.first, effect.stop)


def test_holes_that_are_told_again_and_again_end_the_path() -> None:
    """Each costs a few bytes of the sender's and work for every chunk of the receiver's."""
    world = open_world({})
    world.receiver.receive(1, Holes(handle=1, chunks=[(0, 0, 40)]))
    with pytest.raises(ProtocolBreach):
        world.receiver.receive(1, Holes(handle=1, chunks=[(0, 0, 40)] * 1024))


def open_twice() -> World:
    world = open_world({})
    path = world.add_path()
    while not world.sender.is_open(path):
        world.deliver(path, True)
        world.deliver(path, False)
    for number in (1, path):
        list(world.receiver.take_acks(number))
    return world


def acked(world: World, path: int) -> list[tuple[int, int]]:
    return [span for send in world.receiver.take_acks(path) for span in cast(Ack, send.message).chunks]


@pytest.mark.parametrize("lost", [False, True])
def test_a_hole_that_is_being_stored_is_not_stored_once_more_for_another_path(lost: bool) -> None:
    """It is told again where its path was lost, or where a sender wants to make work; both paths hear of its end."""
    world = open_twice()
    assert world.receiver.receive(1, Holes(handle=1, chunks=[(0, 0, 40)])) == [StoreHole(1, 0, 0, 40)]
    assert world.receiver.receive(2, Holes(handle=1, chunks=[(0, 10, 50)])) == [StoreHole(2, 0, 40, 50)]
    assert acked(world, 1) == acked(world, 2) == []
    if lost:
        world.receiver.close_path(1)
    world.receiver.stored_hole(1, 0, 0, 40)
    assert acked(world, 1) == ([] if lost else [(0, 40)])
    assert acked(world, 2) == [(10, 40)]
    world.receiver.stored_hole(2, 0, 40, 50)
    assert acked(world, 1) == []
    assert acked(world, 2) == [(40, 50)]


def test_where_other_bytes_are_being_stored_a_hole_is_stored_behind_them() -> None:
    flow = Inflow(Manifest([Entry("f", FILE, 24 * MIN_CHUNK)]), {})
    assert flow.hole(0, 0, 20) == (RangeSet(), [(0, 20)])
    assert flow.wants(5, b"d" * 32)
    assert flow.hole(0, 0, 24) == (RangeSet(), [(5, 6), (20, 24)])
    flow.stored_hole(0, 0, 20)
    flow.stored((0, 5), b"d" * 32)
    flow.stored_hole(0, 5, 6)
    assert flow.has(5, zero_hash(MIN_CHUNK))


HUGE = CHUNKS_PER_MESSAGE * MAX_CHUNK


@pytest.mark.parametrize("held", [[(0, CHUNKS_PER_MESSAGE)], [(7, 30_000), (40_000, 65_000)]])
def test_holes_that_are_here_already_are_not_looked_at_one_by_one(held: list[Range]) -> None:
    """They come in a few bytes, on each path again, and the reactor waits for it."""
    flow = Inflow(Manifest([Entry("huge", FILE, HUGE)]), {})
    for run in held:
        flow.stored_hole(0, *run)
    calls = [0]

    def count(_: FrameType, event: str, __: object) -> None:
        calls[0] += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        here, wanted = flow.hole(0, 0, CHUNKS_PER_MESSAGE)
    finally:
        sys.setprofile(None)
    assert here.to_list() == held
    assert wanted == list(RangeSet(held).missing(0, CHUNKS_PER_MESSAGE))
    assert calls[0] < 50 * CHUNKS_PER_MESSAGE // PAGE


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24), st.sampled_from(["hole", "data", "zeros"])), max_size=8)
)
def test_of_a_hole_that_is_told_what_is_not_zero_here_is_wanted(steps: list[tuple[int, int, str]]) -> None:
    """Zeros that came as data are those of a hole, the last chunk's, which is shorter, too."""
    flow = Inflow(Manifest([Entry("f", FILE, 23 * MIN_CHUNK + 77)]), {})
    expected = [b"" for _ in range(24)]
    for one, other, kind in steps:
        first, stop = sorted((one, other))
        if kind == "hole":
            flow.stored_hole(0, first, stop)
        for index in range(first, stop):
            expected[index] = b"d" * 32 if kind == "data" else zero_hash(flow.table.length((0, index)))
            if kind != "hole":
                flow.stored((0, index), expected[index])
    zero = [index for index in range(24) if expected[index] == zero_hash(flow.table.length((0, index)))]
    here, wanted = flow.hole(0, 0, 24)
    assert [index for run in here for index in range(*run)] == zero
    assert [index for run in wanted for index in range(*run)] == [index for index in range(24) if index not in zero]


def test_holes_do_not_make_a_transfer_larger_than_any_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SPARSE_CHUNKS", 63)
    with pytest.raises(LimitReached):
        open_world({0: [(0, 1)]})
    open_world({}).finish()


def holes_of(sends: list[Send]) -> list[Holes]:
    """The messages of what is to be sent, which are holes and nothing else."""
    messages = [send.message for send in sends]
    assert all(isinstance(message, Holes) for message in messages)
    return cast(list[Holes], messages)


def told_by(teller: HoleTeller, path: int, acked: RangeSet, files: int = 1) -> list[list[tuple[int, int, int]]]:
    """The runs in each message that the teller has for ``path`` now."""
    return [message.chunks for message in holes_of(teller.take(path, lambda: acked, files))]


def test_messages_are_bounded_and_name_what_is_missing() -> None:
    sizes = [2 * MIN_CHUNK] * 3000
    table = ChunkTable(make_manifest(sizes))
    teller = HoleTeller(1, table, {file: [(0, 1)] for file in range(3000)})
    assert teller.bytes == 3000 * MIN_CHUNK
    acked = RangeSet([(0, 1)])
    told = [run for runs in told_by(teller, 7, acked, 3000) for run in runs]
    assert all(len(runs) <= RUNS_PER_MESSAGE for runs in told_by(teller, 8, RangeSet(), 3000))
    assert told == [(file, 0, 0) for file in range(3000)] + [(file, 0, 1) for file in range(1, 3000)]
    assert teller.take(7, lambda: acked, 3000) == []
    teller.lost(7)
    assert [run for runs in told_by(teller, 8, acked, 3000) for run in runs] == told[3000:]


class Watched(RangeSet):
    """Counts how often it is gone through."""

    __slots__ = ("walks",)

    def __init__(self) -> None:
        super().__init__()
        self.walks = 0

    def __iter__(self) -> Iterator[Range]:
        self.walks += 1
        return super().__iter__()


def test_holes_are_gone_through_only_when_one_may_be_untold() -> None:
    """It is asked before every chunk, and there may be as many holes as chunks."""
    teller = HoleTeller(1, ChunkTable(make_manifest([64 * MIN_CHUNK])), {0: [(0, 5), (9, 12)]})
    acked = Watched()
    assert teller.take(7, lambda: acked, 1)
    walks = acked.walks
    assert [teller.take(7, lambda: acked, 1) for _ in range(20)] == [[]] * 20
    assert told_by(teller, 8, acked) == [[(0, 0, 0)]]
    teller.lost(8)
    assert told_by(teller, 8, acked) == [[(0, 0, 0)]]
    assert acked.walks == walks
    teller.lost(7)
    assert told_by(teller, 9, acked) == [[(0, 0, 0), (0, 0, 5), (0, 9, 12)]]
    teller.forget()
    assert told_by(teller, 9, acked) == [[(0, 0, 0), (0, 0, 5), (0, 9, 12)]]


def test_what_a_lost_path_was_told_is_told_on_another_beside_its_own() -> None:
    teller = HoleTeller(1, ChunkTable(make_manifest([64 * MIN_CHUNK])), {0: [(0, 5), (9, 12), (20, 22)]})
    acked = RangeSet([(0, 5), (20, 22)])
    assert told_by(teller, 7, acked) == [[(0, 0, 0), (0, 9, 12)]]
    assert told_by(teller, 8, acked) == [[(0, 0, 0)]]
    teller.lost(7)
    assert told_by(teller, 8, acked) == [[(0, 9, 12)]]
    assert teller.take(8, lambda: acked, 1) == []


def test_the_last_chunk_of_a_hole_may_be_shorter() -> None:
    table = ChunkTable(Manifest([Entry("a", FILE, 3 * MIN_CHUNK - 1)]))
    assert HoleTeller(1, table, {0: [(1, 3)]}).bytes == 2 * MIN_CHUNK - 1
    assert [table.hash(number) for number in (1, 2)] == [zero_hash(MIN_CHUNK), zero_hash(MIN_CHUNK - 1)]
