"""Sender and receiver joined in memory: whatever happens to the paths, the chunks arrive and the roots agree."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.session.transferwire import Accept, Ack, Chunk, Final, FinalAck, Have, Listed, Offer
from p2pxfer.core.transfer.geometry import claim_digest
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.receiveeffect import Store
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.sendeffect import HashChunks, Send
from p2pxfer.errors import ChunkRefused, Damaged, ManifestRefused, ProtocolBreach, Refused
from tests.core.bundles import packed
from tests.core.transferworld import KIB, World, content, make_manifest, make_world


def total_chunks(world: World) -> int:
    return len(world.disk)


def test_one_path_moves_everything_once() -> None:
    world = make_world([0, 1, 64 * KIB, 64 * KIB + 1, 300 * KIB], 1)
    world.add_path()
    world.finish()
    assert world.published == 1
    assert world.sent_chunks == total_chunks(world) == 0 + 1 + 1 + 2 + 5


def test_small_files_that_follow_one_another_travel_together() -> None:
    world = make_world([100] * 40, 1)
    world.add_path()
    world.finish()
    assert world.sent_chunks == total_chunks(world) == 40
    assert world.sent_bundles >= 5


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.lists(st.integers(min_value=0, max_value=700 * KIB), min_size=1, max_size=5),
        st.lists(st.sampled_from([0, 1, 100, 64 * KIB, 64 * KIB + 1]), min_size=5, max_size=30),
    ),
    st.integers(min_value=0, max_value=2**32),
    st.lists(st.sampled_from(["path", "cut", "kill sender", "kill receiver", "lose cache"]), max_size=8),
)
def test_cuts_and_kills_never_lose_or_damage_anything(sizes: list[int], seed: int, faults: list[str]) -> None:
    """Cut paths, killed processes and a lost hash record in any order: whole at the end, published exactly once."""
    world = make_world(sizes, seed)
    world.go_through(faults)
    world.finish()
    assert world.published == 1
    assert set(world.disk) == {
        (number, index)
        for number, entry in enumerate(world.manifest.files)
        for index in range(-(-entry.size // (64 * KIB)))
    }


def test_a_resumed_transfer_sends_only_what_is_missing() -> None:
    world = make_world([640 * KIB], 3)
    world.add_path()
    while len(world.disk) < 6:
        world.step()
    held = len(world.disk)
    world.cut(world.numbers)
    world.start_sender()
    world.start_receiver()
    world.sent_chunks = 0
    world.finish()
    assert world.resumed[-1] == held * 64 * KIB
    assert world.sent_chunks == 10 - held


def test_a_claim_that_does_not_match_is_sent_again() -> None:
    """The receiver holds a chunk whose hash is not that of the sender's file."""
    world = make_world([128 * KIB], 4)
    world.disk[0, 0] = b"\x00" * 32
    world.cached[0, 0] = blake3(content(world.manifest, (0, 0))).digest()
    world.start_sender()
    world.add_path()
    world.finish()
    assert world.sent_chunks == 2
    assert world.disk[0, 0] == world.cached[0, 0]


def test_a_claim_that_two_paths_make_is_refuted_once() -> None:
    """The sender has to hash before it can judge; by then both paths have listed the same wrong claim."""
    world = make_world([64 * KIB, 64 * KIB], 15)
    wrong = Listed(handle=1, page=0, have=[Have(ranges=[(0, 1)], digest=b"x" * 32)])
    for path in (world.add_path(), world.add_path()):
        world.sender.receive(path, Accept(handle=1, instance=b"i" * 16))
        assert isinstance(world.sender.receive(path, wrong)[-1], HashChunks)
    for number in (0, 1):
        world.sender.chunk_read((number, 0), blake3(content(world.manifest, (number, 0))).digest())
    assert world.sender.hashed() == []
    assert world.sender.acked_bytes == 0
    assert sorted(iter(world.sender.next_chunk, None)) == [(0, 0), (1, 0)]


def test_a_lost_final_ack_is_given_again_to_the_next_sender() -> None:
    world = make_world([100 * KIB], 5)
    path = world.add_path()
    while not world.published:
        world.step()
    world.cut(path)
    assert world.root is None
    world.start_sender()
    world.sent_chunks = 0
    world.finish()
    assert world.published == 1
    assert world.sent_chunks == 0


def offered(world: World) -> int:
    path = world.add_path()
    while not world.sender.is_open(path):
        world.deliver(path, True)
        world.deliver(path, False)
    return path


def test_a_wrong_root_from_the_receiver_is_not_success() -> None:
    world = make_world([1], 6)
    path = offered(world)
    while not any(isinstance(item, Final) for item in world.wires[path][0]):
        world.send_chunk(path)
        world.deliver(path, True)
        world.deliver(path, False)
    with pytest.raises(Damaged):
        world.sender.receive(path, FinalAck(handle=1, root=b"x" * 32))


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(1, 5, 0, b"h" * 32, memoryview(b"x")),
        Chunk(1, 0, 9, b"h" * 32, memoryview(b"x")),
        Chunk(1, 0, 0, b"h" * 32, memoryview(b"x" * 7)),
        Chunk(1, 0, 0, b"h" * 32, memoryview(b"x" * (65 * KIB))),
    ],
    ids=["M23 unknown file", "M24 index = count", "M25 too short", "M26 too long"],
)
def test_chunks_outside_the_transfer_are_refused(chunk: Chunk) -> None:
    world = make_world([10], 7)
    path = offered(world)
    with pytest.raises(ChunkRefused):
        world.receiver.chunk(path, chunk)


@pytest.mark.parametrize(
    "bundle",
    [
        Bundle(1, 0, b"h" * 64, memoryview(b"x" * 19)),
        Bundle(1, 0, b"h" * 64, memoryview(b"x" * 21)),
        Bundle(1, 1, b"h" * 64, memoryview(b"x" * 10)),
        Bundle(1, 2, b"h" * 64, memoryview(b"x" * 20)),
        Bundle(1, 3, b"h" * 64, memoryview(b"x" * (65 * KIB + 10))),
        Bundle(1, 4, b"h" * 64, memoryview(b"x" * 20)),
        Bundle(1, 2**32 - 1, b"h" * 64, memoryview(b"x" * 20)),
    ],
    ids=["too short", "too long", "an empty file", "begins with it", "of two chunks", "behind the end", "far behind"],
)
def test_bundles_that_do_not_fit_the_list_are_refused(bundle: Bundle) -> None:
    world = make_world([10, 10, 0, 65 * KIB, 10], 7)
    path = offered(world)
    with pytest.raises(ChunkRefused):
        world.receiver.chunk(path, bundle)
    assert world.receiver.have_bytes == 0


def test_a_bundle_of_what_is_here_is_acknowledged_and_not_stored() -> None:
    world = make_world([10, 20, 30], 7)
    path = offered(world)
    (bundle,) = packed([(0, 0), (1, 0), (2, 0)], world.manifest.sizes, world.content)
    for times in range(2):
        assert world.receiver.chunk(path, bundle) == ([] if times else [Store(path, bundle)])
        if not times:
            world.receiver.stored(path, bundle)
        assert world.receiver.take_acks(path) == [Send(path, Ack(1, [(0, 3)]))]
    assert world.receiver.have_bytes == 60


def test_a_bundle_that_fails_its_hashes_is_fetched_again_and_counts_once() -> None:
    world = make_world([10, 20, 30], 7)
    path = offered(world)
    (bundle,) = packed([(0, 0), (1, 0), (2, 0)], world.manifest.sizes, world.content)
    for _ in range(2):
        assert world.receiver.chunk(path, bundle) == [Store(path, bundle)]
        with pytest.raises(ChunkRefused):
            world.receiver.damaged(bundle)
    assert world.receiver.take_acks(path) == []
    with pytest.raises(Damaged):
        world.receiver.damaged(bundle)


def test_m22_a_chunk_before_accept_is_refused() -> None:
    receiver = ReceiverCore(b"t" * 32, b"i" * 16)
    with pytest.raises(ProtocolBreach):
        receiver.chunk(1, Chunk(1, 0, 0, b"h" * 32, memoryview(b"x")))


def test_m32_final_before_every_chunk_is_refused() -> None:
    world = make_world([10], 8)
    path = offered(world)
    with pytest.raises(ProtocolBreach):
        world.receiver.receive(path, Final(handle=1, root=b"r" * 32))


def test_m33_a_wrong_root_from_the_sender_publishes_nothing() -> None:
    world = make_world([10], 9)
    path = offered(world)
    world.send_chunk(path)
    world.deliver(path, True)
    with pytest.raises(Damaged):
        world.receiver.receive(path, Final(handle=1, root=b"r" * 32))
    assert world.published == 0


def first_offer(manifest: Manifest, transfer: bytes, page: bytes | None = None) -> Offer:
    return Offer(handle=1, transfer=transfer, files=1, size=10, page=manifest.page(0) if page is None else page)


def test_m21_a_manifest_that_was_not_offered_is_refused() -> None:
    with pytest.raises(ManifestRefused):
        ReceiverCore(b"t" * 32, b"i" * 16).receive(1, first_offer(make_manifest([10]), b"t" * 32))


@pytest.mark.parametrize("page", [b"", b"P2PXMAN\x02", b"P2PXMAN\x02 and nonsense"])
def test_an_offer_without_a_page_is_refused(page: bytes) -> None:
    manifest = make_manifest([10])
    with pytest.raises(ManifestRefused):
        ReceiverCore(manifest.transfer_id, b"i" * 16).receive(1, first_offer(manifest, manifest.transfer_id, page))


def accepted(world: World) -> int:
    """A path on which the first page waits for its answer."""
    path = world.add_path()
    world.sender.receive(path, Accept(handle=1, instance=b"i" * 16))
    return path


@pytest.mark.parametrize(
    "have",
    [
        Have(ranges=[(7, 8)], digest=b"d" * 32),
        Have(ranges=[(0, 2)], digest=b"d" * 32),
        Have(ranges=[(1, 1)], digest=b"d" * 32),
        Have(ranges=[(0, 1), (0, 1)], digest=b"d" * 32),
    ],
    ids=["M36 other file", "M35 longer than the file", "empty range", "twice"],
)
def test_claims_outside_the_page_are_refused(have: Have) -> None:
    world = make_world([10], 10)
    path = accepted(world)
    with pytest.raises(ChunkRefused):
        world.sender.receive(path, Listed(handle=1, page=0, have=[have]))


@pytest.mark.parametrize(
    "second",
    [
        Have(ranges=[(4, 5)], digest=b"d" * 32),
        Have(ranges=[(3, 4)], digest=b"d" * 32),
        Have(ranges=[(1, 2)], digest=b"d" * 32),
        Have(ranges=[], digest=b"d" * 32),
    ],
    ids=["again", "earlier chunk", "earlier file", "nothing"],
)
def test_claims_ascend_over_all_messages(second: Have) -> None:
    """So a list that never ends cannot keep the sender busy."""
    world = make_world([130 * KIB, 400 * KIB], 10)
    path = accepted(world)
    first = Have(ranges=[(4, 5)], digest=b"d" * 32)
    world.sender.receive(path, Listed(handle=1, page=0, have=[first], last=False))
    with pytest.raises(ChunkRefused):
        world.sender.receive(path, Listed(handle=1, page=0, have=[second], last=False))


def test_claims_may_come_in_any_number_of_messages() -> None:
    world = make_world([400 * KIB], 10)
    path = accepted(world)
    hashes = [blake3(content(world.manifest, (0, index))).digest() for index in range(7)]
    for index in range(7):
        have = Have(ranges=[(index, index + 1)], digest=claim_digest([hashes[index]]))
        assert not world.sender.is_open(path)
        world.sender.receive(path, Listed(handle=1, page=0, have=[have], last=index == 6))
    assert world.sender.is_open(path)


def test_one_message_acknowledges_no_more_than_there_is() -> None:
    world = make_world([400 * KIB], 11)
    path = offered(world)
    world.sender.receive(path, Ack(handle=1, chunks=[(0, 4), (2, 5)]))
    with pytest.raises(ProtocolBreach):
        world.sender.receive(path, Ack(handle=1, chunks=[(0, 4), (0, 4)]))
    world.sender.receive(path, Ack(handle=1, chunks=[(0, 6)]))


def test_acknowledgements_outside_the_transfer_are_refused() -> None:
    world = make_world([10], 11)
    path = offered(world)
    with pytest.raises(ChunkRefused):
        world.sender.receive(path, Ack(handle=1, chunks=[(0, 2)]))


def test_a_refusal_reaches_the_sender_as_a_refusal() -> None:
    world = make_world([10], 12)
    path = world.add_path()
    world.wires[path][0].clear()
    world.receiver.receive(path, first_offer(world.manifest, world.manifest.transfer_id))
    (send,) = world.receiver.refused(Refused("no"))
    assert isinstance(send, Send)
    with pytest.raises(Refused):
        world.sender.receive(path, send.message)


def test_a_late_acknowledgement_of_a_receiver_that_died_does_not_count() -> None:
    """Its path is still up here when the next process has accepted on another one; what it had is lost."""
    world = make_world([128 * KIB], 17)
    old = offered(world)
    for _ in range(2):
        world.send_chunk(old)
        world.deliver(old, True)
    assert any(isinstance(item, Ack) for item in world.wires[old][1])
    world.disk.clear()
    world.start_receiver()
    new = offered(world)
    while world.wires[old][1]:
        world.deliver(old, False)
    assert world.sender.acked_bytes == 0
    assert not world.sender.is_open(old)
    world.sender.close_path(old)
    del world.wires[old]
    while world.root is None:
        world.send_chunk(new)
        world.deliver(new, True)
        world.deliver(new, False)
    assert world.published == 1


def test_a_late_accept_of_a_receiver_that_died_does_not_count() -> None:
    world = make_world([128 * KIB], 18)
    old = world.add_path()
    world.deliver(old, True)
    world.start_receiver()
    new = offered(world)
    while world.wires[old][1]:
        world.deliver(old, False)
    assert world.sender.is_open(new)
    assert not world.sender.is_open(old)
