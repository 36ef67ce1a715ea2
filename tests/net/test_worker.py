"""What a thread made and nobody waits for any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from p2pxfer.net.worker import Worker


class Threads(Clock):
    """A clock that also takes the results of threads."""

    def __init__(self) -> None:
        super().__init__()
        self.results: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def callFromThread(self, call: Callable[[], None]) -> None:
        self.results.put(call)


class Kept:
    def __init__(self, begun: threading.Event, go_on: threading.Event) -> None:
        begun.set()
        assert go_on.wait(30)
        self.closed = threading.Event()
        made.append(self)

    def close(self) -> None:
        self.closed.set()


made: list[Kept] = []


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("when", ["under way", "before it is told"])
def test_what_is_made_for_somebody_who_has_gone_is_closed(stopped: bool, when: str) -> None:
    del made[:]
    threads: Any = Threads()
    worker, begun, go_on = Worker(threads, "test"), threading.Event(), threading.Event()
    waiting: Deferred[Any] = worker.make(Kept, begun, go_on)
    ended: list[Any] = []
    waiting.addErrback(lambda failure: ended.append(failure.type))
    assert begun.wait(30)
    if when == "under way":
        waiting.cancel()
    go_on.set()
    deliver = threads.results.get(timeout=30)
    waiting.cancel()
    if stopped:
        worker.stop()
    deliver()
    (kept,) = made
    assert kept.closed.wait(30)
    assert ended == [CancelledError]
    worker.stop()


def test_what_is_waited_for_is_handed_over_open_and_a_failure_too() -> None:
    del made[:]
    threads: Any = Threads()
    worker, event = Worker(threads, "test"), threading.Event()
    event.set()
    got: list[Any] = []
    worker.make(Kept, event, event).addCallback(got.append)
    threads.results.get(timeout=30)()
    assert got == made and not got[0].closed.is_set()

    def fail() -> Kept:
        raise OSError("no")

    worker.make(fail).addErrback(lambda failure: got.append(failure.type))
    threads.results.get(timeout=30)()
    assert got[1:] == [OSError]
    worker.stop()
