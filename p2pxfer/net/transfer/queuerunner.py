"""Carries out the queue of a home.

Only the signature so far: nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.net.private.home import Home
from p2pxfer.net.transfer.queuestore import QueueStore
from p2pxfer.net.types import Reactor
from p2pxfer.status import Event, JobListed


class QueueRunner:
    """The queue in ``home``, carried out as ``name`` over the server ``server``; ``tell`` hears what becomes of it.

    ``tell`` gets a :class:`~p2pxfer.status.JobListed` whenever the state of an entry changes, and notes.
    """

    def __init__(
        self, reactor: Reactor, home: Home, server: ServerLine, name: str, tell: Callable[[Event], None]
    ) -> None:
        self._store = QueueStore(home.path)
        self._held: IO[bytes] | None = None

    def start(self) -> None:
        """Take the queue and begin.

        Raises:
            ConfigError: another process carries it out already, or its directory cannot be used.
        """
        self._held = self._store.hold()

    async def stop(self) -> None:
        """End what runs, keep how far it came, and give the queue back; takes some seconds at most."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def doorbell(self) -> None:
        """The files were changed: look at them now."""

    def listed(self) -> list[JobListed]:
        """The entries as they are now, the oldest first."""
        return []
