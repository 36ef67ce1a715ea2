"""Says of a transfer what lies around it: a part of it in another directory, earlier ones of its name in its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.internet.defer import Deferred, DeferredList, succeed

from p2pxfer.cli.report import Reporter
from p2pxfer.cli.watching import Watch
from p2pxfer.core.text import few_of, safe_text
from p2pxfer.core.words.eventtext import superseded_text
from p2pxfer.net.private.home import Home
from p2pxfer.net.staging.owning import EVERYBODYS
from p2pxfer.net.staging.partials import Partial, beside, staging_name
from p2pxfer.net.staging.superseding import Arrived, Superseding
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.places import Place
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker
from p2pxfer.status import Note

MARKING_S: Final = 5.0
"""How long the end of a run waits for a disk on which something is noted, seconds."""


class Elsewhere:
    """Of one run of ``receive`` into ``place``; it looks at disks in a thread of its own, and delays nothing."""

    def __init__(self, reactor: Reactor, home: Home, place: Place, report: Reporter) -> None:
        self._reactor = reactor
        self._home = home
        self._place = place
        self._report = report
        self._worker = Worker(reactor, "elsewhere")
        owner = place.owner if isinstance(place, Folder) else EVERYBODYS
        self._superseding = Superseding(self._worker, self._superseded, owner)
        self._said: set[str] = set()
        """What was told as given up, and is going to be marked."""

    def look(self, watch: Watch) -> None:
        """This transfer was accepted."""
        transfer = watch.transfer
        if not isinstance(transfer, IncomingTransfer) or not isinstance(self._place, Folder):
            return
        path = next(iter(watch.paths.ordered()), None)
        if path is None:
            return

        def told(found: Partial | None) -> None:
            """What waits there, unless as much is here."""
            if found is not None and found.have > transfer.have_bytes and not transfer.ended:
                self._report.tell(Note(waits(found)))

        looking = self._worker.do(beside, self._home.path, self._place.shown, path.peer_key, transfer.number)
        # A disk that cannot be read says nothing of this transfer.
        looking.addCallbacks(told, lambda failure: None)

    def supersede(self, watch: Watch, given_up: Sequence[Watch]) -> Deferred[None]:
        """This transfer is whole: let go of those that it outdates, and say it of what earlier runs left of such.

        Fires when that is noted for ``p2pxfer jobs``, and after :data:`MARKING_S` in any case; it goes on then.
        """
        transfer, closing = watch.transfer, DeferredList([older.give_up() for older in given_up], consumeErrors=True)
        if not isinstance(transfer, IncomingTransfer) or not isinstance(self._place, Folder) or transfer.offer is None:
            return succeed(None)
        where = self._place.shown
        arrived = Arrived(transfer.sender, transfer.number, tuple(transfer.offer.names), watch.began)
        given = [older.transfer for older in given_up if isinstance(older.transfer, IncomingTransfer)]
        said = {staging_name(one.sender, one.number) for one in given}
        self._said |= said
        noted: Deferred[None] = Deferred()
        limit = self._reactor.callLater(MARKING_S, noted.callback, None)

        def ended(result: object) -> None:
            """In time, or nobody waits any more."""
            self._said -= said
            if limit.active():
                limit.cancel()
                noted.callback(None)

        closing.addCallback(lambda _: self._superseding.arrived(where, arrived)).addBoth(ended)
        return noted

    def _superseded(self, found: Partial) -> None:
        """Those that were given up in this run were told as that."""
        if found.name not in self._said:
            self._report.tell(Note(superseded_text(found.have, found.names, found.number)))

    def close(self) -> None:
        """Look no more."""
        self._superseding.stop()
        self._worker.stop()


def waits(found: Partial) -> str:
    """What is kept of a transfer, and how to go on there."""
    share = 100 * found.have // found.total if found.total else 0
    return (
        f"this begins anew here; {share} % of {few_of(found.names)} wait in {safe_text(found.into.path, 200)}: "
        f"p2pxfer jobs resume {found.number} goes on there"
    )
