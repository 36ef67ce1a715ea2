"""Notices that this machine has moved to another network.

A connection whose own address is gone is not told so by the kernel: packets leave with that address until the other
end's silence shows it.  So every few seconds the kernel is asked from which address it would reach the server now.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pxfer.core.addresses import Endpoint
from p2pxfer.net.ownaddresses import source_towards

LOOK_S = 3.0
"""How often the kernel is asked, seconds."""


class NetworkWatch:
    """Watches the way to one endpoint; ``moved`` is called once for each :meth:`start` at most."""

    def __init__(
        self,
        clock: IReactorTime,
        moved: Callable[[], None],
        source: Callable[[Endpoint], str | None] = source_towards,
    ) -> None:
        self._clock = clock
        self._moved = moved
        self._source = source
        self._next: IDelayedCall | None = None

    def start(self, here: str, there: Endpoint) -> None:
        """A connection stands from the own address ``here`` to ``there``."""
        self.stop()
        self._next = self._clock.callLater(LOOK_S, self._look, here, there)

    def stop(self) -> None:
        """The connection is over."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None

    def _look(self, here: str, there: Endpoint) -> None:
        # Without any way out there is nothing better to connect from.
        if self._source(there) in (here, None):
            self.start(here, there)
        else:
            self._moved()
