"""Keeps something connected: again after every loss, with pauses that grow, until an error comes that is final.

Laws of this file:

1. The first connection is not tried twice: whoever started hears at once why it failed.
2. Afterwards only an error that no reconnection would change is an end, and :attr:`Upkeep.failed` has it.
3. A connection that worked for a while, or whose end was wanted, costs the next one no long pause.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.backoff import Backoff
from p2pxfer.errors import NameTaken, P2pxferError, Replaced, Unreachable
from p2pxfer.net.pause import Pause
from p2pxfer.net.types import Reactor

FINAL = (NameTaken, Replaced)
"""What ends a client that was registered before; everything else may pass."""
Standing = TypeVar("Standing")


class Upkeep(Generic[Standing]):
    """Calls ``connect`` again and again; it returns why a connection ended, after it had said :meth:`stands`."""

    log = Logger()

    def __init__(self, reactor: Reactor, connect: Callable[[], Coroutine[Deferred[Any], Any, P2pxferError]]) -> None:
        self._reactor = reactor
        self._connect = connect
        self._first: Deferred[Standing] = Deferred()
        self._running: Deferred[None] | None = None
        self._at_once = False
        self._backoff = Backoff(random.random)
        self._pause = Pause(reactor)
        self.trouble = ""
        """What the last connection ended with, for people; empty while one stands."""
        self.failed: Deferred[P2pxferError] = Deferred()
        """Fires with what ended it after it had stood."""

    def start(self) -> Deferred[Standing]:
        """Connect and stay connected; fires with what first stood, or fails when the first attempt does."""
        self._running = Deferred.fromCoroutine(self._run()).addErrback(self._ended)
        return self._first

    def stop(self) -> None:
        """Connect no more; the attempt that is under way is cancelled."""
        if self._running is not None:
            self._running.cancel()

    def stands(self, what: Standing) -> None:
        """A connection stands."""
        self._backoff.stands(self._reactor.seconds())
        self.trouble = ""
        if not self._first.called:
            self._first.callback(what)

    def at_once(self) -> None:
        """The end that comes now is wanted: connect again without a pause."""
        self._at_once = True

    @property
    def again_s(self) -> float | None:
        """After what time it connects again, seconds; ``None`` while it does, or is connected."""
        return self._pause.left_s

    async def _run(self) -> None:
        while True:
            error = await self._connect()
            self._backoff.ended(self._reactor.seconds())
            if not self._first.called:
                self._first.errback(error)
                return
            if isinstance(error, FINAL):
                self.failed.callback(error)
                return
            if self._at_once:
                self._at_once = False
                continue
            delay = self._backoff.next()
            self.trouble = error.message
            self.log.info("server lost: {error}; next try in {delay:.1f} s", error=error, delay=delay)
            await self._pause.last(delay)

    def _ended(self, failure: Failure) -> None:
        """The loop is over: stopped, or a fault of the program."""
        if failure.check(CancelledError):
            return
        self.log.failure("the control connection's loop ended", failure)
        if not self._first.called:
            self._first.errback(failure)
        elif not self.failed.called:
            self.failed.callback(Unreachable("the connection to the server ended by a fault inside the program"))
