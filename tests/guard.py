"""What stands guard round every test: a deadline, no lost errors, nothing left in the reactor.

pytest-twisted runs the tests in the greenlet of the running reactor and waits for their Deferreds without end; an
error in a Deferred that nobody holds and a delayed call that nobody cancels would pass in silence.  The fixtures in
`conftest.py` use what is here.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol

import greenlet
import pytest
from twisted.internet import defer, task
from twisted.internet.base import DelayedCall
from twisted.internet.error import ConnectionDone
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

DEADLINE = 60.0
"""Seconds that a test may take, unless it is marked `deadline(seconds)`."""

GRACE = 1.0
"""Seconds between the measures against a test that does not end."""

SETTLING = 0.5
"""Seconds in which a connection that is being closed may still go away..."""

SETTLING_TURNS = 50
"""...and as many turns of the reactor, should the machine leave the process alone meanwhile."""


class TestDeadline(BaseException):
    """The test took too long; not an `Exception`, so that code under test does not swallow it."""

    __test__ = False


class Deadline:
    """Ends one test that takes too long, wherever it hangs, with ever stronger measures.

    1. At the deadline the reactor is asked to cancel the test's Deferred, which shows where the test waits.
    2. If the reactor does not come to it, because Python code blocks or loops, the exception is raised in that code.
       If it did and the test goes on, the greenlet that waits for the test is woken with the exception.

    Both are repeated every `GRACE` seconds.  A program that blocks in C is beyond reach; `scripts/test` ends that one.
    """

    def __init__(self, seconds: float, reactor: Any, reactor_greenlet: greenlet.greenlet | None) -> None:
        """Watch over the test that the current greenlet runs."""
        self._seconds = seconds
        self._reactor = reactor
        self._in_reactor = reactor_greenlet
        self._waiting = greenlet.getcurrent()
        self._asked = False
        self._heard = False
        self._over = False
        self._deferred: defer.Deferred[Any] | None = None
        self._previous: Any = None

    def __enter__(self) -> Deadline:
        """Start the clock."""
        self._previous = signal.signal(signal.SIGALRM, self._alarm)
        signal.setitimer(signal.ITIMER_REAL, self._seconds, GRACE)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._previous)

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` again; the Deferred it returns, or its coroutine's, is the one to cancel."""

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if hasattr(result, "send") and hasattr(result, "throw"):
                result = defer.Deferred.fromCoroutine(result)
            if isinstance(result, defer.Deferred):
                self._deferred = result
                result.addErrback(self._explain)
            return result

        return watched

    @property
    def _complaint(self) -> str:
        return f"the test did not end within its deadline of {self._seconds:g} s"

    def _explain(self, failure: Failure) -> Failure:
        if self._asked and failure.check(defer.CancelledError):
            late = TestDeadline(self._complaint)
            late.__cause__ = failure.value
            return Failure(late, TestDeadline, failure.getTracebackObject())
        return failure

    def _alarm(self, _number: int, _frame: FrameType | None) -> None:
        if self._over:
            return
        if greenlet.getcurrent() is not self._in_reactor:
            raise TestDeadline(self._complaint)
        if self._asked and not self._heard:
            raise TestDeadline(self._complaint)
        self._asked, self._heard = True, False
        self._reactor.callFromThread(self._expire)

    def _expire(self) -> None:
        self._heard = True
        if self._over:
            return
        pending, self._deferred = self._deferred, None
        if pending is not None and not pending.called:
            pending.cancel()
        else:
            self._waiting.throw(TestDeadline(self._complaint))


@implementer(ILogObserver)
class LostErrors:
    """Collects what the log calls critical: errors in Deferreds that nobody holds, and `Logger.failure`."""

    def __init__(self) -> None:
        """Nothing is collected yet."""
        self._events: list[LogEvent] = []

    def __enter__(self) -> LostErrors:
        """Start to listen to the log."""
        globalLogPublisher.addObserver(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        globalLogPublisher.removeObserver(self)

    def __call__(self, event: LogEvent) -> None:
        """Look at one event of the log."""
        # Twisted announces the error of a Deferred in an event of its own, before the one that holds it.
        announced = event.get("log_namespace") == "twisted.internet.defer" and "log_failure" not in event
        if event.get("log_level") is LogLevel.critical and not announced:
            self._events.append(event)

    def flush(self, *kinds: type[BaseException]) -> list[BaseException]:
        """Take out the errors of these kinds, which the test expects, and return them; all of them if none is named."""
        gc.collect()
        taken = []
        for event in list(self._events):
            failure = event.get("log_failure")
            value = failure.value if failure is not None else None
            if not kinds or isinstance(value, kinds):
                self._events.remove(event)
                if value is not None:
                    taken.append(value)
        return taken

    def complaints(self) -> list[str]:
        """What is left, as text."""
        return [_describe(event) for event in self._events]


def _describe(event: LogEvent) -> str:
    text = f"{event.get('log_namespace', '-')}: {formatEvent(event)}"
    failure = event.get("log_failure")
    return text if failure is None else f"{text}\n{failure.getTraceback()}"


class _Descriptor(Protocol):
    def connectionLost(self, reason: Failure) -> object: ...


class Leftovers:
    """Compares what the reactor holds with what it held before the test."""

    def __init__(self, reactor: Any) -> None:
        """Remember what is there now."""
        self._reactor = reactor
        self._calls = set(map(id, reactor.getDelayedCalls()))
        self._descriptors = set(map(id, self._all_descriptors()))

    def _all_descriptors(self) -> list[_Descriptor]:
        found = {id(each): each for each in [*self._reactor.getReaders(), *self._reactor.getWriters()]}
        return list(found.values())

    def calls(self) -> list[DelayedCall]:
        """The delayed calls that were not there before."""
        return [call for call in self._reactor.getDelayedCalls() if id(call) not in self._calls]

    def descriptors(self) -> list[_Descriptor]:
        """The sockets and pipes that were not there before."""
        return [each for each in self._all_descriptors() if id(each) not in self._descriptors]

    def settle(self, wait: Callable[[defer.Deferred[None]], object]) -> None:
        """Give connections that are being closed a moment; `wait` blocks until a Deferred fires."""
        end, turns = time.monotonic() + SETTLING, SETTLING_TURNS
        while (self.calls() or self.descriptors()) and (turns or time.monotonic() < end):
            wait(task.deferLater(self._reactor, 0.01))
            turns = max(0, turns - 1)

    def clear(self) -> list[str]:
        """Remove them, so that the next test is not blamed, and return what they were."""
        found = []
        for call in self.calls():
            found.append(f"delayed call: {call}")
            call.cancel()
        for each in self.descriptors():
            found.append(f"open: {each!r}")
            self._reactor.removeReader(each)
            self._reactor.removeWriter(each)
            with contextlib.suppress(Exception):
                each.connectionLost(Failure(ConnectionDone("left over by a test")))
        return found


@contextlib.contextmanager
def guarded_reactor(reactor: Any, wait: Callable[[defer.Deferred[None]], object], lost: LostErrors) -> Iterator[None]:
    """Fail the test inside for what it leaves in `reactor` and for the errors it lost."""
    before = Leftovers(reactor)
    yield
    before.settle(wait)
    found = before.clear()
    gc.collect()
    if found:
        pytest.fail("the test left in the reactor:\n  " + "\n  ".join(found), pytrace=False)
    fail_for(lost)


def fail_for(lost: LostErrors) -> None:
    """Fail the test for the errors it lost, if any."""
    if complaints := lost.complaints():
        pytest.fail("the test lost errors:\n" + "\n".join(complaints), pytrace=False)
