"""What a receiver publishes where files are left out, and what stands when it has begun to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from blake3 import blake3

from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.session.leftwire import MAX_LEFT, LeftOut
from p2pxfer.core.session.transferwire import Ack, Chunk, Final, FinalAck, Holes, Listed, Offer
from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.transfer.journal import Agreed
from p2pxfer.core.transfer.manifest import DIRECTORY, FILE, Entry, Manifest
from p2pxfer.core.transfer.receiveeffect import Publish, ReceiverEffect, Store, StoreHole
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.sendeffect import Send
from p2pxfer.errors import Damaged, ProtocolBreach

CHUNK = 64 * 1024
SIZES = [5, 2 * CHUNK, 7]
"""Chunks 0, then 1 and 2, then 3."""


def payload(file: int, index: int) -> bytes:
    return bytes([file + 1]) * min(CHUNK, SIZES[file] - index * CHUNK)


def digest(file: int, index: int) -> bytes:
    return blake3(payload(file, index)).digest()


ALL = [(0, 0), (1, 0), (1, 1), (2, 0)]


class Receiving:
    """A receiver on one path or more, to which the test says what a sender would."""

    def __init__(self, sizes: Sequence[int] = SIZES) -> None:
        self.manifest = Manifest([Entry(f"f{number:05}", FILE, size) for number, size in enumerate(sizes)])
        self.core = ReceiverCore(self.manifest.transfer_id, b"i" * 16)
        self.table = ChunkTable(self.manifest)
        for number in range(self.table.total if sizes is SIZES else 0):
            self.table.set_hash(number, digest(*self.table.address(number)))

    def offer(self, path: int = 1) -> list[ReceiverEffect]:
        files, size = len(self.manifest.sizes), self.manifest.total_bytes
        return self.core.receive(path, Offer(1, self.manifest.transfer_id, files, size, self.manifest.page(0)))

    def begin(self, have: Mapping[ChunkAddress, bytes] | None = None, **earlier: Any) -> list[ReceiverEffect]:
        self.offer()
        return self.core.accepted(have or {}, **earlier)

    def chunk(self, file: int, index: int, path: int = 1) -> list[ReceiverEffect]:
        data = memoryview(payload(file, index))
        return self.core.chunk(path, Chunk(1, file, index, digest(file, index), data))

    def take(self, *addresses: ChunkAddress) -> None:
        for address in addresses:
            (store,) = self.chunk(*address)
            assert isinstance(store, Store)
            self.core.stored(1, store.chunk)

    def leave(self, *files: int, path: int = 1) -> None:
        assert self.core.receive(path, LeftOut(1, list(files))) == []

    def final(self, left: Sequence[int], path: int = 1) -> list[ReceiverEffect]:
        return self.core.receive(path, Final(1, self.table.root(left)))

    def agreed(self, *left: int) -> Agreed:
        return Agreed(self.table.root(left), left)

    def acks(self, path: int = 1) -> list[tuple[int, int]]:
        return [
            span for send in self.core.take_acks(path) if isinstance(send.message, Ack) for span in send.message.chunks
        ]

    def confirmed(self, *left: int, path: int = 1) -> list[Send]:
        return [Send(path, FinalAck(1, self.table.root(left), list(left)))]


def test_everything_but_what_is_left_out_is_published() -> None:
    receiving = Receiving()
    receiving.begin()
    receiving.take((0, 0), (2, 0))
    receiving.leave(1)
    assert receiving.final([1]) == [Publish(receiving.agreed(1))]
    assert receiving.core.published_all() == receiving.confirmed(1)
    receiving.offer(2)
    assert receiving.core.published


def test_a_final_about_none_of_the_files_is_refused() -> None:
    receiving = Receiving()
    receiving.begin()
    receiving.leave(0, 1, 2)
    with pytest.raises(ProtocolBreach, match="none of"):
        receiving.final([0, 1, 2])
    assert not receiving.core.published
    folder = Manifest([Entry("d", DIRECTORY)])
    core, root = ReceiverCore(folder.transfer_id, b"i" * 16), ChunkTable(folder).root()
    core.receive(1, Offer(1, folder.transfer_id, 0, 0, folder.page(0)))
    core.accepted({})
    assert core.receive(1, Final(1, root)) == [Publish(Agreed(root))]


def test_what_comes_of_it_is_taken_and_counts_for_another_final() -> None:
    """The next run of the sender can read the file: nothing has to be taken back."""
    receiving = Receiving()
    receiving.begin()
    receiving.leave(1)
    receiving.take((1, 0), (0, 0), (2, 0))
    receiving.core.close_path(1)
    receiving.offer(2)
    (store,) = receiving.chunk(1, 1, path=2)
    assert isinstance(store, Store)
    receiving.core.stored(2, store.chunk)
    assert receiving.final([], path=2) == [Publish(receiving.agreed())]


def test_a_final_is_about_what_was_left_out_on_its_own_path() -> None:
    receiving = Receiving()
    receiving.begin()
    receiving.offer(2)
    receiving.take((0, 0), (2, 0))
    receiving.leave(1)
    with pytest.raises(ProtocolBreach):
        receiving.final([1], path=2)
    assert receiving.final([1]) == [Publish(receiving.agreed(1))]


def test_a_chunk_of_it_that_is_being_stored_holds_nothing_up() -> None:
    receiving = Receiving()
    receiving.begin()
    receiving.take((0, 0), (2, 0))
    (store,) = receiving.chunk(1, 0)
    assert isinstance(store, Store)
    receiving.leave(1)
    assert receiving.final([1]) == [Publish(receiving.agreed(1))]
    receiving.core.stored(1, store.chunk)
    assert receiving.acks() == [(0, 2), (3, 4)]
    assert receiving.core.published_all() == receiving.confirmed(1)


def test_one_that_is_not_left_out_and_being_stored_does() -> None:
    receiving = Receiving()
    receiving.begin()
    receiving.take((0, 0))
    receiving.chunk(2, 0)
    receiving.leave(1)
    with pytest.raises(ProtocolBreach):
        receiving.final([1])


def test_the_root_says_what_is_left_out() -> None:
    receiving = Receiving()
    receiving.begin()
    receiving.take(*ALL)
    receiving.leave(1)
    with pytest.raises(Damaged):
        receiving.final([])


@pytest.mark.parametrize("files", [[3], [1, 1], [2, 1]])
def test_what_is_no_file_cannot_be_left_out(files: list[int]) -> None:
    receiving = Receiving()
    receiving.begin()
    with pytest.raises(ProtocolBreach):
        receiving.core.receive(1, LeftOut(1, files))


def test_no_more_are_left_out_than_may_be_named() -> None:
    receiving = Receiving([5] * (MAX_LEFT + 2))
    receiving.begin()
    receiving.leave(*range(MAX_LEFT))
    receiving.leave(3, 7)  # again
    with pytest.raises(ProtocolBreach):
        receiving.core.receive(1, LeftOut(1, [MAX_LEFT]))


def test_before_the_first_answer_nothing_is_left_out() -> None:
    receiving = Receiving()
    receiving.offer()
    with pytest.raises(ProtocolBreach):
        receiving.core.receive(1, LeftOut(1, [1]))


# -- what stands -------------------------------------------------------------------------------------------------


def hashes(*addresses: ChunkAddress) -> dict[ChunkAddress, bytes]:
    return {address: digest(*address) for address in addresses}


def test_a_short_list_that_was_published_is_confirmed_with_what_is_left_out() -> None:
    receiving = Receiving()
    receiving.offer()
    assert receiving.core.already_published(receiving.agreed(1)) == receiving.confirmed(1)
    assert receiving.offer(2)[1:] == receiving.confirmed(1, path=2)


@pytest.mark.parametrize("left", [[], [1], [0, 1], [2]])
def test_what_was_published_stands_whatever_is_left_out_now(left: list[int]) -> None:
    """As with a list of several pages, where the sender hears of it when it is done."""
    receiving = Receiving()
    receiving.begin(hashes((0, 0), (2, 0)), published=True, agreed=receiving.agreed(1))
    for index in range(2):
        assert receiving.chunk(1, index) == []
    holes = receiving.core.receive(1, Holes(1, [(1, 0, 0), (1, 0, 2)]))
    assert holes == []
    assert receiving.acks() == [(1, 3)]
    receiving.leave(*left)
    assert receiving.final(left) == [Publish(receiving.agreed(1))]
    assert receiving.core.published_all() == receiving.confirmed(1)


@pytest.mark.parametrize("left", [[], [1], [0, 1], [2]])
def test_what_was_begun_is_carried_to_its_end(left: list[int]) -> None:
    receiving = Receiving()
    receiving.begin(hashes((0, 0)), begun=True, agreed=receiving.agreed(1))
    assert receiving.chunk(1, 0) == []
    assert receiving.core.receive(1, Holes(1, [(1, 1, 2)])) == []
    assert receiving.acks() == [(1, 3)]
    receiving.take((2, 0))  # somebody has removed it before it had its name
    receiving.leave(*left)
    assert receiving.final(left) == [Publish(receiving.agreed(1))]


def test_what_cannot_be_carried_to_its_end_is_begun_anew() -> None:
    receiving = Receiving()
    receiving.begin(hashes((0, 0)), begun=True, agreed=receiving.agreed(1))
    receiving.leave(1, 2)
    with pytest.raises(ProtocolBreach):
        receiving.final([1, 2])
    assert receiving.core.outdated


def test_holes_are_stored_as_before_where_nothing_stands() -> None:
    receiving = Receiving()
    effects = receiving.begin()
    assert any(isinstance(each, Send) and isinstance(each.message, Listed) for each in effects)
    assert receiving.core.receive(1, Holes(1, [(1, 0, 0), (1, 0, 1)])) == [
        StoreHole(1, 1, 0, 0),
        StoreHole(1, 1, 0, 1),
    ]


@pytest.mark.parametrize("changed", [False, True])
def test_what_comes_a_second_time_does_not_hold_up_the_end(changed: bool) -> None:
    """By another path, and it is still being written; if other bytes came with it the end is refused."""
    receiving = Receiving([5, 5, 5])
    receiving.begin()
    receiving.offer(path=2)
    data = bytes(5)
    digest = blake3(data).digest()
    stores = [receiving.core.chunk(1, Chunk(1, file, 0, digest, memoryview(data))) for file in range(3)]
    late = Bundle(1, 1, digest * 2, memoryview(data * 2))
    other = Chunk(1, 2, 0, blake3(b"other").digest(), memoryview(b"other"))
    assert [type(effect) for effect in receiving.core.chunk(2, other if changed else late)] == [Store]
    for (store,) in stores[:1] + stores[2:] + stores[1:2]:
        assert isinstance(store, Store)
        receiving.core.stored(1, store.chunk)
        if store.chunk.file == 2 and not changed:
            assert receiving.core.chunk(2, late)  # the first of the two is not here yet
    for number in range(3):
        receiving.table.set_hash(number, digest)
    if changed:
        with pytest.raises(ProtocolBreach):
            receiving.final([])
    else:
        assert receiving.final([]) == [Publish(receiving.agreed())]
