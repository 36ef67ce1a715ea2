"""Reactors for tests in the type that the package asks for: the installed one, and a clock that stands for one.

And what tests wait with, in which a machine that stands still now and then is no more than slow.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, cast

from twisted.internet import reactor as _installed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, deferLater

from p2pxfer.net.types import Reactor

reactor = cast(Reactor, _installed)
"""The installed reactor; Twisted's own type of it leaves out what only those of POSIX provide."""
TURNS: Final = 20
"""More turns of the reactor than what is under way within this process needs to arrive."""


def time_only(clock: IReactorTime) -> Reactor:
    """A clock where a reactor is asked for and only its time is used; anything else fails, as it is not there."""
    return cast(Reactor, clock)


class Threads(Clock):
    """A clock that also takes the results of threads."""

    def __init__(self) -> None:
        super().__init__()
        self.results: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def callFromThread(self, call: Callable[[], None]) -> None:
        self.results.put(call)

    def wait(self) -> None:
        """Until a thread has done something."""
        self.results.get(timeout=50)()


async def sleep(seconds: float) -> None:
    """Let so much time go by, and :data:`TURNS` turns of the reactor with it; 0 is one turn.

    Where the machine does not run this process for a while, its time is over before it has read what came meanwhile.
    """
    end = time.monotonic() + seconds
    for left in range(TURNS if seconds else 1, 0, -1):
        await deferLater(reactor, max(0.0, end - time.monotonic()) / left)


async def until(condition: Any, seconds: float = 40.0) -> None:
    """Wait until ``condition()`` is true; raises ``AssertionError`` after so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        await deferLater(reactor, 0.01)


async def quiet(count: Callable[[], int], seconds: float = 0.3) -> int:
    """Wait until this number has stayed the same for so long, in the sense of :func:`sleep`; returns it."""
    while True:
        before = count()
        await sleep(seconds)
        if count() == before:
            return before
