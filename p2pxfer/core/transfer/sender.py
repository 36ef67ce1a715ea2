"""The sending side of one transfer: what is missing at the receiver, and the dialogue on each path.

Laws of this file:

1. One set of chunks (:mod:`p2pxfer.core.transfer.outflow`), many paths: every path holds the dialogue of
   :mod:`p2pxfer.core.session.transferwire` for itself.
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
6. A file that is left out (:mod:`p2pxfer.core.transfer.leaving`) is not waited for, whatever was acknowledged of it and
   whoever receives.  One of which everything is acknowledged and known is there; while that may yet come to light, it
   is in doubt.

The caller lists, reads and hashes files; no content comes here.  Calls return the effects to carry out, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from functools import partial

from p2pxfer.core.codec import Message
from p2pxfer.core.reported import from_receiver
from p2pxfer.core.session.restwire import Part
from p2pxfer.core.session.transferwire import Accept, Ack, Final, FinalAck, Listed, Refuse, WantPage
from p2pxfer.core.text import safe_text
from p2pxfer.core.transfer.announcing import offer, tally
from p2pxfer.core.transfer.chunkhashes import ChunkHashes
from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.transfer.claims import acknowledged, judge
from p2pxfer.core.transfer.holes import HolesByFile, HoleTeller
from p2pxfer.core.transfer.leaving import Leaving
from p2pxfer.core.transfer.listing import ListTeller
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.outflow import Outflow
from p2pxfer.core.transfer.proofs import Proofs, Published
from p2pxfer.core.transfer.rests import Rests
from p2pxfer.core.transfer.sendeffect import AcceptedByPeer, HashChunks, NothingLeft, Send, SenderEffect
from p2pxfer.errors import ProtocolBreach

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
    older versions of the files.  ``instance``: 16 random bytes of this attempt to send.
    """

    def __init__(
        self, handle: int, manifest: Manifest, known: Mapping[ChunkAddress, bytes], holes: HolesByFile | None = None,
        *, delta: bool = False, instance: bytes = b"",
    ) -> None:  # fmt: skip
        self._handle = handle
        self._offer = partial(offer, delta=delta, instance=instance)
        self._manifest = manifest
        self._table = known.table.copy() if isinstance(known, ChunkHashes) else ChunkTable(manifest)
        self._table.grow()  # more may have been listed since these were looked up
        self._holes = HoleTeller(handle, self._table, {})
        self._flow = Outflow(self._table, self._holes)
        self._proofs = Proofs(self._table, self._flow)
        self._list = ListTeller(handle, manifest)
        self._leaving = Leaving(handle, self._list)
        self.rests = Rests(self._table)
        self._talks: dict[int, _Talk] = {}
        self._instance: bytes | None = None
        self._newest = 0
        self._claimed: dict[int, int] = {}
        self._published = Published(self._table)
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
        return effects + (self._too_much() or self._final_if_complete())

    @property
    def finished(self) -> bool:
        """The receiver has published everything that is not left out, and that is proved."""
        return self._published.proved

    @property
    def acked_bytes(self) -> int:
        """Bytes that the receiver has confirmed."""
        left = sum(self._manifest.sizes[file] for file in self.left_out)
        return self._manifest.total_bytes - left if self.finished else self._flow.acked_bytes

    # -- paths ---------------------------------------------------------------------------------------------------

    def open_path(self, path: int) -> list[SenderEffect]:
        """A greeted path: offer the transfer on it."""
        self._talks[path] = _Talk.OFFERED
        listed = tally(self._handle, self._list, self._table, self._holes.bytes)
        return [Send(path, self._offer(listed, self._manifest, more=self._list.pages > 1))]

    def close_path(self, path: int) -> list[SenderEffect]:
        """The path is gone: what was on its way there is missing again."""
        self._talks.pop(path, None)
        self._claimed.pop(path, None)
        self._list.lost(path)
        self._leaving.lost(path)
        self._holes.lost(path)
        self._flow.lost(path)
        self.rests.lost(path)
        return [*self._list.take()]

    def is_open(self, path: int) -> bool:
        """Whether chunks may be sent on ``path``."""
        return self._talks.get(path) is _Talk.OPEN and self._list.begun(path)

    def take_holes(self, path: int) -> list[Send]:
        """What ``path``, which is open, is to be told of holes before chunks are sent on it."""
        return self._holes.take(path, self._flow.settled, self._list.files)

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
        return self._flow.acked.contains(*self._table.file_range(file))

    def is_told(self, file: int) -> bool:
        """Whether the receiver knows a file: another process may have taken over since it was read."""
        return file < self._list.files

    def _run(self, address: ChunkAddress, count: int) -> range:
        first = self._table.number(address)
        return range(first, first + count)

    def may_go(self, address: ChunkAddress, path: int, count: int = 1) -> bool:
        """Whether ``count`` chunks that were taken out are still to be sent on ``path``: not if under way there."""
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
        """Every chunk of a :class:`HashChunks` effect was given to :meth:`chunk_read`, or its file was left out."""
        self._proofs.judge()
        return [*self._published.prove()] or self._final_if_complete()

    # -- files that cannot be read -------------------------------------------------------------------------------

    @property
    def left_out(self) -> tuple[int, ...]:
        """In order: the files that this side leaves out; once :attr:`finished` those without which the receiver has
        published, which may be others.
        """
        return tuple(sorted(self._published.left or ())) if self.finished else self._leaving.files

    def leave_out(self, file: int) -> list[SenderEffect]:
        """This file changed since it was listed, or cannot be read; see law 6.

        Raises:
            DiskError: the receiver has published it, and that cannot be proved any more.
        """
        if not self._leave_out(file):
            return []
        return self._too_much() or [*self._leaving.take(), *self._final_if_complete()]

    def _leave_out(self, file: int) -> bool:
        start, stop = self._table.file_range(file)
        known = self._table.known.contains(start, stop)
        if known and (self._published.left is not None or self.is_there(file)):
            return False
        self._published.cannot_be_read(file, self._manifest.files[file].path)
        if known and self._leaving.doubt(file):
            self._flow.put_off(start, stop)
            return False
        if self.finished or not self._leaving.add(file):
            return False
        self._flow.leave_out(start, stop)
        self._table.pass_over(file)
        self._proofs.judge()
        return True

    def _too_much(self) -> list[SenderEffect]:
        return [NothingLeft()] if self._leaving.is_too_much(self._table.files) else []

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
                raise from_receiver(message.word, f"the receiver refused: {safe_text(message.message)}")
            case ((_Talk.OPEN | _Talk.FINAL), Ack()):
                return self._on_ack(path, message)
            case ((_Talk.OPEN | _Talk.FINAL), Part()):
                self.rests.told(path, message)
                return []
            case _Talk.FINAL, FinalAck():
                return [*self._published.say(message)]
            case _Talk.OFFERED, FinalAck():
                if not self._list.complete or self._list.pages > 1:
                    raise ProtocolBreach("the receiver confirms a file list of which it was told the first page only")
                return [*self._published.say(message)]
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
        self._leaving.opened(path)
        first = [AcceptedByPeer(message.have_bytes, message.rate, message.older)] if fresh else []
        return [*first, *self._list.take()]

    def _on_listed(self, path: int, message: Listed) -> list[SenderEffect]:
        page = message.page
        if not self._list.expects(path, page):
            raise ProtocolBreach("the receiver speaks of a page of the file list that was not told")
        start, stop = (self._table.base(self._manifest.files_before(number)) for number in (page, page + 1))
        at = self._claimed.pop(path, start)
        for have in message.have:
            at = judge(have, at, stop)
        lacking = self._proofs.take(path, message.have)
        if message.last:
            self._list.answered(path, page)
            self._flow.limit = self._table.base(self._list.files)
            for file in self._leaving.answered(path):
                self._flow.resume(*self._table.file_range(file))
                self._leave_out(file)
        else:
            self._claimed[path] = at
        told: list[SenderEffect] = [*self._list.take(), *self._leaving.take()]
        return told + (self._too_much() or ([HashChunks(lacking)] if lacking else self._final_if_complete()))

    def _retire_talks(self) -> None:
        """The process at the other end of these paths has died; what it still says came too late."""
        for path, talk in self._talks.items():
            if talk in (_Talk.OPEN, _Talk.FINAL):
                self._talks[path] = _Talk.STALE
                self._claimed.pop(path, None)
                self._leaving.lost(path)
                self._flow.lost(path)
                self.rests.lost(path)

    def _forget_acknowledged(self) -> None:
        """Another process receives now: only what it claims is there."""
        self._proofs.forget()
        self._published.forget()
        self._list.forget()
        self._holes.forget()
        self._flow.forget_acknowledged()

    def _on_ack(self, path: int, message: Ack) -> list[SenderEffect]:
        for span in acknowledged(message.chunks, self._table.base(self._list.files)):
            self._flow.acknowledge(*span, path)
        self.rests.acknowledged(self._flow.acked)
        return self._final_if_complete()

    # -- the end -------------------------------------------------------------------------------------------------

    def _final_if_complete(self) -> list[SenderEffect]:
        if self._proofs.pending or not self._list.complete or not self._flow.complete:
            return []
        ready = [path for path, talk in self._talks.items() if talk is _Talk.OPEN and self._list.done(path)]
        root = self._table.root(self._leaving.files) if ready else b""
        for path in ready:
            self._talks[path] = _Talk.FINAL
            self._leaving.lost(path)
        return [Send(path, Final(handle=self._handle, root=root)) for path in ready]
