"""Two ends of a session in memory: their channels, joined by wires that carry bytes until they are cut."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from p2pxfer.core.framing import Frame, FrameDecoder
from p2pxfer.core.session.channel import Arrived, Asked, Gone, PeerEnded, Stands
from p2pxfer.core.session.channels import Channels
from p2pxfer.core.session.channelwire import PIECE_KIND, ChannelMessage, Piece, decode_piece, piece_prefix
from p2pxfer.core.session.windows import Limits
from p2pxfer.core.session.wire import PEER, SESSION_CAPS
from p2pxfer.errors import P2pxferError, Refused

SMALL = Limits(channels=6, smallest=64, first=100, total=1000, share=4)
"""So small that everything stalls all the time."""
WIRE = 200
"""Bytes that a wire takes before it is full."""


def as_bytes(message: ChannelMessage) -> bytes:
    if isinstance(message, Piece):
        return piece_prefix(message) + bytes(message.payload)
    return PEER.encode(message)


def as_message(frame: Frame) -> ChannelMessage:
    """What ``as_bytes`` took apart."""
    message = decode_piece(frame) if frame.kind == PIECE_KIND else PEER.decode(frame)
    assert isinstance(message, ChannelMessage)
    return message


@dataclass
class Wire:
    """One direction of a path."""

    queue: bytearray = field(default_factory=bytearray)
    decoder: FrameDecoder = field(default_factory=lambda: FrameDecoder(SESSION_CAPS))
    cut: bool = False


class End:
    """One process: its channels, what it writes on each, and what it has read."""

    def __init__(self, parity: int, rng: random.Random, limits: Limits = SMALL) -> None:
        self.rng = rng
        self.core = Channels(rng.randbytes(16), 1 if parity else 0, limits)
        self.limits = limits
        self.outward: dict[int, Wire] = {}
        self.inward: dict[int, Wire] = {}
        self.to_write: dict[int, bytes] = {}
        self.read: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.unread: defaultdict[int, int] = defaultdict(int)
        self.standing: set[int] = set()
        self.peer_ended: set[int] = set()
        self.gone: dict[int, P2pxferError | None] = {}
        self.script: Callable[[int], bytes] = lambda channel: b""
        self.refuse: set[int] = set()

    def drain(self) -> None:
        for event in self.core.events():
            match event:
                case Asked(channel, _):
                    if channel in self.refuse:
                        self.core.reset(channel, Refused("not here"))
                    else:
                        self.core.accept(channel)
                        self.start(channel)
                case Stands(channel):
                    self.start(channel)
                case Arrived(channel, data):
                    assert channel not in self.peer_ended
                    assert channel not in self.gone
                    self.read[channel] += data
                    self.unread[channel] += len(data)
                case PeerEnded(channel):
                    assert channel not in self.peer_ended
                    self.peer_ended.add(channel)
                case Gone(channel, error):
                    assert channel not in self.gone
                    self.gone[channel] = error
        assert sum(self.unread.values()) <= self.limits.total
        assert self.core.held_bytes <= self.limits.total

    def start(self, channel: int) -> None:
        self.standing.add(channel)
        self.to_write[channel] = self.script(channel)

    def write(self) -> None:
        """Write some of what there is, on any channel, and end it behind the last byte."""
        open_ones = [channel for channel in self.to_write if channel not in self.gone]
        if not open_ones:
            return
        channel = self.rng.choice(open_ones)
        data = self.to_write[channel]
        size = min(self.core.room(channel), self.rng.randint(0, 100), len(data))
        self.core.write(channel, data[:size])
        self.to_write[channel] = data[size:]
        if size == len(data):
            self.core.end(channel)
            del self.to_write[channel]
        self.drain()

    def consume(self) -> None:
        waiting = [channel for channel, size in self.unread.items() if size]
        if waiting:
            channel = self.rng.choice(waiting)
            size = self.rng.randint(1, self.unread[channel])
            self.unread[channel] -= size
            self.core.consumed(channel, size)
            self.drain()

    def send(self) -> None:
        """Put what there is on a wire that has room."""
        for path, wire in self.outward.items():
            while len(wire.queue) < WIRE and (message := self.core.take(path)) is not None:
                if not wire.cut:
                    wire.queue += as_bytes(message)
        self.drain()

    def hear(self, path: int, size: int) -> None:
        """``size`` bytes of what is under way on ``path`` arrive."""
        wire = self.inward[path]
        data = bytes(wire.queue[:size])
        del wire.queue[:size]
        for frame in wire.decoder.feed(data):
            self.core.receive(path, as_message(frame))
            self.drain()

    def lose(self, path: int) -> None:
        """Notice that a path is gone."""
        del self.inward[path], self.outward[path]
        self.core.close_path(path)


class Pair:
    """Both ends, and the paths between them."""

    def __init__(self, seed: int, limits: Limits = SMALL) -> None:
        self.rng = random.Random(seed)
        self.ends = (End(0, self.rng, limits), End(1, self.rng, limits))
        self.paths = 0

    def add_path(self) -> int:
        self.paths += 1
        there, back = Wire(), Wire()
        first, second = self.ends
        first.outward[self.paths] = second.inward[self.paths] = there
        second.outward[self.paths] = first.inward[self.paths] = back
        for end in self.ends:
            end.core.open_path(self.paths)
            if end.core.current is None:
                end.core.use(self.paths)
        return self.paths

    def cut(self, path: int) -> None:
        """The path breaks: of what is under way in each direction a part still arrives."""
        for end in self.ends:
            wire = end.inward.get(path)
            if wire is not None and not wire.cut:
                wire.cut = True
                del wire.queue[self.rng.randint(0, len(wire.queue)) :]

    def step(self) -> None:
        end = self.rng.choice(self.ends)
        match self.rng.randrange(6):
            case 0:
                end.write()
            case 1:
                end.consume()
            case 2:
                end.send()
            case 3 if end.inward and self.rng.random() < 0.2:
                end.core.use(self.rng.choice(list(end.inward)))
            case _ if end.inward:
                path = self.rng.choice(list(end.inward))
                end.hear(path, self.rng.randint(1, 150))
                if end.inward[path].cut and not end.inward[path].queue:
                    end.lose(path)
                    if end.inward:
                        end.core.use(self.rng.choice(list(end.inward)))

    @property
    def whole(self) -> list[int]:
        """Paths that are up at both ends."""
        return [path for path, wire in self.ends[0].inward.items() if not wire.cut and path in self.ends[1].inward]

    def run(self, done: Callable[[], bool], steps: int = 100_000) -> None:
        """Go on until ``done()``, always with a path."""
        for _ in range(steps):
            if done():
                return
            if not self.whole:
                self.add_path()
            for end in self.ends:
                if end.core.current not in self.whole:
                    end.core.use(self.rng.choice(self.whole))
            self.step()
        raise AssertionError("the session does not come to an end")
