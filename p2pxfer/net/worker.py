"""One thread for the blocking work of one kind, in order.

The reactor's thread pool costs about 80 microseconds a call, twenty times what a queue and one wake-up cost; with a
call for every chunk that is a tenth of a transfer.  One thread keeps up with a disk and a hash of several GB/s.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from p2pxfer.net.types import Reactor

P = ParamSpec("P")
R = TypeVar("R")


class _Closable(Protocol):
    def close(self) -> None:
        """Let go of it."""


Kept = TypeVar("Kept", bound=_Closable)

_Job = tuple["Deferred[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def _nothing() -> None:
    """What the thread does last."""


class Worker:
    """A thread that carries out what :meth:`do` is given; results arrive in the reactor's thread, many a wake-up."""

    def __init__(self, reactor: Reactor, name: str) -> None:
        self._reactor = reactor
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._results: deque[tuple[Deferred[Any], Any]] = deque()
        self._thread: threading.Thread | None = None
        self._name = name
        self._woken = False

    def do(self, work: Callable[P, R], *args: P.args, **keywords: P.kwargs) -> Deferred[R]:
        """Carry out ``work`` in the thread; fails with what it raises.

        Raises:
            RuntimeError: the system has no memory for a thread.
        """
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()  # there may be no memory for one
            self._thread = thread
        deferred: Deferred[R] = Deferred()
        self._jobs.put((deferred, work, args, keywords))
        return deferred

    def make(self, work: Callable[P, Kept], *args: P.args, **keywords: P.kwargs) -> Deferred[Kept]:
        """As :meth:`do`, for what has to be closed: it is, if nobody waits for it any more when it is there."""
        made: Deferred[Kept] = Deferred()

        def give(result: Kept | Failure) -> None:
            """Hand it over, or let go of it."""
            if not made.called:
                made.callback(result)
            elif isinstance(result, Failure):
                pass  # whoever does not wait does not care
            elif self._thread is not None:
                self.do(result.close)
            else:
                result.close()

        self.do(work, *args, **keywords).addBoth(give)
        return made

    def stop(self) -> Deferred[None]:
        """End the thread when it has done what it was given; fires then."""
        if self._thread is None:
            return succeed(None)
        done = self.do(_nothing)
        self._jobs.put(None)
        self._thread = None
        return done

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            deferred, work, args, keywords = job
            try:
                result: Any = work(*args, **keywords)
            except BaseException:  # whatever it is belongs to whoever asked
                result = Failure()
            self._results.append((deferred, result))
            # A wake-up that is under way will find this result too; the flag falls before it looks.
            if not self._woken:
                self._woken = True
                self._reactor.callFromThread(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        while self._results:
            deferred, result = self._results.popleft()
            if not deferred.called:
                deferred.callback(result)
