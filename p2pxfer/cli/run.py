"""Runs one command under the reactor: signals, logging, exit code."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    globalLogPublisher,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.errors import Interrupted, NoMemory, P2pxferError, is_no_memory
from p2pxfer.net.debuglog import want_debug
from p2pxfer.net.types import Reactor

Main = Callable[[Reactor], Coroutine[Deferred[Any], Any, None]]
_HANG_UP: int | None = getattr(signal, "SIGHUP", None)
"""``None`` where the system has none."""
SAY_S = 1.0
"""How long after a signal it is said that something still ends, seconds."""
END_S = 10.0
"""How long after a signal a command may take to end in good order, seconds; a thread may be in a sync for minutes."""
SHORT_END_S = 2.0
"""The same for a command that has no memory, in which work may have come to nothing without a word."""
_LEVELS = [LogLevel.critical, LogLevel.info, LogLevel.debug]


def start_logging(verbose: int) -> None:
    """Log to standard error from the level that ``-v`` chose; only faults of the program without it."""
    if not verbose:
        globalLogBeginner.beginLoggingTo(
            [cast(ILogObserver, one_line_of_faults)], redirectStandardIO=False, discardBuffer=True
        )
        return
    level = _LEVELS[min(verbose, len(_LEVELS) - 1)]
    want_debug(level is LogLevel.debug)
    predicate = LogLevelFilterPredicate(defaultLogLevel=level)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [predicate])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)


def fault_in(event: LogEvent) -> Failure | None:
    """The fault inside the program that ``event`` tells of, which the command survives."""
    failure = event.get("log_failure") or event.get("failure")  # the second is what Twisted's older log calls it
    return failure if event.get("log_level") is LogLevel.critical else None


def one_line_of_faults(event: LogEvent) -> None:
    """What a user sees of one; that there is no memory ends the command with a line of its own."""
    failure = fault_in(event)
    if failure is not None and not is_no_memory(failure.value):
        sys.stderr.write(f"p2pxfer: a fault inside the program ({type(failure.value).__name__}); -v shows where\n")


def ending_signals() -> list[int]:
    """The signals that end a command in good order.  Who ignores SIGHUP, as nohup does, wants it to live on."""
    numbers: list[int] = [signal.SIGINT, signal.SIGTERM]
    if _HANG_UP is not None and signal.getsignal(_HANG_UP) is not signal.SIG_IGN:
        numbers.append(_HANG_UP)
    return numbers


def use_monotonic_time(reactor: Reactor) -> None:
    """Let timers and deadlines follow a clock that nobody sets: Twisted's reactors read the time of day.

    Does nothing once a call is waiting, since that call carries a time of the other clock.
    """
    if not reactor.getDelayedCalls():
        # The interface calls it a method; in every reactor it is a function that is looked up at each use.
        cast(Any, reactor).seconds = time.monotonic


@implementer(IReadDescriptor)
class SignalBell:
    """Wakes ``reactor`` when a signal has come: its handler runs only when the main thread runs Python again.

    The kernel may give a signal to another thread, or in the moment before the reactor goes to sleep.
    """

    def __init__(self, reactor: IReactorFDSet) -> None:
        self._rung, self._bell = socket.socketpair()
        self._rung.setblocking(False)
        self._bell.setblocking(False)
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        reactor.addReader(self)

    def fileno(self) -> int:
        """See Twisted."""
        return self._rung.fileno()

    def logPrefix(self) -> str:
        """See Twisted."""
        return "signals"

    def doRead(self) -> None:
        """The handlers have run by now, or run next."""
        with contextlib.suppress(BlockingIOError):
            self._rung.recv(4096)

    def connectionLost(self, reason: Failure) -> None:
        """See Twisted; the process ends with its reactor."""


class _Run:
    """One command under the reactor, from its start to what became of it."""

    def __init__(self, reactor: Reactor, main: Main) -> None:
        self._reactor = reactor
        self._main = main
        self._running: Deferred[None] | None = None
        self._interrupted = False
        self._outcome: list[Failure | None] = []
        self._bell: SignalBell | None = None
        """Kept until no signal is written to it any more: the reactor lets go of it before."""

    def begin(self) -> None:
        """The reactor runs: begin, and end in good order when a signal says so."""
        if IReactorFDSet.providedBy(self._reactor):
            self._bell = SignalBell(self._reactor)
        for number in ending_signals():
            signal.signal(number, self._signal)
        self._running = Deferred.fromCoroutine(self._main(self._reactor))
        self._running.addBoth(self._ended)

    def _signal(self, number: int, frame: object) -> None:
        """The first signal cancels, the second one ends the process at once."""
        if not self._interrupted:
            self._interrupted = True
            self._reactor.callFromThread(self._end)
        elif number != _HANG_UP:  # of a terminal that is closed several come: the shell's and the kernel's
            os._exit(Interrupted.exit_code)

    def _end(self) -> None:
        """End in good order, for a while."""
        if self._interrupted:
            self._reactor.callLater(SAY_S, say_that_it_ends)
        # Not `stop`, which waits for the threads.
        self._reactor.callLater(END_S if self._interrupted else SHORT_END_S, cast(Any, self._reactor).crash)
        assert self._running is not None
        self._running.cancel()

    def hear(self, event: LogEvent) -> None:
        """Whoever had no memory in the middle of something cannot be relied upon any more: end, in good order if it can
        be had.  Called in any thread."""
        failure = fault_in(event)
        if failure is not None and is_no_memory(failure.value) and not self._outcome:
            self._outcome.append(Failure(NoMemory()))
            self._reactor.callFromThread(self._end)

    def _ended(self, result: object) -> None:
        """Keep how it ended, and stop the reactor."""
        self._outcome.append(result if isinstance(result, Failure) else None)
        if self._reactor.running:
            self._reactor.stop()

    def let_go_of_signals(self) -> None:
        """The reactor is gone: from now on a signal ends the process, which may still wait for a thread."""
        signal.set_wakeup_fd(-1)
        if not self._interrupted:  # after a first signal, `_signal` ends the process at the next one
            for number in ending_signals():
                signal.signal(number, signal.SIG_DFL)

    def conclude(self) -> None:
        """Raise what :func:`run` says."""
        failure = self._outcome[0] if self._outcome else None
        if self._interrupted and not self._outcome:
            raise Interrupted(
                f"interrupted; what was under way did not end within {END_S:g} seconds and is kept as it is: run the"
                " same command again; a file goes on, a stream begins anew"
            )
        if self._interrupted and (failure is None or not failure.check(Interrupted)):
            raise Interrupted("interrupted")
        if failure is None:
            return
        if isinstance(failure.value, P2pxferError):
            raise failure.value
        if isinstance(failure.value, CancelledError):
            raise Interrupted("interrupted")
        failure.raiseException()


def run(main: Main, verbose: int) -> None:
    """Run ``main`` until it ends.

    Raises:
        P2pxferError: what ``main`` raised; :class:`~p2pxfer.errors.Interrupted` after one of :func:`ending_signals`,
            :data:`END_S` seconds later at the latest.  Threads may still be at work then.
    """
    from twisted.internet import reactor as installed

    reactor = cast(Reactor, installed)
    use_monotonic_time(reactor)
    start_logging(verbose)
    command = _Run(reactor, main)
    globalLogPublisher.addObserver(cast(ILogObserver, command.hear))
    reactor.callWhenRunning(command.begin)
    gc.freeze()
    gc.enable()
    # The interface does not know the argument that every reactor takes.
    cast(Any, reactor).run(installSignalHandlers=False)
    command.let_go_of_signals()
    command.conclude()


def say_that_it_ends() -> None:
    """Tell people, in every mode, why the prompt is not back yet."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"p2pxfer: ending; what is under way gets {END_S:g} seconds (the same signal again: none)\n")
        sys.stderr.flush()
