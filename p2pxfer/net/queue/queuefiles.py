"""The queue's files, off the reactor's thread: what they say, and what is noted in them of what became of the entries.

Laws of this file:

1. Reading and writing happens in one thread, in order.
2. What is noted is what became of an entry, and never what a person wishes; and it is noted of the very entry that was
   read, not of one with the same number that was queued since.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import Deferred

from p2pxfer.errors import ConfigError
from p2pxfer.net.private.home import Home
from p2pxfer.net.queue.queuestore import Queued, QueueStore, Unreadable
from p2pxfer.net.queue.sendjobs import forget_hashes
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker


class Look(Struct, frozen=True):
    """What the files say; ``names`` is what the contacts are called, by their ids."""

    entries: list[Queued]
    unreadable: list[Unreadable]
    names: dict[str, str]


class QueueFiles:
    """The files in a home."""

    def __init__(self, reactor: Reactor, home: Home) -> None:
        self.store = QueueStore(home.path)
        self._home = home
        self._thread = Worker(reactor, "queue")

    def look(self) -> Deferred[Look]:
        """What the files say now.  Fails with :class:`~p2pxfer.errors.DiskError` if that cannot be known."""
        return self._thread.do(self._look)

    def _look(self) -> Look:
        try:
            names = {str(contact.id): contact.name for contact in self._home.contacts()}
        except ConfigError:
            names = {}
        return Look(*self.store.read(), names)

    def note(self, entry: Queued) -> Deferred[Queued | None]:
        """Keep what became of an entry, unless it is gone.

        Fails with :class:`~p2pxfer.errors.DiskError`, or :class:`~p2pxfer.errors.ConfigError` if it cannot be read.
        """
        return self._thread.do(self.store.change, entry.number, _noting(entry))

    def remove(self, entry: Queued) -> Deferred[None]:
        """Remove an entry and what helped to send it.  Fails as :meth:`note` does."""
        return self._thread.do(self._remove, entry)

    def _remove(self, entry: Queued) -> None:
        self.store.remove(entry.number, entry.added)
        forget_hashes(self._home.path, entry.transfer)

    def forget(self, entry: Queued) -> Deferred[None]:
        """Remove what helped to send an entry whose file is gone; should the file be back, it stays."""
        return self._thread.do(forget_hashes, self._home.path, entry.transfer)

    def stop(self) -> Deferred[None]:
        """Fires when everything that was asked for is done; nothing may be asked for any more."""
        return self._thread.stop()


def _noting(mine: Queued) -> Callable[[Queued], Queued]:
    def change(there: Queued) -> Queued:
        """What is to be in the file now, in which ``there`` is."""
        if there.added != mine.added:
            return there
        fresh = there.resumed == mine.resumed  # else a person has said since that it is to be tried again
        return replace(
            there, failed=mine.failed and fresh, why=mine.why if fresh else "", running=mine.running,
            asking=mine.asking, transfer=mine.transfer, size=mine.size, acked=mine.acked, changed=mine.changed,
        )  # fmt: skip

    return change
