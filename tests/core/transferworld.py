"""The two cores of a transfer joined in memory, by paths that come, carry in order and are cut."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from p2pxfer.core.codec import Message
from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.geometry import chunk_span
from p2pxfer.core.transfer.manifest import DIRECTORY, FILE, Entry, Manifest
from p2pxfer.core.transfer.ranges import Range
from p2pxfer.core.transfer.receiveeffect import Decide, Publish, ReceiverEffect, Store, StoreHole
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.sendeffect import AcceptedByPeer, Finished, HashChunks, Send, SenderEffect
from p2pxfer.core.transfer.sender import SenderCore
from tests.core.bundles import packed, unpacked

KIB = 1024


def make_manifest(sizes: list[int]) -> Manifest:
    entries = [Entry("d", DIRECTORY, 0, 0, False)]
    entries += [Entry(f"d/f{number:03}", FILE, size, number, False) for number, size in enumerate(sizes)]
    return Manifest(entries)


def content(manifest: Manifest, address: ChunkAddress) -> bytes:
    """What a chunk holds: its own address, repeated."""
    length = chunk_span(manifest.files[address[0]].size, address[1])[1]
    return (f"{address}".encode() * (length // 4 + 1))[:length]


@dataclass
class World:
    """A sender and a receiver, joined by paths that deliver in order until they are cut."""

    manifest: Manifest
    rng: random.Random
    cached: dict[ChunkAddress, bytes] = field(default_factory=dict)
    disk: dict[ChunkAddress, bytes] = field(default_factory=dict)
    wires: dict[int, tuple[list[Message | Chunk | Bundle], list[Message]]] = field(default_factory=dict)
    root: bytes | None = None
    published: int = 0
    sent_chunks: int = 0
    sent_bundles: int = 0
    numbers: int = 0
    senders: int = 0
    resumed: list[int] = field(default_factory=list)
    holes: dict[int, list[Range]] = field(default_factory=dict)
    hole_chunks_sent: int = 0
    lied: bool = False

    def start_sender(self) -> None:
        self.senders += 1
        instance = self.senders.to_bytes(16, "big")
        self.sender = SenderCore(1, self.manifest, self.cached, self.holes, instance=instance)

    def start_receiver(self) -> None:
        self.receiver = ReceiverCore(self.manifest.transfer_id, self.rng.randbytes(16))

    def add_path(self) -> int:
        self.numbers += 1
        self.wires[self.numbers] = ([], [])
        self.do_sender(self.sender.open_path(self.numbers))
        return self.numbers

    def cut(self, path: int) -> None:
        del self.wires[path]
        self.do_sender(self.sender.close_path(path))
        self.receiver.close_path(path)

    def do_sender(self, effects: Sequence[SenderEffect]) -> None:
        for effect in effects:
            match effect:
                case Send(path, message):
                    if path in self.wires:
                        self.wires[path][0].append(message)
                case HashChunks(addresses):
                    for address in addresses:
                        self.sender.chunk_read(address, blake3(self.content(address)).digest())
                    self.do_sender(self.sender.hashed())
                case AcceptedByPeer(have):
                    self.resumed.append(have)
                case Finished(root):
                    self.root = root

    def do_receiver(self, effects: Sequence[ReceiverEffect]) -> None:
        for effect in effects:
            match effect:
                case Send(path, message):
                    if path in self.wires:
                        self.wires[path][1].append(message)
                case Decide():
                    self.do_receiver(self.receiver.accepted(dict(self.disk)))
                case Store(path, chunk):
                    for each in unpacked(chunk, self.manifest.sizes):
                        address = (each.file, each.index)
                        assert blake3(each.payload).digest() == each.hash
                        assert bytes(each.payload) == self.content(address)
                        self.disk[address] = each.hash
                    self.receiver.stored(path, chunk)
                case StoreHole(path, file, first, stop):
                    for index in range(first, stop):
                        assert self.is_hole((file, index))
                        self.disk[file, index] = blake3(self.content((file, index))).digest()
                    self.receiver.stored_hole(path, file, first, stop)
                case Publish():
                    self.published += 1
                    self.do_receiver(self.receiver.published_all())

    def is_hole(self, address: ChunkAddress) -> bool:
        return any(first <= address[1] < stop for first, stop in self.holes.get(address[0], []))

    def content(self, address: ChunkAddress) -> bytes:
        data = content(self.manifest, address)
        return bytes(len(data)) if self.is_hole(address) else data

    def send_chunk(self, path: int) -> None:
        if not self.sender.is_open(path):
            return
        self.wires[path][0].extend(send.message for send in self.sender.take_holes(path))
        taken = (self.sender.next_chunk() for _ in range(self.rng.randint(1, 4)))
        addresses = [address for address in taken if address is not None]
        self.hole_chunks_sent += sum(map(self.is_hole, addresses))
        for chunk in packed(addresses, self.manifest.sizes, self.content):
            for each in unpacked(chunk, self.manifest.sizes):
                self.cached[each.file, each.index] = each.hash
            match chunk:
                case Bundle():
                    first, hashes = (chunk.file, 0), chunk.hashes
                    self.sent_bundles += 1
                case Chunk():
                    first, hashes = (chunk.file, chunk.index), chunk.hash
            count = len(hashes) // 32
            self.sender.chunk_read(first, hashes)
            assert self.sender.may_go(first, path, count)
            self.sender.chunk_sent(first, path, count)
            self.sent_chunks += count
            self.wires[path][0].append(chunk)

    def deliver(self, path: int, to_receiver: bool) -> None:
        ahead, back = self.wires[path]
        if to_receiver and ahead:
            item = ahead.pop(0)
            if isinstance(item, (Chunk, Bundle)):
                self.do_receiver(self.receiver.chunk(path, item))
            else:
                self.do_receiver(self.receiver.receive(path, item))
            self.do_receiver(list(self.receiver.take_acks(path)))
        elif back and not to_receiver:
            self.do_sender(self.sender.receive(path, back.pop(0)))

    def step(self) -> None:
        path = self.rng.choice(list(self.wires))
        match self.rng.randrange(3):
            case 0:
                self.send_chunk(path)
            case 1:
                self.deliver(path, True)
            case _:
                self.deliver(path, False)

    def go_through(self, faults: Sequence[str]) -> None:
        """Some steps before each of these faults, as long as nothing is published."""
        for fault in faults:
            if not self.wires:
                self.add_path()
            for _ in range(self.rng.randrange(40)):
                if self.root is None:
                    self.step()
            if self.published:
                return
            self.suffer(fault)

    def suffer(self, fault: str) -> None:
        """Another path comes, one is cut, or all are, as a process is killed; perhaps it has lost what it knew too."""
        match fault:
            case "path":
                self.add_path()
                return
            case "cut":
                self.cut(self.rng.choice(list(self.wires)))
                return
        for path in list(self.wires):
            self.cut(path)
        match fault:
            case "kill sender":
                self.start_sender()
            case "lose cache":
                self.cached.clear()
                self.start_sender()
            case "kill receiver":
                self.start_receiver()
            case "lie":  # the next receiver says that it has what it has not
                self.disk.update((address, b"?" * 32) for address in list(self.disk)[:1])
                self.lied = self.lied or bool(self.disk)
                self.start_receiver()
            case _:
                raise ValueError(fault)

    def finish(self) -> None:
        if not self.wires:
            self.add_path()
        for _ in range(200_000):
            if self.root is not None:
                return
            self.step()
        raise AssertionError("the transfer does not end")


def make_world(sizes: list[int], seed: int) -> World:
    world = World(make_manifest(sizes), random.Random(seed))
    world.start_sender()
    world.start_receiver()
    return world
