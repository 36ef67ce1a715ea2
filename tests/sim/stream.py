"""Byte channels between two processes over paths that come and go, chosen as the product chooses them."""

from __future__ import annotations

from collections import defaultdict

from p2pxfer.core.framing import Frame
from p2pxfer.core.session.channel import Arrived, Asked, Gone, PeerEnded, Stands, Writable
from p2pxfer.core.session.channels import Channels
from p2pxfer.core.session.channelwire import Piece, piece_prefix
from p2pxfer.core.session.pathchoice import PathChoice
from p2pxfer.core.session.windows import Limits
from p2pxfer.core.session.wire import PEER
from p2pxfer.errors import Incomplete, P2pxferError
from tests.core.channelworld import as_message
from tests.sim.world import Network, PathEnd, World

LIMITS = Limits(channels=5, smallest=4 * 1024, first=10_000, total=200_000, share=4)


class Side:
    """One process: writes a text of its own on every channel, and reads at its own pace."""

    def __init__(self, sim: StreamSim, parity: int) -> None:
        self.sim = sim
        self.world = sim.world
        self.core = Channels(sim.world.rng.randbytes(16), 1 if parity else 0, LIMITS)
        self.choice = PathChoice()
        self.ends: dict[int, PathEnd] = {}
        self.to_write: dict[int, bytes] = {}
        self.read: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.gone: dict[int, P2pxferError | None] = {}
        self.failed: P2pxferError | None = None
        self.dead = False

    # -- from the network ----------------------------------------------------------------------------------------

    def path_up(self, end: PathEnd) -> None:
        self.ends[end.number] = end
        self.core.open_path(end.number)
        self.choice.add(end.number, end.number % 3)
        self.flush()

    def path_lost(self, end: PathEnd) -> None:
        self.ends.pop(end.number, None)
        self.core.close_path(end.number)
        self.choice.remove(end.number)
        self.flush()

    def path_room(self, end: PathEnd) -> None:
        self.choice.room(end.number, self.world.now)
        self.flush()

    def path_frame(self, end: PathEnd, frame: Frame) -> None:
        if self.failed is not None:
            return
        try:
            self.core.receive(end.number, as_message(frame))
        except Incomplete as error:
            self.failed = error
            return
        self.drain()
        self.flush()

    # -- from the channels ---------------------------------------------------------------------------------------

    def drain(self) -> None:
        for event in self.core.events():
            match event:
                case Asked(channel, _):
                    self.core.accept(channel)
                    self.start(channel)
                case Stands(channel):
                    self.start(channel)
                case Writable(channel):
                    self.write(channel)
                case Arrived(channel, data):
                    self.arrived(channel, bytes(data))
                case PeerEnded(channel):
                    self.ended.add(channel)
                case Gone(channel, error):
                    self.gone[channel] = error

    def start(self, channel: int) -> None:
        self.to_write[channel] = self.sim.text(self, channel)
        self.write(channel)

    def write(self, channel: int) -> None:
        data = self.to_write.get(channel)
        if data is None or self.dead:
            return
        size = min(self.core.room(channel), len(data), self.world.rng.choice([10, 1000, 10_000]))
        if size:
            self.core.write(channel, data[:size])
            self.to_write[channel] = data[size:]
        if size == len(data):
            del self.to_write[channel]
            self.core.end(channel)
        elif self.core.room(channel):
            self.world.after(self.world.rng.choice([0.0, 0.01]), lambda: self.write(channel))
        self.flush()

    def arrived(self, channel: int, data: bytes) -> None:
        assert channel not in self.ended
        at = len(self.read[channel])
        self.read[channel] += data
        text = self.sim.text(self.other, channel)
        assert text[at : at + len(data)] == data, f"channel {channel} reads what was not written"

        def consume() -> None:
            if not self.dead:
                self.core.consumed(channel, len(data))
                self.drain()
                self.flush()

        self.world.after(self.world.rng.choice([0.0, 0.001, 0.1]), consume)

    @property
    def other(self) -> Side:
        return self.sim.sides[0] if self.sim.sides[1] is self else self.sim.sides[1]

    def flush(self) -> None:
        if self.failed is not None or self.dead:
            return
        for number in self.choice.ordered(self.world.now):
            if self.core.usable(number):
                self.core.use(number)
                break
        for number, end in list(self.ends.items()):
            while end.writable and (message := self.core.take(number)) is not None:
                if isinstance(message, Piece):
                    end.send(piece_prefix(message) + bytes(message.payload))
                    self.choice.carried(number, len(message.payload), not end.writable, self.world.now)
                else:
                    end.send(PEER.encode(message))
        assert self.core.held_bytes <= LIMITS.total


class StreamSim:
    """Two processes with channels, and the faults that the seed brings upon them."""

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        rng = world.rng
        self.seed = seed
        self.sizes = [rng.choice([0, 1, 5_000, 60_000]) for _ in range(rng.randint(1, 5))]
        self.network = Network(world)
        self.sides = [Side(self, 0), Side(self, 1)]
        self.restarted: Side | None = None
        opened = [self.sides[rng.randrange(2)].core.open("text") for _ in self.sizes]
        self._texts: dict[tuple[int, int], bytes] = {}
        self.channels = dict(zip(opened, self.sizes, strict=True))
        for _ in range(rng.randint(0, 8)):
            fault = rng.choice([self.cut, self.cut, self.cut_all, self.second_path, self.second_path, self.stall])
            world.after(rng.uniform(0.0, rng.choice([0.3, 2.0])), fault)
        if rng.random() < 0.15:
            world.after(rng.uniform(0.0, 1.0), self.restart)
        self._meet()

    def text(self, side: Side, channel: int) -> bytes:
        """What ``side`` writes on a channel."""
        key = side.core.parity, channel
        if key not in self._texts:
            size = self.channels[channel]
            words = [f"{'ab'[side.core.parity]}{channel} {at}\n" for at in range(size // 5 + 1)]
            self._texts[key] = "".join(words).encode()[:size]
        return self._texts[key]

    def run(self) -> None:
        """Until everything was read and every channel is over, or both sides know that the session is."""
        self.world.run(self._over)
        if self.restarted is None:
            for side in self.sides:
                assert set(side.gone) == set(self.channels)
                assert set(side.gone.values()) == {None}
                for channel in self.channels:
                    assert bytes(side.read[channel]) == self.text(side.other, channel)

    def _over(self) -> bool:
        sides = [side for side in self.sides if side is not self.restarted]
        if self.restarted is not None and all(side.failed for side in sides):
            return True
        return all(side.core.settled and not len(side.core) for side in sides)

    def _meet(self) -> None:
        if self.restarted is not None and self.restarted.failed is not None:
            self.start_anew(self.restarted)  # it said why and ended; whoever runs it does so once more
        if not self.network.alive():
            self.network.connect(*self.sides)
        self.world.after(self.world.rng.uniform(0.05, 1.0), self._meet)

    # -- faults --------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        paths = self.network.alive()
        if paths:
            self.network.cut(self.world.rng.choice(paths))

    def cut_all(self) -> None:
        for path in self.network.alive():
            self.network.cut(path)

    def second_path(self) -> None:
        self.network.connect(*self.sides)

    def stall(self) -> None:
        paths = self.network.alive()
        if paths:
            self.network.stall(self.world.rng.choice(paths), self.world.rng.choice([0.1, 3.0, 20.0]))

    def restart(self) -> None:
        """One process dies; another one meets the peer in its place and knows nothing."""
        self.start_anew(self.world.rng.choice(self.sides))

    def start_anew(self, dead: Side) -> None:
        """Another process in the place of one that is gone."""
        place = self.sides.index(dead)
        self.world.note(f"process {place} is started anew")
        dead.dead = True
        self.network.died(dead)
        self.restarted = self.sides[place] = Side(self, place)
