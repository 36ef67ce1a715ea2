"""What ``p2pxfer send`` is given instead of files: standard input."""

from __future__ import annotations

from collections.abc import Callable

from p2pxfer.net.transfer.cargo import Cargo
from p2pxfer.net.transfer.outstream import StreamPump
from p2pxfer.net.types import Reactor
from p2pxfer.status import Offer


class StreamLoad:
    """What comes from a descriptor, under a name."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.offer = Offer(files=1, bytes=None, names=(name,))
        self.total = None
        self.skipped: list[str] = []
        self.lacking: list[str] = []
        self._descriptor = descriptor

    def cargo(self, reactor: Reactor, limit: int, counted: Callable[[], None]) -> Cargo:
        """See :class:`~p2pxfer.cli.sending.Load`; nothing is read before the receiver has taken it."""
        return StreamPump(reactor, self._descriptor, self.offer.names[0], limit)

    def close(self) -> None:
        """See :class:`~p2pxfer.cli.sending.Load`."""
