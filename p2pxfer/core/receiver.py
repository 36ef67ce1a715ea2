"""The receiving side of one transfer: what is here, and the dialogue on each path.

Laws of this file:

1. Nothing is stored before the whole manifest was validated and the transfer accepted.
2. A chunk is acknowledged after it was verified against its hash and written; never before.
3. FinalAck goes out after everything was published and made durable; the same answer is given again on every path
   that asks.  The end of a stream means nothing.
4. Every path holds its own dialogue; all share one set of chunks, so a chunk that comes twice is harmless.

The caller decides, stores and publishes; calls return the effects to carry out, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from msgspec import Struct

from p2pxfer.core.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.claims import pages, runs
from p2pxfer.core.codec import Message
from p2pxfer.core.geometry import chunk_count, zero_hash
from p2pxfer.core.holes import judge
from p2pxfer.core.manifest import MAX_MANIFEST, Manifest
from p2pxfer.core.ranges import RangeSet
from p2pxfer.core.receiveeffect import Decide, Publish, ReceiverEffect, Store, StoreHole
from p2pxfer.core.sendeffect import Send
from p2pxfer.core.wire import Accept, Ack, Chunk, Final, FinalAck, Holes, ManifestPart, Offer, Refuse, WantManifest
from p2pxfer.errors import ChunkRefused, Damaged, LimitReached, ManifestRefused, P2pxferError, ProtocolBreach

ACKS_PER_MESSAGE = 1024
MAX_SPARSE_CHUNKS = 4 * 1024 * 1024
"""Most chunks of a transfer with holes, which cost a sender nothing; 16 TiB in the largest chunks."""
MAX_BAD_CHUNKS = 3
"""Chunks that fail their hash before the sender is dropped."""


class _Phase(Enum):
    NEW = "no manifest is known"
    DECIDING = "the user decides"
    RECEIVING = "chunks are welcome"
    PUBLISHING = "the files are being published"
    PUBLISHED = "the files are published"
    REFUSED = "the transfer was refused"


class _Talk(Enum):
    OFFERED = "the offer stands"
    MANIFEST = "the manifest is on its way"
    OPEN = "chunks are welcome"
    FINAL = "the sender is done"


class _Path(Struct):
    handle: int
    talk: _Talk
    acks: list[ChunkAddress]
    told: int = 0  # chunks that were said to be holes


class ReceiverCore:
    """One transfer, known by its id; ``instance``: 16 random bytes of this process; ``rate``: see ``Accept``."""

    def __init__(self, transfer: bytes, instance: bytes, rate: int = 0) -> None:
        self._rate = rate
        self._transfer = transfer
        self._instance = instance
        self._phase = _Phase.NEW
        self._paths: dict[int, _Path] = {}
        self._parts = bytearray()
        self._announced = 0
        self._holes = 0
        self._manifest: Manifest | None = None
        self._table: ChunkTable | None = None
        self._have = RangeSet()
        self._storing: dict[int, bytes] = {}
        self._bad = 0
        self._root = b""
        self._refusal: tuple[str, str] | None = None
        self.have_bytes = 0

    @property
    def manifest(self) -> Manifest | None:
        """What is being received, once it is known."""
        return self._manifest

    @property
    def published(self) -> bool:
        """Everything is in its place."""
        return self._phase is _Phase.PUBLISHED

    @property
    def attached(self) -> int:
        """How many paths hold a dialogue."""
        return len(self._paths)

    # -- from the paths ------------------------------------------------------------------------------------------

    def close_path(self, path: int) -> list[ReceiverEffect]:
        """The path is gone; if it was bringing the manifest, another one that offered is asked for it."""
        state = self._paths.pop(path, None)
        if state is None or state.talk is not _Talk.MANIFEST:
            return []
        self._parts.clear()
        for other, waiting in self._paths.items():
            waiting.talk = _Talk.MANIFEST
            return [Send(other, WantManifest(handle=waiting.handle))]
        return []

    def receive(self, path: int, message: Message) -> list[ReceiverEffect]:
        """A transfer message came on ``path``.

        Raises:
            ProtocolBreach: not legal now, or a hostile manifest.
        """
        if isinstance(message, Offer):
            return self._on_offer(path, message)
        state = self._state_of(path, getattr(message, "handle", None))
        match state.talk, message:
            case _Talk.MANIFEST, ManifestPart():
                return self._on_part(path, message)
            case _Talk.OPEN, Holes():
                return self._on_holes(path, state, message)
            case ((_Talk.OPEN | _Talk.FINAL), Final()):
                return self._on_final(state, message)
            case _:
                raise ProtocolBreach(f"{type(message).__name__} came while {state.talk.value}")

    def _state_of(self, path: int, handle: int | None) -> _Path:
        state = self._paths.get(path)
        if state is None or state.handle != handle:
            raise ProtocolBreach("the sender speaks of a transfer that was not offered on this path")
        return state

    def _on_offer(self, path: int, offer: Offer) -> list[ReceiverEffect]:
        if path in self._paths:
            raise ProtocolBreach("a second offer on one path")
        self._paths[path] = state = _Path(offer.handle, _Talk.OFFERED, [])
        match self._phase:
            case _Phase.NEW:
                return self._first_offer(path, state, offer)
            case _Phase.DECIDING:
                return []
            case _Phase.REFUSED:
                word, message = self._refusal or ("E_DENIED", "refused")
                return [Send(path, Refuse(handle=offer.handle, word=word, message=message))]
            case _Phase.PUBLISHED:
                state.talk = _Talk.FINAL
                return [Send(path, FinalAck(handle=offer.handle, root=self._root))]
            case _:
                return list(self._accept(path))

    def _first_offer(self, path: int, state: _Path, offer: Offer) -> list[ReceiverEffect]:
        if offer.manifest_size > MAX_MANIFEST:
            raise ManifestRefused(f"the manifest has {offer.manifest_size} bytes; at most {MAX_MANIFEST} are allowed")
        self._announced, self._holes = offer.manifest_size, offer.holes
        if offer.manifest:
            return self._on_manifest(offer.manifest)
        if any(other.talk is _Talk.MANIFEST for other in self._paths.values()):
            return []
        self._parts.clear()
        state.talk = _Talk.MANIFEST
        return [Send(path, WantManifest(handle=offer.handle))]

    def _on_part(self, path: int, part: ManifestPart) -> list[ReceiverEffect]:
        if part.offset != len(self._parts) or part.offset + len(part.data) > self._announced or not part.data:
            raise ManifestRefused("a piece of the manifest does not follow the one before")
        self._parts += part.data
        if len(self._parts) < self._announced:
            return []
        self._paths[path].talk = _Talk.OFFERED
        encoded, self._parts = bytes(self._parts), bytearray()
        return self._on_manifest(encoded)

    def _on_manifest(self, encoded: bytes) -> list[ReceiverEffect]:
        if len(encoded) != self._announced:
            raise ManifestRefused("the manifest is not as long as it was announced")
        manifest = Manifest.decode(encoded)
        if manifest.transfer_id != self._transfer:
            raise ManifestRefused("the manifest is not the one that was offered")
        if self._holes and sum(chunk_count(entry.size) for entry in manifest.files) > MAX_SPARSE_CHUNKS:
            raise LimitReached(f"sparse files may have {MAX_SPARSE_CHUNKS} chunks in all")
        self._manifest = manifest
        self._phase = _Phase.DECIDING
        return [Decide(manifest, self._holes)]

    def chunk(self, path: int, chunk: Chunk) -> list[ReceiverEffect]:
        """A chunk came on ``path``.

        Raises:
            ProtocolBreach: chunks are not welcome now.
            ChunkRefused: outside the transfer or of the wrong length.
        """
        state = self._state_of(path, chunk.handle)
        if state.talk is not _Talk.OPEN or self._table is None:
            raise ProtocolBreach(f"a chunk came while {state.talk.value}")
        address = (chunk.file, chunk.index)
        number = self._table.number(address)
        if len(chunk.payload) != self._table.length(address):
            raise ChunkRefused(f"chunk {chunk.index} of file {chunk.file} has the wrong length")
        if self._phase is _Phase.REFUSED:
            return []
        if self._phase is not _Phase.RECEIVING or self._is_here(number, chunk.hash):
            state.acks.append(address)
            return []
        self._storing[number] = chunk.hash
        return [Store(path, chunk)]

    def _on_holes(self, path: int, state: _Path, holes: Holes) -> list[ReceiverEffect]:
        assert self._table is not None
        if self._phase is not _Phase.RECEIVING:
            return []
        state.told = judge(self._table, holes, state.told)
        effects: list[ReceiverEffect] = []
        for file, start, stop in holes.chunks:
            first, _ = self._table.file_range(file)
            wanted: list[int] = []
            for index in range(start, stop):
                digest = zero_hash(self._table.length((file, index)))
                if self._is_here(first + index, digest):
                    state.acks.append((file, index))
                else:
                    self._storing[first + index] = digest
                    wanted.append(index)
            effects += [StoreHole(path, *run) for run in runs([(file, index) for index in wanted])]
            if start == stop:
                effects.append(StoreHole(path, file, start, stop))
        return effects

    def _is_here(self, number: int, digest: bytes) -> bool:
        assert self._table is not None
        return number in self._have and self._table.hash(number) == digest

    def _on_final(self, state: _Path, final: Final) -> list[ReceiverEffect]:
        assert self._table is not None
        state.talk = _Talk.FINAL
        if self._phase is _Phase.PUBLISHED:
            return self._confirm()
        if self._phase is _Phase.PUBLISHING:
            return []
        if self._storing or self._have.total < self._table.total:
            raise ProtocolBreach("Final came before every chunk was acknowledged")
        root = self._table.root()
        if final.root != root:
            raise Damaged("the sender's root hash is not the receiver's; what arrived is kept and not published")
        self._phase = _Phase.PUBLISHING
        self._root = root
        return [Publish(root)]

    # -- from the caller -----------------------------------------------------------------------------------------

    def accepted(self, have: Mapping[ChunkAddress, bytes]) -> list[ReceiverEffect]:
        """The user said yes, the disk is ready; ``have`` holds the hashes of chunks that are durable here already."""
        assert self._manifest is not None
        self._phase = _Phase.RECEIVING
        self._table = ChunkTable(self._manifest)
        for address, digest in have.items():
            self._add(address, digest)
        return [effect for path in self._paths for effect in self._accept(path)]

    def already_published(self, root: bytes) -> list[ReceiverEffect]:
        """An earlier run published everything, but the sender does not know it yet."""
        self._root = root
        self._phase = _Phase.PUBLISHED
        for state in self._paths.values():
            state.talk = _Talk.FINAL
        return self._confirm()

    def refused(self, error: P2pxferError) -> list[ReceiverEffect]:
        """The user said no, or the disk cannot take it, now or in the middle."""
        self._phase = _Phase.REFUSED
        self._refusal = (error.word, error.message[:1000])
        word, message = self._refusal
        return [
            Send(path, Refuse(handle=state.handle, word=word, message=message)) for path, state in self._paths.items()
        ]

    def stored(self, path: int, address: ChunkAddress, digest: bytes) -> None:
        """The chunk was verified and written; its acknowledgement waits for :meth:`take_acks`."""
        assert self._table is not None
        self._storing.pop(self._table.number(address), None)
        self._add(address, digest)
        state = self._paths.get(path)
        if state is not None:
            state.acks.append(address)

    def stored_hole(self, path: int, file: int, first: int, stop: int) -> None:
        """These chunks are zero on the disk."""
        assert self._table is not None
        for index in range(first, stop):
            self.stored(path, (file, index), zero_hash(self._table.length((file, index))))

    def damaged(self, address: ChunkAddress) -> None:
        """The chunk did not match its hash.

        Raises:
            ChunkRefused: always; the path that brought it is to be dropped.
            Damaged: once too often; the session is to be ended.
        """
        assert self._table is not None
        self._storing.pop(self._table.number(address), None)
        self._bad += 1
        if self._bad >= MAX_BAD_CHUNKS:
            raise Damaged("the sender's data does not match its own hashes; what arrived whole is kept")
        raise ChunkRefused(f"chunk {address[1]} of file {address[0]} does not match its hash")

    def published_all(self) -> list[ReceiverEffect]:
        """Everything is in its place and durable."""
        self._phase = _Phase.PUBLISHED
        return self._confirm()

    def take_acks(self, path: int) -> list[Send]:
        """Acknowledgements that wait for ``path``, as messages."""
        state = self._paths.get(path)
        if state is None or not state.acks:
            return []
        acks, state.acks = state.acks, []
        joined = list(runs(acks))
        return [
            Send(path, Ack(handle=state.handle, chunks=joined[at : at + ACKS_PER_MESSAGE]))
            for at in range(0, len(joined), ACKS_PER_MESSAGE)
        ]

    # -- helpers -------------------------------------------------------------------------------------------------

    def _add(self, address: ChunkAddress, digest: bytes) -> None:
        assert self._table is not None
        number = self._table.number(address)
        if number not in self._have:
            self._have.add(number, number + 1)
            self.have_bytes += self._table.length(address)
        self._table.set_hash(number, digest)

    def _confirm(self) -> list[ReceiverEffect]:
        return [
            Send(path, FinalAck(handle=state.handle, root=self._root))
            for path, state in self._paths.items()
            if state.talk is _Talk.FINAL
        ]

    def _accept(self, path: int) -> Iterator[ReceiverEffect]:
        state = self._paths[path]
        state.talk = _Talk.OPEN
        assert self._table is not None
        *most, last = pages(self._table, self._have)
        for page in most:
            yield Send(path, Accept(handle=state.handle, instance=self._instance, have=page, last=False))
        yield Send(path, Accept(handle=state.handle, instance=self._instance, have=last, rate=self._rate))
