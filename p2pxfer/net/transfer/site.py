"""Where one incoming transfer lands: the storage for its list of now, and what is not to be put there.

Laws:

- Names are judged once more for this place, page by page, before anything of their files is written.
- What the list takes in memory counts for its sender (:mod:`p2pxfer.net.transfer.listbudget`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.python.failure import Failure

from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import LimitReached, ManifestRefused
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.staging import unagreed
from p2pxfer.net.staging.owning import EVERYBODYS
from p2pxfer.net.staging.waitmark import WaitMark
from p2pxfer.net.transfer.landing import DiskThreads, Landing
from p2pxfer.net.transfer.listbudget import ListBudget
from p2pxfer.net.transfer.oldversions import OldVersions
from p2pxfer.net.transfer.places import Place, Storage
from p2pxfer.net.transfer.rebuilding import Rebuilding
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker

FATAL: Final = (ManifestRefused, LimitReached)
"""What refuses a list, and with it the whole transfer, not only the path that brought it."""


class Site:
    """The part of ``place`` for a transfer of ``sender`` (the digest of its key).

    ``hold`` and ``failed`` as in :class:`~p2pxfer.net.transfer.landing.Landing`.
    """

    def __init__(
        self,
        reactor: Reactor,
        disk: DiskThreads,
        place: Place,
        sender: bytes,
        budget: ListBudget,
        hold: Callable[[bool], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._reactor = reactor
        self._disk = disk
        self._place = place
        self._sender = sender
        self._budget = budget
        self._hold = hold
        self._failed = failed
        self.landing: Landing | None = None
        """There while it is open."""
        self._where = ""
        self._owner = EVERYBODYS
        self._waits = False
        self._asked = False
        self._mark: WaitMark | None = None
        """Once it was to be set."""
        self.fresh = True
        """Nothing of the transfer was here when its storage was opened."""
        self._older: OldVersions | None = None
        # Cutting a large file takes minutes, which is nothing for the reactor's pool.
        self._worker = Worker(reactor, "older")
        self._manifest = Manifest()

    async def open(self, manifest: Manifest, announced: Announced, *, asked: bool = False) -> Storage:
        """Open the storage, which may add to the manifest what it knows of the list.

        ``asked``: the sender may learn of older versions that others made.

        Raises:
            LimitReached: the sender's lists are too long together.
            P2pxferError: see :class:`~p2pxfer.net.transfer.places.Place`.
        """
        self._asked = asked
        await self._disk.elsewhere(self._place.check, manifest, 0)
        return await self._open(manifest, announced, relisted=False)

    async def reopen(self, manifest: Manifest, announced: Announced, keep: int) -> Storage:
        """Open it again for another list, of which ``keep`` pages stay; nobody may look at the manifest until then.

        Raises:
            LimitReached: the sender's lists are too long together.
            P2pxferError: see :class:`~p2pxfer.net.transfer.places.Place`.
        """
        await self._disk.elsewhere(manifest.cut, keep)
        return await self._open(manifest, announced, relisted=True)

    async def _open(self, manifest: Manifest, announced: Announced, *, relisted: bool) -> Storage:
        storage = await self._disk.elsewhere(self._place.open, self._sender, manifest, announced, relisted)
        self._manifest = manifest
        self.fresh = not (storage.have or storage.begun or storage.published_root)
        try:
            self._budget.take(self, manifest.size)
            self._older = await self._disk.elsewhere(self._place.older, self._sender, manifest, self._asked)
        except BaseException:
            await self._disk.elsewhere(storage.close)
            raise
        self.landing = Landing(self._reactor, self._disk, storage, self._hold, self._failed, self._older)
        self._where, self._owner = storage.where, storage.owner
        self.waits(self._waits)
        return storage

    def agreed(self) -> None:
        """Somebody agreed to what is to lie here: it is kept for this identity, also if this process is killed."""
        if self._where:
            self._worker.do(unagreed.agreed, self._where, self._owner)

    def waits(self, waiting: bool) -> None:
        """Nobody brings the transfer just now, or somebody does again: let ``p2pxfer jobs`` see it."""
        self._waits = waiting
        if self.landing is not None and self._where and (waiting or self._mark is not None):
            self._mark = self._mark or WaitMark(self._where)
            self._worker.do(self._mark.show, waiting)

    def rebuilding(self, paths: PathSet) -> Rebuilding | None:
        """Who tells of older versions of the files, while this storage is open, if there may be any."""
        return Rebuilding(self._worker, paths, self._manifest, self._older) if self._older is not None else None

    def renew(self, rebuilding: Rebuilding | None) -> None:
        """The storage was opened again for another list: go on telling of older versions if the sender was promised
        that, even if there are none any more.
        """
        if rebuilding is not None:
            rebuilding.renew(self._older or OldVersions(self._manifest, []))

    def listed(self, manifest: Manifest, page: int) -> None:
        """A page was added to the manifest.

        Raises:
            LimitReached: the sender's lists are too long together.
            P2pxferError: see :class:`~p2pxfer.net.transfer.places.Place`.
        """
        assert self.landing is not None
        self._place.check(manifest, page)
        self._budget.take(self, manifest.size)
        self.landing.listed(page)

    def announce(self, announced: Announced) -> None:
        """The sender has seen more of what it sends; ``failed`` hears if there is no room for it."""
        if self.landing is not None:
            self.landing.announce(announced)

    def forgotten(self) -> None:
        """Nobody asks for the transfer any more, and its list goes with it."""
        self._budget.give_back(self)

    async def close(self, *, discard: bool = False) -> None:
        """Make durable what is here and let go of it, or remove it.

        Raises:
            DiskError: see :meth:`~p2pxfer.net.transfer.landing.Landing.close`.
        """
        landing, self.landing = self.landing, None
        if landing is not None:
            if self._older is not None:
                self._older.stop()
            if self._mark is not None:
                self._worker.do(self._mark.show, False)
                self._mark = None
            await self._worker.stop()  # until nothing is read or marked there: with the landing its lock goes
            await landing.close(discard=discard)
