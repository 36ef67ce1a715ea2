"""Says which path stands where nothing goes over it yet: paths are told of otherwise when they carry.

Laws:

- With the first data, or the end of the run, it is silent for good.
- A path is told when one has stood for :data:`IDLE_S`, and then only a better one: at most the relay and one beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pxfer.core.words.eventtext import describe
from p2pxfer.net.session.pathset import RANK
from p2pxfer.status import Event, Path

IDLE_S: Final = 2.0
"""How long the first path may stand with nothing to carry before it is told, seconds."""


class IdlePath:
    """Of one run; ``say`` gets the event of the path that stands, and what people see of it."""

    def __init__(self, clock: IReactorTime, say: Callable[[Path, str], None]) -> None:
        self._clock = clock
        self._say = say
        self._standing: list[Path] = []
        self._told: list[Path] = []
        self._timer: IDelayedCall | None = None
        self._hears: Callable[[Path], None] = self._waiting

    def hear(self, event: Event) -> None:
        """An event of the run."""
        if isinstance(event, Path):
            self._hears(event)

    def stop(self) -> None:
        """There is nothing to be said any more."""
        self._hears = lambda event: None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _waiting(self, event: Path) -> None:
        """Nothing was carried yet."""
        if event.state == "active":
            self.stop()
        elif event.state == "up":
            self._standing.append(event)
        else:
            gone = (event.path, event.local, event.remote)
            left = [one for one in self._standing if (one.path, one.local, one.remote) != gone]
            self._standing = left
        if self._best() is not None and self._timer is None and self._hears == self._waiting:
            self._timer = self._clock.callLater(IDLE_S, self._idle)

    def _best(self) -> Path | None:
        """What the session would use, of two of one kind the newer; ``None`` if it is no better than what was told."""
        if any(one.path != "relay" for one in self._told):
            return None
        best = min(reversed(self._standing), key=lambda one: RANK[one.path], default=None)
        return None if self._told and best is not None and best.path == "relay" else best

    def _idle(self) -> None:
        self._timer = None
        best = self._best()
        if best is not None:
            self._told.append(best)
            self._say(best, f"{describe(replace(best, state='active'))}; nothing has come or gone yet")
