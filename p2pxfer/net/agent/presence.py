"""Being at the server for as long as the agent runs: what failed is tried again, whatever it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.backoff import Backoff
from p2pxfer.errors import NameTaken, P2pxferError, Replaced, Unreachable
from p2pxfer.net.pause import Pause
from p2pxfer.net.traversal.upkeep import FINAL
from p2pxfer.net.types import Reactor

LATER_S: Final = 60.0
"""The pause after what may last, as a name that is another program's, seconds."""
REPEAT_S: Final = 600.0
"""How often the same trouble is told again, seconds."""

TAKEN_BACK: Final = "took the name back from another program with the same key; where that still ran, it has ended"

Attempt = Callable[[], Coroutine[Deferred[Any], Any, P2pxferError]]


class Presence:
    """Makes attempt after attempt until :meth:`stop`.

    ``attempt`` is there until something ends it, and returns or raises what that was; ``tell`` gets a line for people.
    """

    _log = Logger()

    def __init__(
        self, reactor: Reactor, attempt: Attempt, tell: Callable[[str], None], draw: Callable[[], float] = random.random
    ) -> None:
        self._reactor = reactor
        self._attempt = attempt
        self._tell = tell
        self._backoff = Backoff(draw)
        self._running: Deferred[None] | None = None
        self._told: tuple[str, float] | None = None
        self._last: P2pxferError | None = None
        """What ended the last attempt, until the next one succeeds."""
        self._pause = Pause(reactor)
        self.trouble = ""
        """What the last attempt ended with, for people; empty while one stands."""

    def start(self) -> None:
        """Begin."""
        self._running = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """End the attempt that is under way, in good order."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            try:
                await running
            except CancelledError:
                pass

    async def _run(self) -> None:
        while True:
            error = await self._one()
            self._backoff.ended(self._reactor.seconds())
            soon = error.retry and not isinstance(error, FINAL)
            pause = self._backoff.next() if soon else LATER_S
            self._trouble(error, soon)
            await self._pause.last(pause)

    @property
    def again_s(self) -> float | None:
        """After what time the next attempt begins, seconds; ``None`` while one is under way."""
        return self._pause.left_s

    async def _one(self) -> P2pxferError:
        try:
            return await self._attempt()
        except CancelledError:
            raise
        except P2pxferError as error:
            return error
        except Exception as fault:
            self._log.failure("a fault inside the program", Failure())
            return Unreachable(f"a fault inside the program ({type(fault).__name__})")

    def _trouble(self, error: P2pxferError, soon: bool) -> None:
        """Tell it once, and again when it lasts."""
        now = self._reactor.seconds()
        self._last = error
        hint = "; choose another name in agent.toml" if isinstance(error, NameTaken) else ""
        self.trouble = f"{error.message}{hint}"
        if self._told is None or self._told[0] != error.message or now - self._told[1] >= REPEAT_S:
            self._told = error.message, now
            again = "trying again" if soon else f"trying again in {LATER_S:g} s"
            self._tell(f"{self.trouble}; {again}")

    def there(self) -> None:
        """The attempt succeeded: what fails next is news, and soon tried again if it lasted."""
        if isinstance(self._last, Replaced):
            self._tell(TAKEN_BACK)
        self._last = None
        self._told = None
        self.trouble = ""
        self._backoff.stands(self._reactor.seconds())
