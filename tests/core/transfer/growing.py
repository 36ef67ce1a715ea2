"""The two cores of a transfer whose list of files grows, and what goes between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from p2pxfer.core.codec import Message
from p2pxfer.core.framing import CONTROL_CAP
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.wire import PEER
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.receiveeffect import Listed as ListedEffect
from p2pxfer.core.transfer.receiveeffect import ReceiverEffect, Store
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.sendeffect import Finished, Send, SenderEffect
from p2pxfer.core.transfer.sender import SenderCore


@dataclass
class Pair:
    """A sender whose list grows as the test says, a receiver that remembers nothing, and what went between them."""

    whole: Manifest
    sender_sees: Manifest = field(default_factory=Manifest)
    to_sender: list[Message] = field(default_factory=list)
    to_receiver: list[Message] = field(default_factory=list)
    stored: list[tuple[int, int]] = field(default_factory=list)
    listed: list[int] = field(default_factory=list)
    root: bytes | None = None

    def __post_init__(self) -> None:
        self.scan()
        self.sender = SenderCore(1, self.sender_sees, {})
        self.receiver = ReceiverCore(self.whole.transfer_id, b"i" * 16)

    def scan(self) -> None:
        number = self.sender_sees.pages
        self.sender_sees.add(self.whole.page(number), more=number + 1 < self.whole.pages)

    def grow(self) -> None:
        self.scan()
        self.from_sender(self.sender.grow([], {}))

    def from_sender(self, effects: list[SenderEffect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                assert len(PEER.encode(effect.message)) <= CONTROL_CAP
                self.to_receiver.append(effect.message)
            elif isinstance(effect, Finished):
                self.root = effect.root

    def from_receiver(self, effects: Sequence[ReceiverEffect]) -> None:
        for effect in effects:
            match effect:
                case Send(_, message):
                    self.to_sender.append(message)
                case Store(path, chunk):
                    assert isinstance(chunk, Chunk)
                    self.stored.append((chunk.file, chunk.index))
                    self.receiver.stored(path, chunk)
                case ListedEffect(page):
                    self.listed.append(page)

    def open(self) -> None:
        self.from_sender(self.sender.open_path(1))
        self.talk()
        self.from_receiver(self.receiver.accepted({}))
        self.talk()

    def talk(self) -> None:
        """Everything that was said arrives, until nobody has to say anything."""
        while self.to_sender or self.to_receiver:
            if self.to_receiver:
                self.from_receiver(self.receiver.receive(1, self.to_receiver.pop(0)))
            if self.to_sender:
                self.from_sender(self.sender.receive(1, self.to_sender.pop(0)))

    def send_all(self) -> int:
        """Send what may be sent now, and how many chunks that was."""
        count = 0
        while (address := self.sender.next_chunk()) is not None:
            digest = blake3(b"x").digest()
            self.sender.chunk_read(address, digest)
            self.sender.chunk_sent(address, 1)
            self.from_receiver(self.receiver.chunk(1, Chunk(1, *address, digest, memoryview(b"x"))))
            count += 1
        self.from_receiver(self.receiver.take_acks(1))
        self.talk()
        return count
