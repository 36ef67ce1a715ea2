"""The receiving side of one transfer: what is here, and the dialogue on each path.

Laws of this file:

1. Nothing is stored before the transfer was accepted, and nothing of a file before the page that lists it was judged.
2. A chunk is acknowledged after it was verified against its hash and written; never before.
3. FinalAck goes out after everything was published and made durable; the same answer is given again on every path
   that asks.  The end of a stream means nothing.
4. What comes on a path behind its Refuse is of no account; an offer is refused for the same reason.
5. Every path holds its own dialogue; all share one set of chunks, so a chunk that comes twice is harmless.  Of two
   attempts to send the one on the newer path counts: what comes of the other one fills gaps, and nothing else.
6. A file that is left out on a path is a file as any other until the Final of that path
   (:mod:`p2pxfer.core.transfer.ending`).

The caller decides, stores and publishes; calls return the effects to carry out, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from p2pxfer.core.codec import Message
from p2pxfer.core.session.deltawire import WantBasis
from p2pxfer.core.session.leftwire import LeftOut
from p2pxfer.core.session.restwire import Rest
from p2pxfer.core.session.transferwire import Accept, Final, Holes, Offer, Page, Refuse, Tally, WantPage
from p2pxfer.core.session.transferwire import Listed as ListedMessage
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.ending import Ending
from p2pxfer.core.transfer.inflow import Arrival, Incoming, Inflow
from p2pxfer.core.transfer.journal import Agreed
from p2pxfer.core.transfer.listing import Answer, ListTaker
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.parts import MIN_PART, Parts, PartsRoom
from p2pxfer.core.transfer.receiveeffect import Decide, Listed, ReceiverEffect, Relist, Store, TellBasis
from p2pxfer.core.transfer.receivestate import OVERTAKEN, Path, Phase, Senders, Talk, Total
from p2pxfer.core.transfer.sendeffect import Send
from p2pxfer.core.transfer.telling import hole_stored, take_holes, take_left
from p2pxfer.errors import ManifestRefused, P2pxferError, ProtocolBreach


class ReceiverCore:
    """A transfer, by its id; ``instance``: 16 random bytes of this process; for the rest see Accept and Parts."""

    def __init__(
        self, transfer: bytes, instance: bytes, rate: int = 0, least: int = MIN_PART, room: PartsRoom | None = None
    ) -> None:
        self._rate = rate
        self._transfer = transfer
        self._instance = instance
        self._phase = Phase.NEW
        self._paths: dict[int, Path] = {}
        self._senders = Senders()
        self.parts = Parts(self._paths, least, room)
        self._total = Total()
        self._manifest: Manifest | None = None
        self._list: ListTaker | None = None
        self._flow: Inflow | None = None
        self._end = Ending()
        self._refusal: tuple[str, str] | None = None
        self._older = False

    @property
    def manifest(self) -> Manifest | None:
        """What is being received, once it is known."""
        return self._manifest

    @property
    def have_bytes(self) -> int:
        """Verified bytes that are here, in this run and earlier ones."""
        return self._flow.have_bytes if self._flow is not None else 0

    @property
    def published(self) -> bool:
        """Everything is in its place."""
        return self._phase is Phase.PUBLISHED

    @property
    def outdated(self) -> bool:
        """What was published is another state of what is listed now."""
        return self._end.outdated

    @property
    def attached(self) -> int:
        """How many paths hold a dialogue."""
        return len(self._paths)

    # -- from the paths ------------------------------------------------------------------------------------------

    def close_path(self, path: int) -> None:
        """The path is gone."""
        self._paths.pop(path, None)
        self.parts.lost(path)

    def receive(self, path: int, message: Message) -> list[ReceiverEffect]:
        """A transfer message came on ``path``.

        Raises:
            ProtocolBreach: not legal now, or a hostile manifest.
        """
        if isinstance(message, Offer):
            return self._on_offer(path, message)
        state = self._state_of(path, getattr(message, "handle", None))
        if self._phase is Phase.REFUSED:
            return []
        if isinstance(message, (Holes, Final)) and self._phase is Phase.RECEIVING and self._senders.is_late(state):
            raise ProtocolBreach(OVERTAKEN)
        match state.talk, message:
            case _, Tally():
                return [self._total.said(state, message)]
            case Talk.OPEN, Page():
                return self._on_page(path, state, message)
            case Talk.OPEN, WantBasis():
                return [TellBasis(path, message)]
            case Talk.OPEN, Holes():
                return self._on_holes(path, state, message)
            case Talk.OPEN, LeftOut():
                return self._on_left_out(state, message)
            case ((Talk.OPEN | Talk.FINAL), Final()):
                return self._on_final(state, message)
            case _:
                raise ProtocolBreach(f"{type(message).__name__} came while {state.talk.value}")

    def _state_of(self, path: int, handle: int | None) -> Path:
        state = self._paths.get(path)
        if state is None or state.handle != handle:
            raise ProtocolBreach("the sender speaks of a transfer that was not offered on this path")
        return state

    def _on_offer(self, path: int, offer: Offer) -> list[ReceiverEffect]:
        if path in self._paths:
            raise ProtocolBreach("a second offer on one path")
        begun, refused = self._phase is Phase.RECEIVING, self._phase is Phase.REFUSED
        if self._list is not None and not refused and self._list.ends_elsewhere(offer.more, begun=begun):
            return self._relist(path)
        self._paths[path] = state = self._senders.offered(path, offer)
        announced = self._total.said(state, offer)
        match self._phase:
            case Phase.NEW:
                return [announced, self._first_offer(state, offer)]
            case Phase.DECIDING:
                return [announced]
            case Phase.REFUSED:
                word, message = self._refusal or ("E_DENIED", "refused")
                return [Send(path, Refuse(handle=offer.handle, word=word, message=message))]
            case Phase.PUBLISHED if self._is_short():
                state.talk = Talk.FINAL
                return [announced, Send(path, self._end.confirmation(offer.handle))]
            case _:
                return [announced, *self._accept(path)]

    def _first_offer(self, state: Path, offer: Offer) -> Decide:
        manifest = Manifest()
        manifest.add(offer.page, more=offer.more)
        if manifest.transfer_id != self._transfer:
            raise ManifestRefused("the file list is not the one that was offered")
        state.judge(len(manifest.sizes), manifest.total_bytes)
        self._manifest, self._list = manifest, ListTaker(manifest)
        self._phase = Phase.DECIDING
        return Decide(manifest, offer.delta)

    def _listed(self, state: Path) -> ReceiverEffect:
        """Hold what is listed on a path against what was said there, and announce what is known of the whole list."""
        assert self._manifest is not None and self._flow is not None
        # What other paths or runs brought may be of a list that was longer.
        files = self._manifest.files_before(state.heard.next)
        return self._total.listed(state, files, self._flow.table.bytes_of(files))

    def _is_short(self) -> bool:
        """Whether the offer brings the whole list."""
        assert self._manifest is not None
        return self._manifest.complete and self._manifest.pages == 1

    def _on_page(self, path: int, state: Path, page: Page) -> list[ReceiverEffect]:
        assert self._list is not None
        match self._list.take(page, state.heard):
            case Answer.STALE:
                return []
            case Answer.WANTED:
                return [Send(path, WantPage(handle=state.handle, page=page.page))]
            case Answer.KNOWN:
                return [self._listed(state), *self._answer(path, page.page)]
            case Answer.NEW:
                assert self._flow is not None
                self._flow.grow(sparse=self._total.holes > 0)
                return [self._listed(state), Listed(page.page), *self._answer(path, page.page)]
            case _:
                return self._relist(path)

    def _relist(self, path: int) -> list[ReceiverEffect]:
        """What was listed and stored from some page on is of another state of the files; so are the other paths."""
        assert self._list is not None
        if not self._senders.may_list_anew(path):
            raise ProtocolBreach("the sender lists other files now")
        self._end.outdated = self._end.begun or self._phase is Phase.PUBLISHED
        if self.outdated or self._phase is not Phase.RECEIVING:
            raise ProtocolBreach("other files are listed than those that were received")
        others = tuple(other for other in self._paths if other != path)
        for other in others:
            del self._paths[other]
        self.parts.end()  # the manifest is cut in a thread, until relisted()
        return [Relist(self._list.cut, others)]

    def _answer(self, path: int, page: int) -> Iterator[Send]:
        """Say that a page is known, and what is here of its files."""
        assert self._flow is not None
        handle = self._paths[path].handle
        yield from self.parts.tell(path, *self._flow.chunks_of(page))
        *most, last = self._flow.claims(page)
        for portion in most:
            yield Send(path, ListedMessage(handle=handle, page=page, have=portion, last=False))
        yield Send(path, ListedMessage(handle=handle, page=page, have=last))

    def chunk(self, path: int, chunk: Arrival) -> list[ReceiverEffect]:
        """A chunk, what it is to be made of, or a bundle came on ``path``.

        Raises ``ProtocolBreach`` where none is welcome, ``ChunkRefused`` for one that is not part of the transfer.
        """
        state = self._state_of(path, chunk.handle)
        if state.talk is not Talk.OPEN or self._flow is None or self._list is None:
            raise ProtocolBreach(f"a chunk came while {state.talk.value}")
        numbers = self._flow.numbers_of(chunk, self._list.files)
        if self._phase is Phase.REFUSED:
            return []
        if self._senders.is_late(state) and self._may_want(numbers) and self._flow.replaces(chunk, numbers):
            raise ProtocolBreach(OVERTAKEN)
        if self._may_want(numbers) and self._flow.wants_any(chunk, numbers):
            return [*self.parts.join(path, numbers.start, chunk)] if isinstance(chunk, Rest) else [Store(path, chunk)]
        state.acks.add(numbers.start, numbers.stop)
        return []

    def _on_holes(self, path: int, state: Path, holes: Holes) -> list[ReceiverEffect]:
        assert self._flow is not None and self._list is not None
        return [*take_holes(path, state, holes, self._flow, self._list.files, self._may_want)]

    def _may_want(self, numbers: range) -> bool:
        return self._phase is Phase.RECEIVING and self._end.needs(numbers)

    def _on_left_out(self, state: Path, message: LeftOut) -> list[ReceiverEffect]:
        assert self._manifest is not None and self._flow is not None
        take_left(state, message, self._flow.table, self._manifest.files_before(state.heard.next))
        return []

    def _on_final(self, state: Path, final: Final) -> list[ReceiverEffect]:
        assert self._flow is not None and self._list is not None
        state.talk = Talk.FINAL
        if self._phase is Phase.PUBLISHED:
            return self._end.confirm(self._paths)
        if self._phase is Phase.PUBLISHING:
            return []
        if not self._list.complete:
            raise ProtocolBreach("Final came before the whole list was told")
        effects: list[ReceiverEffect] = [self._end.judge(final, state.left, self._flow)]
        self._phase, self._list.closed = Phase.PUBLISHING, True
        return effects

    # -- from the caller -----------------------------------------------------------------------------------------

    def accepted(
        self, have: Mapping[ChunkAddress, bytes], *, published: bool = False, begun: bool = False, older: bool = False,
        agreed: Agreed | None = None,
    ) -> list[ReceiverEffect]:  # fmt: skip
        """The user said yes, the disk is ready; ``have`` holds the hashes of chunks that are durable here already.

        ``published``: an earlier run put everything in its place, and the sender does not know it; ``begun``: a part of
        it; ``agreed``: what that is; ``older``: the sender is told of older versions.  Raises ``LimitReached`` for too
        many chunks with holes.
        """
        self._phase = Phase.RECEIVING
        self._older = older
        self._begin(have, closed=published or begun)
        assert self._flow is not None
        self._end.stands(agreed, self._flow, published=published, begun=begun)
        return [effect for path in self._paths for effect in self._accept(path)]

    def _begin(self, have: Mapping[ChunkAddress, bytes], *, closed: bool = False) -> None:
        assert self._manifest is not None and self._list is not None
        self._list.closed = closed
        self._flow = Inflow(self._manifest, have)
        self._flow.grow(sparse=self._total.holes > 0)
        self.parts.renew(self._manifest, self._flow)

    def relisted(self, have: Mapping[ChunkAddress, bytes]) -> None:
        """The manifest ends where the other list begins, and ``have`` is what is left; the path may go on."""
        assert self._list is not None
        self._list.forget()
        self._begin(have)

    def already_published(self, agreed: Agreed) -> list[ReceiverEffect]:
        """An earlier run published everything, but the sender does not know it yet."""
        self._end.published(agreed)
        self._phase = Phase.PUBLISHED
        for state in self._paths.values():
            state.talk = Talk.FINAL
        return self._end.confirm(self._paths)

    def refused(self, error: P2pxferError) -> list[ReceiverEffect]:
        """The user said no, or the disk cannot take it, now or in the middle."""
        self._phase = Phase.REFUSED
        self._refusal = (error.word_abroad or error.word, error.abroad[:1000])
        word, message = self._refusal
        return [Send(path, Refuse(state.handle, word, message)) for path, state in self._paths.items()]

    def stored(self, path: int, chunk: Incoming) -> None:
        """It was verified and written; its acknowledgement waits for :meth:`take_acks`."""
        assert self._flow is not None
        numbers = self._flow.stored_all(chunk)
        self._acknowledge(path, numbers)

    def stored_hole(self, path: int, file: int, first: int, stop: int) -> None:
        """These chunks are zero on the disk."""
        assert self._flow is not None
        self._acknowledge(path, hole_stored(self._flow.stored_hole(file, first, stop), self._paths.values()))

    def _acknowledge(self, path: int, numbers: range) -> None:
        for on, here in [(path, numbers), *self.parts.drop(numbers)]:
            if on in self._paths:
                self._paths[on].acks.add(here.start, here.stop)

    def damaged(self, chunk: Incoming) -> None:
        """It did not match its hash; raises as :meth:`~p2pxfer.core.transfer.inflow.Inflow.damaged`."""
        assert self._flow is not None
        self._flow.damaged(chunk)

    def lacking(self, address: ChunkAddress) -> None:
        """The chunk cannot be made of what came; raises as :meth:`~p2pxfer.core.transfer.inflow.Inflow.lacking`."""
        assert self._flow is not None
        self._flow.lacking(address)

    def published_all(self) -> list[ReceiverEffect]:
        """Everything is in its place and durable."""
        self._phase = Phase.PUBLISHED
        return self._end.confirm(self._paths)

    def take_acks(self, path: int) -> list[Send]:
        """Acknowledgements that wait for ``path``, as messages."""
        state = self._paths.get(path)
        return [Send(path, ack) for ack in state.take_acks()] if state is not None else []

    # -- helpers -------------------------------------------------------------------------------------------------

    def _accept(self, path: int) -> Iterator[ReceiverEffect]:
        state = self._paths[path]
        state.talk = Talk.OPEN
        assert self._manifest is not None
        pages, have = self._manifest.pages, self.have_bytes
        yield Send(path, Accept(state.handle, self._instance, pages, have, self._rate, self._older))
        yield from self._answer(path, 0)
