"""Notices that this machine has moved to another network.

A connection whose own address is gone is not told so by the kernel: packets leave with that address until the other
end's silence shows it.  So every few seconds the kernel is asked from which address it would reach the server now.

The answer is compared with the one at the beginning, not with the connection's own address: a rule by protocol or by
port may well send the connection another way than the question.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pxfer.core.addresses import Endpoint
from p2pxfer.net.traversal.ownaddresses import source_towards

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

    def start(self, there: Endpoint) -> None:
        """A connection to ``there`` stands."""
        self.stop()
        self._wait(self._source(there), there)

    def _wait(self, was: str | None, there: Endpoint) -> None:
        self._next = self._clock.callLater(LOOK_S, self._look, was, there)

    def stop(self) -> None:
        """The connection is over."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None

    def _look(self, was: str | None, there: Endpoint) -> None:
        now = self._source(there)
        # Without any way out there is nothing better to connect from.
        if now is None or was in (None, now):
            self._wait(was or now, there)
        else:
            self._moved()
