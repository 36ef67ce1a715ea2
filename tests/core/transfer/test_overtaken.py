"""A sender that was killed, and the next one with other bytes: what of the first comes late does no harm."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from blake3 import blake3

from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.session.deltawire import Lack
from p2pxfer.core.session.restwire import Part, Rest
from p2pxfer.core.session.transferwire import Ack, Chunk, Final, Have, Holes, Listed, Offer
from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.transfer.geometry import claim_digest, zero_hash
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.parts import Begun
from p2pxfer.core.transfer.receiveeffect import Publish, ReceiverEffect, Store, StoreHole
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.receivestate import OVERTAKEN
from p2pxfer.core.transfer.sendeffect import Send
from p2pxfer.errors import Damaged, ProtocolBreach

CHUNK = 64 * 1024
SIZES = [2 * CHUNK, 10, 10]
"""Chunks 0 and 1, then 2, then 3."""
OLD, NEW = b"o" * 16, b"n" * 16
"""Two attempts to send, and what the files of each consist of."""


def payload(address: ChunkAddress, instance: bytes) -> bytes:
    return instance[:1] * min(CHUNK, SIZES[address[0]])


def digest(address: ChunkAddress, instance: bytes) -> bytes:
    return blake3(payload(address, instance)).digest()


def chunk(address: ChunkAddress, instance: bytes) -> Chunk:
    return Chunk(1, *address, digest(address, instance), memoryview(payload(address, instance)))


def bundle(instance: bytes) -> Bundle:
    hashes = digest((1, 0), instance) + digest((2, 0), instance)
    return Bundle(1, 1, hashes, memoryview(payload((1, 0), instance) + payload((2, 0), instance)))


ALL: list[ChunkAddress] = [(0, 0), (0, 1), (1, 0), (2, 0)]


class Receiving:
    """A receiver to which the test says what two senders would."""

    def __init__(self, have: Mapping[ChunkAddress, bytes] | None = None, least_part: int = CHUNK) -> None:
        self.manifest = Manifest([Entry(f"f{number}", FILE, size) for number, size in enumerate(SIZES)])
        self.core = ReceiverCore(self.manifest.transfer_id, b"i" * 16, least=least_part)
        self.offer(1, OLD)
        self.core.accepted(have or {})

    def offer(self, path: int, instance: bytes) -> list[Have]:
        """What the receiver claims on the path."""
        size = self.manifest.total_bytes
        offer = Offer(1, self.manifest.transfer_id, len(SIZES), size, self.manifest.page(0), instance=instance)
        sent = [each.message for each in self.core.receive(path, offer) if isinstance(each, Send)]
        return [have for message in sent if isinstance(message, Listed) for have in message.have]

    def take(self, path: int, instance: bytes, *addresses: ChunkAddress) -> None:
        for address in addresses:
            self.stored(path, *self.core.chunk(path, chunk(address, instance)))

    def stored(self, path: int, *effects: ReceiverEffect) -> None:
        for effect in effects:
            assert isinstance(effect, Store)
            self.core.stored(path, effect.chunk)

    def acknowledged(self, path: int) -> list[tuple[int, int]]:
        sent = [each.message for each in self.core.take_acks(path)]
        return [span for message in sent if isinstance(message, Ack) for span in message.chunks]

    def final(self, path: int, instance: bytes) -> list[ReceiverEffect]:
        table = ChunkTable(self.manifest)
        for address in ALL:
            table.set_hash(table.number(address), digest(address, instance))
        return self.core.receive(path, Final(handle=1, root=table.root()))


def claim(*addresses: ChunkAddress, instance: bytes) -> bytes:
    return claim_digest([digest(address, instance) for address in addresses])


def test_late_bytes_replace_nothing_that_the_next_sender_was_told_of_or_brought() -> None:
    """Without this rule they end the transfer as damaged, and the user has to begin it again."""
    world = Receiving({(0, 0): digest((0, 0), NEW)})
    (have,) = world.offer(2, NEW)
    assert have.digest == claim((0, 0), instance=NEW)
    world.take(2, NEW, (0, 1))
    for address in ((0, 0), (0, 1)):
        with pytest.raises(ProtocolBreach, match=OVERTAKEN):
            world.core.chunk(1, chunk(address, OLD))
    world.core.close_path(1)
    world.take(2, NEW, (1, 0), (2, 0))
    assert any(isinstance(effect, Publish) for effect in world.final(2, NEW))


def test_a_late_bundle_replaces_nothing_either() -> None:
    world = Receiving()
    world.offer(2, NEW)
    world.take(2, NEW, (2, 0))
    with pytest.raises(ProtocolBreach, match=OVERTAKEN):
        world.core.chunk(1, bundle(OLD))


def test_a_late_rest_makes_no_chunk_of_other_bytes() -> None:
    world = Receiving()
    world.offer(2, NEW)
    world.take(2, NEW, (0, 0))
    late = Rest(1, 0, 0, digest((0, 0), OLD), 10, memoryview(payload((0, 0), OLD)[10:]))
    with pytest.raises(ProtocolBreach, match=OVERTAKEN):
        world.core.chunk(1, late)


def test_late_bytes_replace_nothing_that_is_being_stored() -> None:
    world = Receiving()
    world.offer(2, NEW)
    (store,) = world.core.chunk(2, chunk((0, 0), NEW))
    with pytest.raises(ProtocolBreach, match=OVERTAKEN):
        world.core.chunk(1, chunk((0, 0), OLD))
    world.stored(2, store)


def test_what_is_being_stored_when_the_next_sender_comes_is_not_claimed() -> None:
    """It was welcome when it came; the next sender would agree with a claim to what it is written over."""
    world = Receiving({(0, 0): digest((0, 0), NEW), (0, 1): digest((0, 1), NEW)})
    effects = world.core.chunk(1, chunk((0, 0), OLD))
    (have,) = world.offer(2, NEW)
    assert have.ranges == [(1, 2)]
    again = world.core.chunk(2, chunk((0, 0), NEW))
    assert len(again) == 1
    assert world.acknowledged(2) == []
    world.stored(1, *effects)
    world.stored(2, *again)
    assert world.acknowledged(2) == [(0, 1)]
    world.take(2, NEW, (1, 0), (2, 0))
    assert any(isinstance(effect, Publish) for effect in world.final(2, NEW))


def test_a_bundle_of_what_is_being_written_over_is_stored_again() -> None:
    world = Receiving({address: digest(address, NEW) for address in ALL})
    effects = world.core.chunk(1, bundle(OLD))
    assert [have.ranges for have in world.offer(2, NEW)] == [[(0, 2)]]
    again = world.core.chunk(2, bundle(NEW))
    world.stored(1, *effects)
    world.stored(2, *again)
    assert any(isinstance(effect, Publish) for effect in world.final(2, NEW))


def test_a_rest_of_what_is_being_written_over_is_not_acknowledged() -> None:
    """Its sender was told of the part before the chunk came whole, and is the one that counts again."""
    world = Receiving(least_part=1)
    world.offer(2, OLD)
    cut = Begun(1, 0, 0, digest((0, 0), OLD), 0, memoryview(payload((0, 0), OLD)), 10)
    told = world.core.parts.came(1, cut)
    assert [(send.path, send.message) for send in told] == [(2, Part(1, 0, 0, cut.hash, 10))]
    world.take(1, OLD, (0, 0))
    world.offer(3, NEW)
    effects = world.core.chunk(3, chunk((0, 0), NEW))
    world.offer(4, OLD)
    rest = Rest(1, 0, 0, cut.hash, 10, cut.memory[10:])
    assert world.core.chunk(2, rest) == [Send(2, Lack(1, [(0, 0, 1)]))]
    world.stored(3, *effects)
    assert world.acknowledged(2) == []
    world.take(2, OLD, *ALL)
    assert any(isinstance(effect, Publish) for effect in world.final(2, OLD))


def test_a_hole_that_is_being_stored_is_neither_claimed_nor_what_it_is_written_over() -> None:
    world = Receiving({address: digest(address, NEW) for address in ALL})
    (hole,) = world.core.receive(1, Holes(1, [(0, 0, 1)]))
    assert [have.ranges for have in world.offer(2, NEW)] == [[(1, 4)]]
    again = world.core.chunk(2, chunk((0, 0), NEW))
    assert isinstance(hole, StoreHole)
    world.core.stored_hole(1, hole.file, hole.first, hole.stop)
    world.stored(2, *again)
    assert any(isinstance(effect, Publish) for effect in world.final(2, NEW))


def test_zeros_that_are_being_written_over_are_stored_again_where_they_are_a_hole() -> None:
    world = Receiving({(0, 0): zero_hash(CHUNK)})
    effects = world.core.chunk(1, chunk((0, 0), OLD))
    assert world.offer(2, NEW) == []
    (hole,) = world.core.receive(2, Holes(1, [(0, 0, 1)]))
    assert hole == StoreHole(2, 0, 0, 1)
    world.stored(1, *effects)
    assert world.acknowledged(2) == []
    world.core.stored_hole(2, 0, 0, 1)
    assert world.acknowledged(2) == [(0, 1)]


def test_late_holes_and_a_late_final_end_their_path_and_nothing_else() -> None:
    world = Receiving()
    world.take(1, OLD, *ALL)
    world.offer(2, NEW)
    with pytest.raises(ProtocolBreach, match=OVERTAKEN):
        world.core.receive(1, Holes(1, [(0, 0, 1)]))
    with pytest.raises(ProtocolBreach, match=OVERTAKEN):
        world.final(1, OLD)
    world.take(2, NEW, *ALL)
    assert any(isinstance(effect, Publish) for effect in world.final(2, NEW))


def test_what_is_lacking_is_welcome_from_both_and_so_is_the_same() -> None:
    """As where one user sends the same files twice at once."""
    world = Receiving()
    world.offer(2, NEW)
    world.take(1, OLD, (0, 0))
    assert world.acknowledged(1) == [(0, 1)]
    assert world.core.chunk(1, chunk((0, 0), OLD)) == []
    assert world.acknowledged(1) == [(0, 1)]


def test_an_offer_that_comes_late_on_an_older_path_takes_nothing_over() -> None:
    world = Receiving()
    world.offer(3, NEW)
    world.take(3, NEW, (0, 0))
    world.offer(2, OLD)
    with pytest.raises(ProtocolBreach, match=OVERTAKEN):
        world.core.chunk(2, chunk((0, 0), OLD))


def test_every_path_of_the_sender_of_now_may_replace() -> None:
    """Also an older path than the one that is newest."""
    world = Receiving({(0, 0): digest((0, 0), OLD)})
    world.offer(2, NEW)
    world.offer(3, NEW)
    world.take(2, NEW, (0, 0))
    assert world.acknowledged(2) == [(0, 1)]


def test_a_sender_that_says_of_itself_that_it_is_damaged_still_is() -> None:
    world = Receiving()
    world.offer(2, NEW)
    world.take(2, NEW, *ALL)
    with pytest.raises(Damaged):
        world.final(2, OLD)
