"""The durability of one incoming transfer: what was written is synced in batches.

Laws of this file:

1. One batch at a time: data first, journal behind it.  The journal has the order of the writing, for chunks and holes
   alike: of what is written twice the last counts.
2. A failed sync is never repeated: the failure is told once, and everything afterwards meets it again.
3. It does not know what is written, nor when the staging place is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from p2pxfer.core.transfer.journal import Claim
from p2pxfer.net.types import Reactor

SYNC_BYTES = 4 * 1024 * 1024
"""A batch is synced when it holds this much, or :data:`SYNC_S` after its first chunk."""
SYNC_S = 0.25


class _State(Enum):
    COLLECTING = auto()
    SYNCING = auto()
    OVER = auto()
    """A sync failed, or the staging place is being closed: nothing is synced of itself any more."""


class _Batch(Struct):
    """What was written and is not durable yet, in the order of writing, with its ``size`` in bytes, and pages that are
    not journalled.
    """

    claims: list[Claim] = []
    pages: list[int] = []
    size: int = 0

    def __bool__(self) -> bool:
        return bool(self.claims or self.pages)


class Syncing:
    """Makes durable what :meth:`written` and :meth:`listed` tell of.

    ``sync(claims, pages)`` begins the work in a thread.  ``began`` and ``ended`` stand around each, and ``failed`` is
    told of the one that failed.
    """

    def __init__(
        self,
        reactor: Reactor,
        sync: Callable[[list[Claim], list[int]], Deferred[None]],
        began: Callable[[], None],
        ended: Callable[[], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._reactor = reactor
        self._sync = sync
        self._began = began
        self._ended = ended
        self._failed = failed
        self._state = _State.COLLECTING
        self._batch = _Batch()
        self._timer: IDelayedCall | None = None
        self.failure: Failure | None = None
        """What the sync failed with that did."""
        self.unsafe = 0
        """Bytes that a crash would cost, those of the sync under way with them."""

    @property
    def waits(self) -> bool:
        """Something was written, or listed, for which no sync has begun."""
        return bool(self._batch)

    def written(self, claims: list[Claim], size: int) -> None:
        """Chunks or holes were written, which count for ``size`` bytes."""
        self._batch.claims += claims
        self._batch.size += size
        self.unsafe += size
        self._sync_soon()

    def listed(self, page: int) -> None:
        """A page was added to the manifest: it is journalled before anything of its files."""
        self._batch.pages.append(page)
        self._sync_soon()

    def now(self) -> None:
        """Make durable what waits; nothing of it may be under way."""
        self._stop_timer()
        batch, self._batch = self._batch, _Batch()
        if self._state is _State.COLLECTING:
            self._state = _State.SYNCING
        self._began()
        self._sync(batch.claims, batch.pages).addBoth(self._synced, batch.size)

    def drop(self) -> None:
        """What waits can not be made durable any more."""
        self._batch = _Batch()

    def stop(self) -> None:
        """Sync nothing more of itself."""
        self._state = _State.OVER
        self._stop_timer()

    def _sync_soon(self) -> None:
        if self._state is not _State.COLLECTING:
            return
        if self.unsafe >= SYNC_BYTES:
            self.now()
        elif self._batch and self._timer is None:
            self._timer = self._reactor.callLater(SYNC_S, self.now)

    def _synced(self, result: Failure | None, size: int) -> None:
        self.unsafe -= size
        if isinstance(result, Failure):
            self._state = _State.OVER
            self.failure = result
            self._failed(result)
        elif self._state is _State.SYNCING:
            self._state = _State.COLLECTING
        self._sync_soon()
        self._ended()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
