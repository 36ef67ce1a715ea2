"""Who waits for one moment that comes again and again: coroutines, each of which is told once."""

from __future__ import annotations

from twisted.internet.defer import Deferred


class Waiting:
    """Those who wait."""

    def __init__(self) -> None:
        self._deferreds: list[Deferred[None]] = []

    async def moment(self) -> None:
        """Wait for the next :meth:`come`; whoever gives up before is forgotten then."""
        waiting: Deferred[None] = Deferred()
        self._deferreds.append(waiting)
        await waiting

    def come(self) -> None:
        """It is now for all who wait; who waits again from within this call waits for the next time."""
        deferreds, self._deferreds = self._deferreds, []
        for waiting in deferreds:
            if not waiting.called:
                waiting.callback(None)
