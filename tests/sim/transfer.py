"""One transfer between processes that die and come back, over paths that do, onto a disk that forgets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random

from blake3 import blake3
from msgspec.structs import replace

from p2pxfer.core.codec import Message
from p2pxfer.core.framing import Frame
from p2pxfer.core.session.bundlewire import BUNDLE_KIND, Bundle, bundle_prefix, decode_bundle
from p2pxfer.core.session.deltawire import Lack
from p2pxfer.core.session.restwire import REST_KIND, decode_rest, rest_prefix
from p2pxfer.core.session.transferwire import DATA_KIND, Chunk, Final, chunk_prefix, decode_chunk
from p2pxfer.core.session.wire import PEER
from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.transfer.geometry import chunk_span
from p2pxfer.core.transfer.inflow import Arrival, Incoming, wire_size
from p2pxfer.core.transfer.journal import Agreed, ChunkClaim, JournalState, pack_withdrawn
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.overwriting import Overwriting
from p2pxfer.core.transfer.parts import begun
from p2pxfer.core.transfer.ranges import Range
from p2pxfer.core.transfer.receiveeffect import Decide, Listed, Publish, ReceiverEffect, Relist, Store
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.receivestate import OVERTAKEN
from p2pxfer.core.transfer.sendeffect import Finished, HashChunks, NothingLeft, Send, SenderEffect
from p2pxfer.core.transfer.sender import SenderCore
from p2pxfer.errors import DiskError, ProtocolBreach
from tests.core.bundles import packed, unpacked
from tests.sim.disk import Disk, standing
from tests.sim.world import Network, PathEnd, World

KIB = 1024
SYNC_CHUNKS = 4
SYNC_S = 0.25
LONG_LISTS = 0.3
"""The share of transfers whose list has more than one page."""
EDITED = 0.2
"""The share of transfers in which bytes change and nothing that is listed of them."""


_CHUNKS: dict[int, Callable[[Frame], Arrival]] = {
    DATA_KIND: decode_chunk,
    BUNDLE_KIND: decode_bundle,
    REST_KIND: decode_rest,
}

Source = Sequence[Entry]
"""The files of a source: index -> entry."""


def content(source: Source, address: ChunkAddress) -> bytes:
    """What a chunk of the source holds; another one if the file has another time."""
    entry = source[address[0]]
    length = chunk_span(entry.size, address[1])[1]
    return (f"{address}{entry.mtime_ns}".encode() * (length // 6 + 1))[:length]


class Sender:
    """A run of the sending program; the record of hashes outlives it."""

    def __init__(self, sim: TransferSim) -> None:
        self._sim = sim
        self._ends: dict[int, PathEnd] = {}
        self._given_up = False
        self.whole = sim.manifest
        self._source = sim.source()
        self._manifest = Manifest()
        self._manifest.add(self.whole.page(0), more=self.whole.pages > 1)
        sim.senders += 1
        self._core = SenderCore(1, self._manifest, dict(self._known(0)), instance=sim.senders.to_bytes(16, "big"))
        sim.world.after(self._scan_time(), self._scan)

    def _scan_time(self) -> float:
        return self._sim.world.rng.choice([0.0, 0.01, 0.2])

    def _known(self, start: int) -> list[tuple[ChunkAddress, bytes]]:
        """Hashes of earlier runs of the files from ``start`` on that are listed."""
        stop = len(self._manifest.sizes)
        return [(address, digest) for address, digest in self._sim.record.items() if start <= address[0] < stop]

    def _scan(self) -> None:
        """The next page of what is to be sent is known."""
        page = self._manifest.pages
        if self._sim.sender is not self or page == self.whole.pages:
            return
        files = len(self._manifest.sizes)
        self._manifest.add(self.whole.page(page), more=page + 1 < self.whole.pages)
        self._do(self._core.grow(self._known(files), {}))
        self._push()
        self._sim.world.after(self._scan_time(), self._scan)

    def path_up(self, end: PathEnd) -> None:
        self._ends[end.number] = end
        self._do(self._core.open_path(end.number))

    def path_lost(self, end: PathEnd) -> None:
        self._ends.pop(end.number, None)
        self._do(self._core.close_path(end.number))
        self._push()

    def path_frame(self, end: PathEnd, frame: Frame) -> None:
        message = PEER.decode(frame)
        if isinstance(message, Lack):
            addresses, others = self._core.rests.lacked(end.number, message)
            assert not others.chunks
            self._core.lacking(addresses, end.number)
        else:
            self._do(self._core.receive(end.number, message))
        self._push()

    def path_room(self, end: PathEnd) -> None:
        self._push()

    def _do(self, effects: list[SenderEffect]) -> None:
        for effect in effects:
            match effect:
                case Send(path, message):
                    self._sim.proposed |= isinstance(message, Final)
                    send(self._ends, path, message)
                case HashChunks(addresses):
                    self._hash(addresses)
                case Finished(root, left):
                    assert left == self._core.left_out
                    self._sim.finished(self, Agreed(root, left))
                case NothingLeft():
                    self._give_up()

    def _hash(self, addresses: Sequence[ChunkAddress]) -> None:
        for address in addresses:
            if address[0] in self._sim.unreadable:
                self.leave_out(address[0])
            else:
                self._core.chunk_read(address, blake3(content(self._source, address)).digest())
        self._do(self._core.hashed())

    def leave_out(self, file: int) -> None:
        """It cannot be read."""
        if file >= len(self._manifest.sizes):
            return
        try:
            self._do(self._core.leave_out(file))
        except DiskError:
            self._give_up()

    def _give_up(self) -> None:
        """The command ends, and is given again when everything can be read."""
        self._given_up = True
        self._sim.world.after(0.0, lambda: self._sim.gave_up(self))

    def _readable(self, taken: Iterable[ChunkAddress | None]) -> list[ChunkAddress]:
        """What of these can be read; files of which some cannot are left out."""
        addresses = [address for address in taken if address is not None]
        for address in [address for address in addresses if address[0] in self._sim.unreadable]:
            self._core.drop_chunk(address)
            self.leave_out(address[0])
        return [address for address in addresses if address[0] not in self._sim.unreadable]

    def _push(self) -> None:
        for end in list(self._ends.values()):
            while self._core.is_open(end.number) and end.writable and not self._given_up:
                taken = [self._core.next_chunk() for _ in range(self._sim.bundled)]
                if taken[0] is None:
                    taken = [self._core.late_chunk(end.number)]
                    self._sim.taken_over += taken[0] is not None
                if taken[0] is None:
                    break
                addresses = self._readable(taken)
                for chunk in packed(addresses, self._manifest.sizes, lambda address: content(self._source, address)):
                    self._send(end, chunk)

    def _send(self, end: PathEnd, chunk: Chunk | Bundle) -> None:
        for each in unpacked(chunk, self._manifest.sizes):
            self._sim.record[each.file, each.index] = each.hash
            self._core.chunk_read((each.file, each.index), each.hash)
            self._sim.sent += 1
        if isinstance(chunk, Bundle):
            self._sim.bundles += 1
            self._core.chunk_sent((chunk.file, 0), end.number, chunk.count)
            prefix = bundle_prefix(1, chunk.file, chunk.hashes, len(chunk.payload))
        else:
            address = (chunk.file, chunk.index)
            self._core.chunk_sent(address, end.number)
            if offset := self._core.rests.take(end.number, address, chunk.hash):
                rest = chunk.payload[offset:]
                self._sim.rests += 1
                end.send(rest_prefix(1, *address, chunk.hash, offset, len(rest)) + bytes(rest))
                return
            prefix = chunk_prefix(1, *address, chunk.hash, len(chunk.payload))
        end.send(prefix + bytes(chunk.payload))


class Receiver:
    """A run of the receiving program."""

    def __init__(self, sim: TransferSim) -> None:
        self._sim = sim
        self._ends: dict[int, PathEnd] = {}
        self._core = ReceiverCore(sim.manifest.transfer_id, sim.world.rng.randbytes(16), least=KIB)
        self._unsynced: list[ChunkClaim] = []
        self._syncing = False
        self._storing = 0
        self._waiting: list[Callable[[], None]] = []
        self._ready: set[Callable[[], None]] = set()
        """Those of them whose turn may come."""
        self._published = False
        self._to_publish: Agreed | None = None
        self._pages: list[int] = []
        self._relisting: list[Callable[[], None]] | None = None
        self._claimed = ChunkTable(sim.manifest)
        self._overwriting = Overwriting(self._claimed)

    @property
    def may_differ(self) -> bool:
        """Nothing has been agreed on yet, so that the next sender may have other bytes."""
        return self._to_publish is None and not self._published and not self._sim.disk.names

    def path_up(self, end: PathEnd) -> None:
        self._ends[end.number] = end

    def path_lost(self, end: PathEnd) -> None:
        self._ends.pop(end.number, None)
        cut = begun(*end.decoder.begun) if end.decoder.begun is not None else None
        self._sim.arrived += cut.came if cut is not None else 0
        told = self._core.parts.came(end.number, cut) if cut is not None else []
        self._core.close_path(end.number)
        self._do([*told])

    def path_frame(self, end: PathEnd, frame: Frame) -> None:
        if self._relisting is not None:
            self._relisting.append(lambda: self.path_frame(end, frame) if end.number in self._ends else None)
            return
        if frame.kind in _CHUNKS:
            chunk = _CHUNKS[frame.kind](frame)
            self._sim.arrived += wire_size(chunk)
            try:
                self._do(self._core.chunk(end.number, chunk))
            except ProtocolBreach as error:
                self._refused(end, error)
                return
            self._acks()
            return
        try:
            effects = self._core.receive(end.number, PEER.decode(frame))
        except ProtocolBreach as error:
            self._refused(end, error)
            return
        if any(isinstance(effect, Relist) for effect in effects):
            self._relisting = [lambda: self.path_frame(end, frame) if end.number in self._ends else None]
        self._do(effects)

    def _refused(self, end: PathEnd, error: ProtocolBreach) -> None:
        """The sender has other files by now, or what an earlier one had under way came late: it comes again."""
        late = error.message == OVERTAKEN and self._sim.senders > 1
        assert late or self._sim.changed or self._sim.editions
        self._sim.overtaken += late
        self._sim.network.drop(end)
        if self._core.outdated:
            self._sim.disk.discard()
            self._sim.receiver = Receiver(self._sim)
            self._sim.network.died(self)

    def path_room(self, end: PathEnd) -> None:
        """It never sends much."""

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        """Work that takes a while, and is not finished by a process that died."""
        self._sim.world.after(seconds, lambda: call() if self._sim.receiver is self else None)

    def _do(self, effects: list[ReceiverEffect]) -> None:
        for effect in effects:
            match effect:
                case Send(path, message):
                    send(self._ends, path, message)
                case Decide():
                    self._later(self._sim.world.rng.choice([0.0, 0.05]), self._open)
                case Listed(page):
                    self._pages.append(page)
                    self._later(SYNC_S, self._sync)
                case Relist(keep, others):
                    self._sim.relisted += 1
                    for other in [self._ends[path] for path in others if path in self._ends]:
                        self._sim.network.drop(other)
                    self._relist(keep)
                case Store(path, chunk):
                    self._store(path, chunk)
                case Publish(agreed):
                    self._to_publish = agreed
                    self._sync()

    @property
    def _manifest(self) -> Manifest:
        assert self._core.manifest is not None
        return self._core.manifest

    def _open(self) -> None:
        state = self._sim.disk.open(self._manifest)
        self._published = state.published_root is not None
        if self._published and self._manifest.complete and self._manifest.pages == 1:
            assert state.agreed is not None
            self._do(self._core.already_published(state.agreed))
        else:
            have = self._claim_anew(state)
            self._sim.stood += state.agreed is not None
            begun = bool(self._sim.disk.names)
            self._do(self._core.accepted(have, published=self._published, begun=begun, agreed=state.agreed))

    def _claim_anew(self, state: JournalState) -> dict[ChunkAddress, bytes]:
        have = {(file, index): digest for file, index, digest in standing(state)}
        self._claimed = ChunkTable(self._manifest)
        for address, digest in have.items():
            self._claimed.set_hash(self._claimed.number(address), digest)
        self._overwriting = Overwriting(self._claimed)
        return have

    def _relist(self, keep: int) -> None:
        """When everything is durable that is still on its way."""
        if self._storing or self._syncing or self._unsynced or self._pages:
            self._sync()
            self._later(0.01, lambda: self._relist(keep))
            return
        self._manifest.cut(keep)
        state = self._sim.disk.open(self._manifest, relisted=True)
        self._core.relisted(self._claim_anew(state))
        waiting, self._relisting = self._relisting or [], None
        for call in waiting:
            call()

    def _store(self, path: int, chunk: Incoming) -> None:
        """Chunks are written by one thread, in the order in which they came."""
        self._storing += 1
        write = partial(self._write, path, chunk)
        self._waiting.append(write)

        def ready() -> None:
            self._ready.add(write)
            self._write_next()

        self._later(self._sim.world.rng.choice([0.0, 0.001, 0.02]), ready)

    def _write_next(self) -> None:
        while self._waiting and self._waiting[0] in self._ready:
            self._ready.remove(self._waiting[0])
            self._waiting[0]()

    def _write(self, path: int, chunk: Incoming) -> None:
        """Where something is claimed, or waits to be, claims are withdrawn before, when no sync is under way."""
        chunks = list(unpacked(chunk, self._manifest.sizes))
        self._claimed.grow()
        start = self._claimed.number((chunks[0].file, chunks[0].index))
        if self._overwriting.is_first(start, start + len(chunks)):
            self._written(path, chunk, chunks)
        elif self._syncing:
            self._later(0.01, self._waiting[0])
        else:
            replaced = self._overwriting.replace(start, start + len(chunks))
            self._withdraw(replaced, lambda: self._written(path, chunk, chunks))

    def _written(self, path: int, chunk: Incoming, chunks: Sequence[Chunk]) -> None:
        del self._waiting[0]
        self._storing -= 1
        for each in chunks:
            payload = bytes(each.payload)
            assert blake3(payload).digest() == each.hash
            address = (each.file, each.index)
            self._sim.disk.write(address, payload)
            self._unsynced.append((*address, each.hash))
        self._core.stored(path, chunk)
        self._acks()
        if len(self._unsynced) >= SYNC_CHUNKS:
            self._sync()
        else:
            self._later(SYNC_S, self._sync)
        self._write_next()

    def _withdraw(self, runs: list[tuple[int, int, int]], then: Callable[[], None]) -> None:
        if not runs:
            then()
            return

        def withdrawn() -> None:
            self._sim.disk.sync_journal()
            self._syncing = False
            then()
            self._sync()

        self._sim.withdrawn += 1
        self._syncing = True
        self._sim.disk.append(b"".join(pack_withdrawn(runs)))
        self._later(self._sync_time(), withdrawn)

    def _acks(self) -> None:
        for path in list(self._ends):
            self._do(list(self._core.take_acks(path)))

    def _sync(self) -> None:
        """Data, then the journal, each with a sync that takes a while; publish when nothing is left."""
        if self._syncing:
            return
        disk = self._sim.disk
        if not self._unsynced and not self._pages:
            if self._to_publish is not None and not self._storing:
                self._publish(self._to_publish)
            return
        written, self._unsynced = self._unsynced, []
        batch = [claim for claim in written if self._overwriting.holding(*self._run(claim))]
        pages, self._pages = self._pages, []
        self._syncing = True

        def data_synced() -> None:
            disk.sync([(file, index) for file, index, _ in batch])
            for page in pages:
                disk.listed(self._manifest, page)
            if batch:
                disk.claim(batch)
            self._later(self._sync_time(), journalled)

        def journalled() -> None:
            disk.sync_journal()
            self._overwriting.journalled((*self._run(claim), claim[2]) for claim in batch)
            self._syncing = False
            self._sync()

        self._later(self._sync_time(), data_synced)

    def _run(self, claim: ChunkClaim) -> Range:
        number = self._claimed.number(claim[:2])
        return number, number + 1

    def _sync_time(self) -> float:
        return self._sim.world.rng.choice([0.01, 0.3])

    def _publish(self, agreed: Agreed) -> None:
        disk = self._sim.disk
        if self._published:  # in an earlier run
            self._do(self._core.published_all())
            return
        self._syncing = True
        self._sim.publishing()
        paths = [entry.path for entry in self._manifest.files]
        names = [path for file, path in enumerate(paths) if file not in agreed.left]

        def rename() -> None:
            disk.sync_journal()
            waiting = sorted(set(names) - disk.names)
            several = self._sim.world.rng.randint(1, 100)
            disk.names.update(waiting[:several])
            if waiting[several:]:
                self._later(self._sync_time(), rename)
                return
            disk.published(agreed.root, names)
            self._later(self._sync_time(), published)

        def published() -> None:
            disk.sync_journal()
            self._do(self._core.published_all())

        disk.remove(agreed.left)
        disk.publishing(agreed, names)
        self._later(self._sync_time(), rename)


def send(ends: dict[int, PathEnd], path: int, message: Message) -> None:
    """Put a message on a path that is still there."""
    if path in ends:
        ends[path].send(PEER.encode(message))


class TransferSim:
    """A transfer, and the faults that the seed brings upon it."""

    line = 0.0
    """Bytes a second of a slow line."""
    edited = EDITED

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        rng = world.rng
        sizes = self.draw_sizes()
        # Drawn apart, so that the other transfers stay what they are.
        self.editing = not self.line and Random(f"edited {seed}").random() < self.edited
        if self.editing:
            sizes.append(rng.randint(20, 60) * 64 * KIB)
        if not self.line and rng.random() < LONG_LISTS:
            # Names as long as they may be fill pages fast; most files are empty.
            sizes += [0] * rng.randint(100, 500)
            rng.shuffle(sizes)
        long = "x" * 240 if len(sizes) > 12 else ""
        self._entries = [Entry(f"f{number:03}{long}", FILE, size, number) for number, size in enumerate(sizes)]
        self.manifest = Manifest(self._entries)
        self.relisted = 0
        self.changed = False
        self.bundled = rng.choice([1, 4])
        self.bundles = 0
        self.record: dict[ChunkAddress, bytes] = {}
        self.editions: dict[int, int] = {}
        """Of files whose bytes changed while what is listed of them did not: not 0 where they are others just now."""
        self.withdrawn = 0
        self.proposed = False
        """A Final is under way, or was: from then on the bytes are what it is about."""
        self.senders = 0
        """How many began."""
        self.overtaken = 0
        """How often an earlier one was told so."""
        self.disk = Disk(world)
        self.network = Network(world, self.line)
        self.sender = Sender(self)
        self.receiver = Receiver(self)
        self.end: Agreed | None = None
        self.unreadable: set[int] = set()
        self.lost: set[int] = set()
        """What could not be read at some time."""
        self.losing = False
        """Whether files may become unreadable."""
        self.sent = self.arrived = self.rests = 0
        self.taken_over = 0
        self.stood = 0
        """How often a receiver was bound to what an earlier one had begun to publish."""
        self.faults = 0
        self.draw_faults()
        self._meet()

    def draw_sizes(self) -> list[int]:
        """Of the files."""
        rng = self.world.rng
        return [rng.choice([0, 1, 100, 64 * KIB, 65 * KIB, 200 * KIB]) for _ in range(rng.randint(1, 12))]

    def draw_faults(self) -> None:
        """What goes wrong, and when."""
        rng = self.world.rng
        faults = [self.cut, self.cut_all, self.second_path, self.stall, self.kill_sender, self.kill_receiver]
        self.losing = rng.random() < 0.3
        if self.losing:
            faults += [self.lose_file] * 3
        if self.editing:
            faults += [self.edit] * 3
        for _ in range(rng.randint(0, 8)):
            self.world.after(rng.uniform(0.0, rng.choice([0.3, 2.0])), rng.choice(faults))

    def source(self) -> Source:
        """What a sender that begins now reads; the time stands for the bytes."""
        entries = enumerate(self.manifest.files)
        return [replace(entry, mtime_ns=entry.mtime_ns + self.editions.get(file, 0)) for file, entry in entries]

    def run(self) -> None:
        """Until the sender knows that everything arrived, and that is true."""
        self.world.run(lambda: self.end is not None)
        assert self.end is not None
        source = self.source()
        whole = {
            (number, index): content(source, (number, index))
            for number, entry in enumerate(source)
            for index in range(-(-entry.size // (64 * KIB)))
            if number not in self.end.left
        }
        self.disk.power_cut()
        assert self.disk.safe == whole, "what is on the disk is not what was sent"
        assert self.disk.names == {entry.path for file, entry in enumerate(source) if file not in self.end.left}
        state = self.disk.open(Manifest(self._entries))
        assert state.published_root == self.end.root, "the end was told before it was durable"
        assert state.agreed == self.end, "the two do not agree about what is left out"
        assert set(self.end.left) <= self.lost, "a file was left out that was there"
        assert self.sent <= (len(whole) + 100) * self.network.made, "a chunk was sent on one path again and again"
        assert self.faults or self.taken_over <= len(whole), "a path takes over what it has taken over before"
        assert self.faults or self.sent == len(whole) + self.taken_over, "something was sent twice for no reason"

    def finished(self, sender: Sender, end: Agreed) -> None:
        if sender is self.sender:
            self.end = end

    def _meet(self) -> None:
        """The peers meet again and again while there is no path."""
        if not self.network.alive():
            self.network.connect(self.sender, self.receiver)
        self.world.after(self.world.rng.uniform(0.05, 1.0), self._meet)

    # -- faults --------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        self.faults += 1
        paths = self.network.alive()
        if paths:
            self.network.cut(self.world.rng.choice(paths))

    def cut_all(self) -> None:
        self.faults += 1
        for path in self.network.alive():
            self.network.cut(path)

    def second_path(self) -> None:
        self.network.connect(self.sender, self.receiver)

    def stall(self) -> None:
        paths = self.network.alive()
        if paths:
            self.network.stall(self.world.rng.choice(paths), self.world.rng.choice([0.1, 3.0, 20.0]))

    def lose_file(self) -> None:
        """A file cannot be read any more, which is noticed now or when a chunk of it is."""
        self.faults += 1
        files = [file for file, entry in enumerate(self._entries) if entry.size]
        if files:
            file = self.world.rng.choice(files)
            self.world.note(f"file {file} cannot be read")
            self.unreadable.add(file)
            self.lost.add(file)
            if self.world.rng.random() < 0.5:
                self.sender.leave_out(file)

    def publishing(self) -> None:
        """Where files are lost one of the ends dies in this moment, perhaps, and the next sender reads other files."""
        rng = self.world.rng
        if self.losing and rng.random() < 0.5:
            at = rng.uniform(0.0, 0.8)
            self.world.after(at, rng.choice([self.kill_receiver, self.kill_sender]))
            self.world.after(
                at + rng.uniform(0.0, 0.1), rng.choice([self.kill_receiver, self.kill_sender, self.lose_file])
            )
            self.world.after(at, rng.choice([self.lose_file, self.unreadable.clear]))

    def gave_up(self, sender: Sender) -> None:
        """Nothing can be sent, or proved: the user mends that and gives the command again."""
        if sender is self.sender:
            self.world.note("the sender gives up")
            self.unreadable.clear()
            self.sender = Sender(self)
            self.network.died(sender)

    def edit(self) -> None:
        """Between two runs of the sender a file's bytes become others, in the same size and time, and perhaps go back.

        The receiver dies in this time, perhaps.
        """
        rng, file = self.world.rng, self.largest
        self.turn(file)
        at = rng.uniform(0.0, 1.0)
        self.world.after(at, rng.choice([self.kill_receiver, self.cut_all]))
        self.world.after(at + rng.uniform(0.0, 0.1), lambda: self.turn(file))

    @property
    def largest(self) -> int:
        """The largest file."""
        return max(range(len(self.manifest.sizes)), key=lambda file: self.manifest.sizes[file])

    def turn(self, file: int) -> None:
        """The bytes of a file become the others, where that is possible."""
        if self.proposed or not self.receiver.may_differ or file >= len(self.manifest.sizes):
            return
        self.faults += 1
        self.world.note(f"the bytes of file {file} become others")
        self.editions[file] = 500_000 - self.editions.get(file, 0)
        self.record = {address: digest for address, digest in self.record.items() if address[0] != file}
        dead, self.sender = self.sender, Sender(self)
        self.network.died(dead)

    def kill_sender(self) -> None:
        self.faults += 1
        self.world.note("the sender is killed")
        if self.world.rng.random() < 0.5:
            self.unreadable.clear()
        dead, self.sender = self.sender, Sender(self)
        self.network.died(dead)
        for address in list(self.record):
            if self.world.rng.random() < 0.3:
                del self.record[address]
        if self.manifest.pages > 1 and self.world.rng.random() < 0.3:
            self._change()

    def _change(self) -> None:
        """Between two runs a file changed, or some were added or removed at the end."""
        rng = self.world.rng
        at = rng.randrange(122, len(self._entries))  # so many are on the first page, which makes the id
        match rng.randrange(3):
            case 0:
                self._entries[at] = replace(self._entries[at], mtime_ns=10_000 + at, size=rng.choice([0, 1, 65 * KIB]))
            case 1:
                del self._entries[at:]
            case _:
                last = len(self._entries)
                self._entries += [Entry(f"g{number:03}{'x' * 240}", FILE, 1, 1) for number in range(last, last + 150)]
        self.world.note("the source changed")
        self.changed = True
        self.unreadable = {file for file in self.unreadable if file < at}
        self.manifest = Manifest(self._entries)
        self.record = {address: digest for address, digest in self.record.items() if address[0] < at}
        self.editions = {file: edition for file, edition in self.editions.items() if file < at}
        self.sender = Sender(self)

    def kill_receiver(self) -> None:
        self.faults += 1
        power = self.world.rng.random() < 0.5
        self.world.note("the receiver's power fails" if power else "the receiver is killed")
        dead, self.receiver = self.receiver, Receiver(self)
        self.network.died(dead)
        if power:
            self.disk.power_cut()
        else:
            self.disk.killed()
        if self.world.rng.random() < 0.5:
            self.network.connect(self.sender, self.receiver)
