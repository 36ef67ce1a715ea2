"""One transfer being received: joins the receiver's core, the paths and the disk.

Laws of this file:

1. Decisions are the core's; what it asks of the disk is in ``place`` and ``arriving``.
2. It ends in exactly one outcome: received, or one error.  Work that was under way then is let run out, and its result
   changes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.codec import Message
from p2pxfer.core.transfer.inflow import Arrival, wire_size
from p2pxfer.core.transfer.journal import Agreed
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.receiveeffect import (
    Announced,
    Decide,
    Listed,
    Publish,
    ReceiverEffect,
    Relist,
    Store,
    StoreHole,
    TellBasis,
)
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.sendeffect import Send
from p2pxfer.errors import BeyondOffer, Incomplete, NoMemory, P2pxferError, ProtocolBreach
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.staging.trouble import unforeseen
from p2pxfer.net.transfer.arriving import Arriving
from p2pxfer.net.transfer.backlog import Backlog
from p2pxfer.net.transfer.consent import Consent
from p2pxfer.net.transfer.landing import DiskThreads
from p2pxfer.net.transfer.listbudget import ListBudget
from p2pxfer.net.transfer.places import Place, Received, Storage, received
from p2pxfer.net.transfer.site import FATAL, Site
from p2pxfer.net.transfer.tally import Tally
from p2pxfer.net.types import Reactor
from p2pxfer.status import Accepted, Event, Offer


class IncomingTransfer:
    """One transfer from one sender, over any number of paths.

    ``decide(offer)`` asks whether to take it; ``known``: the sender is a contact; ``tell`` gets events; ``done`` fires
    once, with what was received or the error that ended it; ``settled`` when the sender knows and the staging place is
    gone; ``confirmed`` is when it said so, in the reactor's time; ``bytes_by_path`` counts what was received by kind;
    ``tally`` hears when the user was told that the sender is away.
    """

    log = Logger()

    def __init__(
        self, reactor: Reactor, sender: bytes, transfer: bytes, instance: bytes, place: Place, paths: PathSet,
        disk: DiskThreads, decide: Callable[[Offer], Awaitable[bool]], tell: Callable[[Event], None],
        budget: ListBudget, limit: int = 0, *, known: bool = False,
    ) -> None:  # fmt: skip
        self._reactor = reactor
        self._paths = paths
        self._tell = tell
        self._core = ReceiverCore(transfer, instance, limit, room=budget.parts)
        self._site = Site(reactor, disk, place, sender, budget, partial(paths.hold, self), self._failed)
        self._arriving = Arriving(reactor, self._core, paths, self._failed, self._site.waits)
        self._backlog = Backlog(paths, self._is_over, self._failed)
        self.tally = Tally(tell)
        self._consent = Consent(decide, self.tally, self._is_over)
        self.sender, self.number, self._known = sender, transfer, known
        self._closing = False
        """Its place is being let go: nothing that comes is taken any more."""
        self.confirmed: float | None = None
        self.bytes_by_path: dict[str, int] = Counter()
        self.done: Deferred[Received] = Deferred()
        self.settled: Deferred[None] = Deferred()

    @property
    def manifest(self) -> Manifest | None:
        """What is being received, once it is known."""
        return self._core.manifest

    @property
    def offer(self) -> Offer | None:
        """What the sender offers, in numbers of now; ``None`` before that is known."""
        return self.tally.offer

    @property
    def have_bytes(self) -> int:
        """Verified bytes that are here, in this run and earlier ones."""
        return self._core.have_bytes

    @property
    def attached(self) -> int:
        """Paths that carry this transfer."""
        return self._core.attached

    @property
    def ended(self) -> bool:
        """It has its outcome."""
        return self.done.called

    @property
    def over(self) -> bool:
        """Nothing can come of it any more: an offer of the same files starts anew."""
        return self.ended and (self.confirmed is not None or not self._core.published or self._core.outdated)

    # -- from the paths ------------------------------------------------------------------------------------------

    def message(self, path: PeerPath, message: Message) -> None:
        """A transfer message came on ``path``.

        Raises:
            P2pxferError: see :meth:`~p2pxfer.core.transfer.receiver.ReceiverCore.receive`.
        """
        if self._closing or self._backlog.keeps(path, lambda: self.message(path, message)):
            return
        if self._consent.exceeded(message):
            self._backlog.begin(path, lambda: self.message(path, message))
            self._start(self._backlog.settle(self._ask_again(message)))
            return
        carried = self._core.attached
        try:
            effects = self._core.receive(path.facts.number, message)
        except P2pxferError as error:
            self._judge(error)
            raise
        except MemoryError as error:
            self._failed(Failure(error))  # the core stopped in the middle of it
            raise NoMemory from error
        if any(isinstance(effect, Relist) for effect in effects):
            # It is told again when there is room for it.
            self._backlog.begin(path, lambda: self.message(path, message))
        if not carried:
            self._arriving.brought(self.tally, self.bytes_by_path)
        self._carry_out(effects)
        self._arriving.acks_soon()  # for holes that are here already nothing need follow

    def chunk(self, path: PeerPath, chunk: Arrival) -> None:
        """A chunk, what it is to be made of, or a bundle came on ``path``.

        Raises:
            P2pxferError: see :meth:`~p2pxfer.core.transfer.receiver.ReceiverCore.chunk`.
        """
        if self._closing or self._backlog.keeps(path, lambda: self.chunk(path, chunk)):
            return
        self.bytes_by_path[path.facts.kind] += wire_size(chunk)
        self._paths.carried(path, wire_size(chunk))
        if effects := self._core.chunk(path.facts.number, chunk):
            self._carry_out(effects)  # it is acknowledged when it is stored
        else:
            self._arriving.acks_soon()

    def _judge(self, error: P2pxferError) -> None:
        """A message was refused: whether that ends more than its path."""
        if self._core.outdated:
            # The sender has other files now, and offers them on its next path.
            self._end(Incomplete("the sender did not hear of the end, and has other files now"))
            self._start(self.close(discard=True))
        elif self.manifest is None:
            self._end(error)  # nothing was begun, and nothing will come of it
        elif isinstance(error, FATAL):
            self._failed(Failure(error), discard=not isinstance(error, BeyondOffer))

    def forgotten(self) -> None:
        """Nobody asks for it any more: what its list takes is free for others."""
        self._site.forgotten()

    def close_path(self, path: PeerPath) -> None:
        """A path is gone."""
        if came := self._arriving.close_path(path):
            self.bytes_by_path[path.facts.kind] += came

    def _carry_out(self, effects: list[ReceiverEffect]) -> None:
        landing = self._site.landing
        for effect in effects:
            match effect:
                case Send():
                    self._arriving.send(effect)
                case Announced():
                    self._announce(effect)
                case Decide():
                    self._start(self._open(effect.manifest, asked=effect.delta and self._known))
                case Listed():
                    self._listed(effect.page)
                case Relist():
                    self._relist(effect)
                case Store() | StoreHole() if landing is not None:
                    self._arriving.store(landing, effect)
                case TellBasis():
                    self._arriving.tell_basis(effect)
                case Publish():
                    self._start(self._publish(effect.agreed))

    def _start(self, work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        return Deferred.fromCoroutine(work).addErrback(self._failed)

    # -- the decision --------------------------------------------------------------------------------------------

    async def _open(self, manifest: Manifest, *, asked: bool) -> None:
        self.tally.offered(manifest)
        # Its names are judged before the user is asked and before anything is created.
        staging = await self._site.open(manifest, self.tally.announced, asked=asked)
        published = staging.agreed if staging.published_root is not None else None
        if published is not None and manifest.complete and manifest.pages == 1:
            self._carry_out(self._core.already_published(published))
            self._end(received(manifest, published, staging.published_names))
        elif self._is_over():
            await self._site.close()
        elif await self._consent.ask():
            self._accept(staging)
        else:
            await self._refuse(discard=not staging.have)

    async def _ask_again(self, message: Message) -> None:
        """A path offers more than was agreed to."""
        if not await self._consent.ask_again(message):
            await self._refuse(discard=False)

    def _is_over(self) -> bool:
        return self.ended or self._closing

    def _accept(self, staging: Storage) -> None:
        if self._is_over():
            return
        self._site.agreed()
        self._tell(Accepted())
        older = self._arriving.rebuilding = self._site.rebuilding(self._paths)
        have, begun, agreed, all_done = staging.have, staging.begun, staging.agreed, staging.published_root is not None
        tells = older is not None
        self._carry_out(self._core.accepted(have, published=all_done, begun=begun, older=tells, agreed=agreed))
        self.tally.here(self._core.have_bytes)

    # -- the list ------------------------------------------------------------------------------------------------

    def _announce(self, announced: Announced) -> None:
        """Raises :class:`~p2pxfer.errors.BeyondOffer` where it is more than was agreed to."""
        try:
            self._consent.check(announced)
        except P2pxferError as error:
            self._failed(Failure(error))
            raise
        if announced == self.tally.announced:
            return
        self.tally.says(announced, self.manifest)
        if not self.ended:
            self._site.announce(announced)

    def _listed(self, page: int) -> None:
        """Raises :class:`~p2pxfer.errors.P2pxferError` for names or a length that are not taken here."""
        assert self.manifest is not None
        try:
            self._site.listed(self.manifest, page)
        except P2pxferError as error:
            self._failed(Failure(error), discard=True)
            raise

    def _relist(self, effect: Relist) -> None:
        """Let go of what belongs to another state of the files, and go on from there."""
        manifest = self.manifest
        assert manifest is not None
        for other in filter(None, map(self._paths.get, effect.others)):
            other.refuse(ProtocolBreach("the sender lists other files now"))
        self._start(self._backlog.settle(self._reopen(manifest, effect.keep)))

    async def _reopen(self, manifest: Manifest, pages: int) -> None:
        await self._site.close()
        if self._is_over():
            return
        staging = await self._site.reopen(manifest, self.tally.announced, pages)
        if self._is_over():
            await self._site.close()
            return
        self._site.renew(self._arriving.rebuilding)
        self._core.relisted(staging.have)

    async def _refuse(self, *, discard: bool) -> None:
        await self._site.close(discard=discard)
        if not self.ended:
            self._refused(self._consent.denied or self.tally.refused())

    def _refused(self, error: P2pxferError) -> None:
        """End, and tell the sender on all paths: on those whose offer waits too, before whoever hears closes them."""
        self._consent.withdraw()
        self._carry_out(self._core.refused(error))
        self._backlog.release()
        self._end(error)

    async def _publish(self, agreed: Agreed) -> None:
        landing = self._site.landing
        assert landing is not None
        await landing.settle()
        if self._is_over():
            return
        names = await landing.publish(agreed, time.time())
        self._paths.finish()
        assert self.manifest is not None
        self.tally.count(self.manifest)
        self._carry_out(self._core.published_all())
        self._end(received(self.manifest, agreed, names))

    # -- the end -------------------------------------------------------------------------------------------------

    def _failed(self, failure: Failure, *, discard: bool = False) -> None:
        """The disk, the sender's list, or a fault of the program: tell the sender and end; ``discard`` what is here."""
        error = failure.value
        if not isinstance(error, P2pxferError):
            self.log.failure("receiving failed", failure)
            error = unforeseen("receiving", error)
        if not self.ended:
            self._refused(error)
            self._start(self.close(discard=discard))

    def _end(self, outcome: Received | P2pxferError) -> None:
        if self.ended:
            return
        self._arriving.end()
        if isinstance(outcome, Received):
            self.done.callback(outcome)
        else:
            self.done.errback(outcome)

    def confirm(self) -> None:
        """The sender knows that everything is here: the staging place is not needed any more."""
        if self._core.published and self._site.landing is not None and self.confirmed is None:
            self.confirmed = self._reactor.seconds()
            discarding = Deferred.fromCoroutine(self._site.close(discard=True))
            discarding.addErrback(lambda failure: self.log.failure("removing the staging place", failure))
            discarding.addCallback(self.settled.callback)

    def abandon(self) -> Deferred[None]:
        """The sender has not come back for too long: end, and keep what is here for its next offer; fires then."""
        if not self.ended:
            self._end(Incomplete("the sender has not come back; what arrived is kept and goes on when it sends again"))
        return self._start(self.close())

    async def close(self, *, discard: bool = False) -> None:
        """Let the staging place go; what is here is kept for a later run, unless ``discard`` or nobody agreed."""
        self._closing = True
        await self._site.close(discard=discard or (self._consent.awaited and self._site.fresh))
