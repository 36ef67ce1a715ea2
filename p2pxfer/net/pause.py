"""A pause between two attempts, which others may ask how long it lasts yet."""

from __future__ import annotations

from twisted.internet.task import deferLater

from p2pxfer.net.types import Reactor


class Pause:
    """One at a time; whoever cancels the wait for it ends it."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._due: float | None = None

    async def last(self, seconds: float) -> None:
        """Wait so long."""
        self._due = self._reactor.seconds() + seconds
        try:
            await deferLater(self._reactor, seconds)
        finally:
            self._due = None

    @property
    def left_s(self) -> float | None:
        """How long it lasts yet, seconds; ``None`` while there is none."""
        return None if self._due is None else max(0.0, self._due - self._reactor.seconds())
