"""What a thread made and nobody waits for any more."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from p2pxfer.net.worker import Worker
from tests.net.reactors import Threads


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
    deliver = threads.results.get(timeout=50)
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
    threads.wait()
    assert got == made and not got[0].closed.is_set()

    def fail() -> Kept:
        raise OSError("no")

    worker.make(fail).addErrback(lambda failure: got.append(failure.type))
    threads.wait()
    assert got[1:] == [OSError]
    worker.stop()


def test_a_thread_that_could_not_be_started_is_started_for_the_next_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever stops the worker would wait for ever."""

    def no_memory(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads: Any = Threads()
    worker = Worker(threads, "test")
    with monkeypatch.context() as poor:
        poor.setattr(threading.Thread, "start", no_memory)
        with pytest.raises(RuntimeError):
            worker.do(int)
        assert worker.stop().called
    done: list[int] = []
    worker.do(int).addCallback(done.append)
    threads.wait()
    assert done == [0]
    worker.stop()
