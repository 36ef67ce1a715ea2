"""Says of an accepted transfer that begins anew that a part of it waits in another directory."""

from __future__ import annotations

from typing import Final

from p2pxfer.cli.report import Reporter
from p2pxfer.cli.watching import Watch
from p2pxfer.core.text import safe_text
from p2pxfer.net.private.home import Home
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.partials import Partial, beside
from p2pxfer.net.transfer.places import Place
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker
from p2pxfer.status import Note

MOST_NAMES: Final = 3


class Elsewhere:
    """Of one run of ``receive`` into ``place``; it looks at disks in a thread of its own, and delays nothing."""

    def __init__(self, reactor: Reactor, home: Home, place: Place, report: Reporter) -> None:
        self._home = home
        self._place = place
        self._report = report
        self._worker = Worker(reactor, "elsewhere")

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

    def close(self) -> None:
        """Look no more."""
        self._worker.stop()


def waits(found: Partial) -> str:
    """What is kept of a transfer, and how to go on there."""
    names = ", ".join(safe_text(name, 60) for name in found.names[:MOST_NAMES])
    more = " ..." if len(found.names) > MOST_NAMES else ""
    share = 100 * found.have // found.total if found.total else 0
    return (
        f"this begins anew here; {share} % of {names}{more} wait in {safe_text(found.into.path, 200)}: "
        f"p2pxfer jobs resume {found.number} goes on there"
    )
