"""Reactors for tests in the type that the package asks for: the installed one, and a clock that stands for one."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import cast

from twisted.internet import reactor as _installed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock

from p2pxfer.net.types import Reactor

reactor = cast(Reactor, _installed)
"""The installed reactor; Twisted's own type of it leaves out what only those of POSIX provide."""


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
        self.results.get(timeout=30)()
