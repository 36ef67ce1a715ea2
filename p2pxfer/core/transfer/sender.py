"""The sending side of one transfer: what is missing at the receiver, and the dialogue on each path.

Laws of this file:

1. One set of chunks (:mod:`p2pxfer.core.transfer.outflow`), many paths: every path holds the dialogue of
   :mod:`p2pxfer.core.session.wire` for itself.
2. A claim of the receiver counts only when the digest over the claimed chunks equals the digest of this side's own
   hashes.  Hashes of an earlier run come from a record; what the record lacks is read and hashed again.
3. A page that is listed meanwhile is told when :meth:`SenderCore.grow` has brought what is known of its files; pages
   that were there at the begin are told at once, with what was looked up by then, and law 2 makes good what was not.
   A chunk may be sent when the page of its file was answered (:mod:`p2pxfer.core.transfer.listing`); the list may still
   grow then.
4. What an earlier receiving process acknowledged does not count once another one has accepted; of two processes the one
   on the newer path (the higher number) is the later one.
5. Final goes out when every page was answered and every chunk is acknowledged, and the transfer is done when FinalAck
   shows the same root.  The end of a stream means nothing.

The caller lists, reads and hashes files; no content comes here.  Calls return the effects to carry out, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from p2pxfer.core.codec import Message
from p2pxfer.core.session.restwire import Part
from p2pxfer.core.session.wire import Accept, Ack, Final, FinalAck, Have, Listed, Refuse, WantPage
from p2pxfer.core.text import safe_text
from p2pxfer.core.transfer.announcing import offer, tally
from p2pxfer.core.transfer.chunkhashes import ChunkHashes
from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.transfer.claims import judge
from p2pxfer.core.transfer.holes import HolesByFile, HoleTeller
from p2pxfer.core.transfer.listing import ListTeller
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.outflow import Outflow
from p2pxfer.core.transfer.rests import Rests
from p2pxfer.core.transfer.sendeffect import AcceptedByPeer, Finished, HashChunks, Send, SenderEffect
from p2pxfer.errors import ChunkRefused, Damaged, ProtocolBreach, from_wire

TALLY_PAGES = 16
"""After so many pages the receiver is told again how much there is."""


class _Talk(Enum):
    OFFERED = "the answer to the offer is awaited"
    OPEN = "chunks may flow"
    FINAL = "the answer to Final is awaited"
    STALE = "another process receives now"


class SenderCore:
    """One transfer of ``manifest`` under ``handle``; ``known`` holds hashes of chunks that earlier runs sent.

    Chunks in ``holes`` are told and not sent.  The first page of the manifest has to be there.  ``delta``: ask for
    older versions of the files.
    """

    def __init__(
        self, handle: int, manifest: Manifest, known: Mapping[ChunkAddress, bytes], holes: HolesByFile | None = None,
        *, delta: bool = False,
    ) -> None:  # fmt: skip
        self._handle = handle
        self._delta = delta
        self._manifest = manifest
        self._table = known.table.copy() if isinstance(known, ChunkHashes) else ChunkTable(manifest)
        self._table.grow()  # more may have been listed since these were looked up
        self._holes = HoleTeller(handle, self._table, {})
        self._flow = Outflow(self._table, self._holes)
        self._list = ListTeller(handle, manifest)
        self.rests = Rests(self._table)
        self._talks: dict[int, _Talk] = {}
        self._instance: bytes | None = None
        self._newest = 0
        self._claimed: dict[int, int] = {}
        self._unproved: list[Have] = []
        self._early_root: bytes | None = None
        self.finished = False
        self._take_in(() if isinstance(known, ChunkHashes) else known.items(), holes or {})

    def _take_in(self, known: Iterable[tuple[ChunkAddress, bytes]], holes: HolesByFile) -> None:
        for address, digest in known:
            self._table.set_hash(self._table.number(address), digest)
        self._holes.grow(holes)

    def grow(self, known: Iterable[tuple[ChunkAddress, bytes]], holes: HolesByFile) -> list[SenderEffect]:
        """Pages were added to the manifest, with these hashes and holes of the files that they list."""
        self._table.grow()
        self._list.grow()
        self._take_in(known, holes)
        effects: list[SenderEffect] = [*self._list.take()]
        if self._list.complete or self._list.pages % TALLY_PAGES == 0:
            now = tally(self._handle, self._list, self._table, self._holes.bytes)
            effects += [Send(path, now) for path, talk in self._talks.items() if talk is not _Talk.STALE]
        return effects + self._final_if_complete()

    @property
    def acked_bytes(self) -> int:
        """Bytes that the receiver has confirmed."""
        return self._manifest.total_bytes if self.finished else self._flow.acked_bytes

    # -- paths ---------------------------------------------------------------------------------------------------

    def open_path(self, path: int) -> list[SenderEffect]:
        """A greeted path: offer the transfer on it."""
        self._talks[path] = _Talk.OFFERED
        listed = tally(self._handle, self._list, self._table, self._holes.bytes)
        return [Send(path, offer(listed, self._manifest, more=self._list.pages > 1, delta=self._delta))]

    def close_path(self, path: int) -> list[SenderEffect]:
        """The path is gone: what was on its way there is missing again."""
        self._talks.pop(path, None)
        self._claimed.pop(path, None)
        self._list.lost(path)
        self._holes.lost(path)
        self._flow.lost(path)
        self.rests.lost(path)
        return [*self._list.take()]

    def is_open(self, path: int) -> bool:
        """Whether chunks may be sent on ``path``."""
        return self._talks.get(path) is _Talk.OPEN and self._list.begun(path)

    def take_holes(self, path: int) -> list[Send]:
        """What ``path``, which is open, is to be told of holes before chunks are sent on it."""
        return self._holes.take(path, self._flow.acked, self._list.files)

    # -- chunks --------------------------------------------------------------------------------------------------

    def next_chunk(self) -> ChunkAddress | None:
        """Take the next missing chunk out, to be read and sent; ``None`` when nothing is missing now."""
        number = self._flow.take()
        return None if number is None else self._table.address(number)

    def late_chunk(self, path: int) -> ChunkAddress | None:
        """Take a chunk out that another path is slow with, to be sent on ``path``, if nothing is missing."""
        number = self._flow.take_over(path) if self.is_open(path) else None
        return None if number is None else self._table.address(number)

    def is_there(self, file: int) -> bool:
        """Whether the receiver has confirmed all of a file."""
        start, stop = self._table.base(file), self._table.base(file + 1)
        return next(iter(self._flow.acked.missing(start, stop)), None) is None

    def is_told(self, file: int) -> bool:
        """Whether the receiver knows a file: another process may have taken over since it was read."""
        return file < self._list.files

    def _run(self, address: ChunkAddress, count: int) -> range:
        first = self._table.number(address)
        return range(first, first + count)

    def may_go(self, address: ChunkAddress, path: int, count: int = 1) -> bool:
        """Whether ``count`` chunks that were taken out are still to be sent on ``path``: not where they are under way
        already.
        """
        return any(self._flow.wants(number, path) for number in self._run(address, count))

    def drop_chunk(self, address: ChunkAddress, count: int = 1) -> None:
        """Chunks that were taken out are not sent now."""
        for number in reversed(self._run(address, count)):
            self._flow.put_back(number)

    def lacking(self, addresses: Iterable[ChunkAddress], path: int | None = None) -> None:
        """The receiver could make nothing of these chunks as they were sent on ``path``, or anywhere."""
        for address in addresses:
            self._flow.lacking(self._table.number(address), path)

    def is_idle(self, path: int) -> bool:
        """No chunk is under way on ``path``."""
        return self._flow.is_idle(path)

    def length(self, address: ChunkAddress) -> int:
        """Payload bytes of a chunk."""
        return self._table.length(address)

    def chunk_read(self, address: ChunkAddress, digests: bytes) -> None:
        """The chunk was read, and those behind it as far as there are BLAKE3 hashes in ``digests``."""
        self._table.set_run(self._table.number(address), digests)
        self._table.fold()

    def chunk_sent(self, address: ChunkAddress, path: int, count: int = 1) -> None:
        """``count`` chunks, taken with :meth:`next_chunk`, were written to ``path``."""
        for number in self._run(address, count):
            self._flow.sent(number, path, alive=path in self._talks)

    def hashed(self) -> list[SenderEffect]:
        """Every chunk of a :class:`HashChunks` effect was given to :meth:`chunk_read`."""
        unproved, self._unproved = self._unproved, []
        for have in unproved:
            if all(self._table.known.contains(*span) for span in have.ranges):
                self._prove(have)
            else:
                self._unproved.append(have)  # of another effect, which is still read
        root = self._early_root
        return self._final_if_complete() if root is None else self._check_root(root)

    # -- messages ------------------------------------------------------------------------------------------------

    def receive(self, path: int, message: Message) -> list[SenderEffect]:
        """A transfer message came on ``path``.

        Raises:
            ProtocolBreach: it is not legal now, or names another transfer.
            Damaged: the receiver's root is not ours.
            P2pxferError: the receiver refused, with its word.
        """
        talk = self._talks.get(path)
        if talk is None or getattr(message, "handle", self._handle) != self._handle:
            raise ProtocolBreach("the receiver speaks of a transfer that was not offered on this path")
        match talk, message:
            case _Talk.STALE, _:
                return []
            case _Talk.OFFERED, Accept():
                return self._on_accept(path, message)
            case _Talk.OPEN, Listed():
                return self._on_listed(path, message)
            case _Talk.OPEN, WantPage():
                self._list.wanted(path, message.page)
                return [*self._list.take()]
            case _, Refuse():
                raise from_wire(message.word, f"the receiver refused: {safe_text(message.message)}")
            case ((_Talk.OPEN | _Talk.FINAL), Ack()):
                return self._on_ack(path, message)
            case ((_Talk.OPEN | _Talk.FINAL), Part()):
                self.rests.told(path, message)
                return []
            case _Talk.FINAL, FinalAck():
                return self._check_root(message.root)
            case _Talk.OFFERED, FinalAck():
                return self._on_early_final_ack(message.root)
            case _:
                raise ProtocolBreach(f"{type(message).__name__} came while {talk.value}")

    def _on_accept(self, path: int, message: Accept) -> list[SenderEffect]:
        fresh = message.instance != self._instance
        if fresh and path < self._newest:
            self._talks[path] = _Talk.STALE
            return []
        if fresh:
            self._instance = message.instance
            self._retire_talks()
            self._forget_acknowledged()
        self._newest = max(self._newest, path)
        self._talks[path] = _Talk.OPEN
        self._list.accepted(path, message.pages)
        effects: list[SenderEffect] = []
        if fresh:
            effects.append(AcceptedByPeer(message.have_bytes, message.rate, message.older))
        return [*effects, *self._list.take()]

    def _on_listed(self, path: int, message: Listed) -> list[SenderEffect]:
        page = message.page
        if not self._list.expects(path, page):
            raise ProtocolBreach("the receiver speaks of a page of the file list that was not told")
        start, stop = (self._table.base(self._manifest.files_before(number)) for number in (page, page + 1))
        at = self._claimed.pop(path, start)
        for have in message.have:
            at = judge(have, at, stop)
        effects = self._take_claims(path, message.have)
        if message.last:
            self._list.answered(path, page)
            self._flow.limit = self._table.base(self._list.files)
        else:
            self._claimed[path] = at
        return [*effects, *self._list.take(), *self._final_if_complete()]

    def _retire_talks(self) -> None:
        """The process at the other end of these paths has died; what it still says came too late."""
        for path, talk in self._talks.items():
            if talk in (_Talk.OPEN, _Talk.FINAL):
                self._talks[path] = _Talk.STALE
                self._claimed.pop(path, None)
                self._flow.lost(path)
                self.rests.lost(path)

    def _forget_acknowledged(self) -> None:
        """Another process receives now: only what it claims is there."""
        self._unproved.clear()
        self._list.forget()
        self._holes.forget()
        self._flow.forget_acknowledged()

    def _take_claims(self, path: int, claims: list[Have]) -> list[SenderEffect]:
        unknown: list[ChunkAddress] = []
        for have in claims:
            for span in have.ranges:
                self._flow.acknowledge(*span, path)
            lacking = [span for each in have.ranges for span in self._table.known.missing(*each)]
            if lacking:
                unknown += [self._table.address(number) for span in lacking for number in range(*span)]
                self._unproved.append(have)
            else:
                self._prove(have)
        return [HashChunks(tuple(unknown))] if unknown else []

    def _prove(self, have: Have) -> None:
        if self._table.claim_digest(have.ranges) == have.digest:
            return
        # Another path may have made the same claim, which was refuted already.
        for span in have.ranges:
            self._flow.refute(*span)

    def _on_ack(self, path: int, message: Ack) -> list[SenderEffect]:
        limit = left = self._table.base(self._list.files)
        for start, stop in message.chunks:
            if not start < stop <= limit:
                raise ChunkRefused("the receiver acknowledges chunks that are not part of the transfer")
            left -= stop - start
            if left < 0:
                raise ProtocolBreach("the receiver acknowledges more chunks at once than there are")
            self._flow.acknowledge(start, stop, path)
        self.rests.acknowledged(self._flow.acked)
        return self._final_if_complete()

    # -- the end -------------------------------------------------------------------------------------------------

    def _final_if_complete(self) -> list[SenderEffect]:
        if self._unproved or not self._list.complete or self._flow.acked.total < self._table.total:
            return []
        ready = [path for path, talk in self._talks.items() if talk is _Talk.OPEN and self._list.done(path)]
        root = self._table.root() if ready else b""
        for path in ready:
            self._talks[path] = _Talk.FINAL
        return [Send(path, Final(handle=self._handle, root=root)) for path in ready]

    def _on_early_final_ack(self, root: bytes) -> list[SenderEffect]:
        """The receiver published in an earlier run; prove the root with our own hashes before believing it."""
        if not self._list.complete or self._list.pages > 1:
            raise ProtocolBreach("the receiver confirms a file list of which it was told the first page only")
        lacking = [number for number in range(self._table.total) if number not in self._table.known]
        if not lacking:
            return self._check_root(root)
        self._early_root = root
        return [HashChunks(tuple(self._table.address(number) for number in lacking))]

    def _check_root(self, root: bytes) -> list[SenderEffect]:
        if root != self._table.root():
            raise Damaged("the receiver's root hash is not the sender's; the transfer is not confirmed, send it again")
        self.finished = True
        return [Finished(root)]
