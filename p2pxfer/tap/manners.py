"""The manners of a command for what ``twistd`` runs: time that nobody sets, files of its own, one line for a fault."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NoReturn

from twisted.logger import LogLevel
from twisted.python import usage

from p2pxfer.core.text import safe_text
from p2pxfer.errors import ConfigError, DiskError, P2pxferError, UsageError
from p2pxfer.net.debuglog import want_debug

_PASSING: Final = frozenset(
    {
        errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ESTALE,
        errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENODEV, errno.ENXIO, errno.ENOTCONN,
    }
)  # fmt: skip
"""What the system says of disks, mounts and limits that may be well again later.  Not of a read-only file system: so
looks a directory that the unit does not let the program write into."""

_PIDFILE: Final = "twistd.pid"
"""What ``twistd`` calls it where nothing is said."""


class ProgramOptions(usage.Options):
    """The options of one ``program``: what is wrong with them is one line and status 2, as with every command."""

    program: ClassVar[str]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """See Twisted, whose programs print all of their help for a slip and end with status 1."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]  # Twisted does not annotate it
        except usage.UsageError as error:
            stop(
                self.program,
                UsageError(f"{safe_text(str(error), 200)}; twistd {self.program} --help lists the options"),
            )

    def postOptions(self) -> None:
        """Files and log of the program, see the functions of this module."""
        name_files(self.parent, self.program)
        take_log_level(self.parent)


def use_monotonic_time(reactor: Any) -> None:
    """Let timers and deadlines follow a clock that nobody sets: Twisted's reactors read the time of day.

    At the first moment that a plugin has; does nothing if another service of the process has scheduled a call by then,
    since that call carries a time of the other clock.
    """
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


def stop_once(reactor: Any) -> None:
    """Let a signal be no fault that comes while the reactor stops already: Twisted's own handlers stop it again.

    It is one before the reactor runs, as ever: who stops it then has to hear that nothing comes of it.
    """
    reactor.stop = _StopOnce(reactor.stop).stop


class _StopOnce:
    """The way to stop a reactor, and whether it was gone already."""

    def __init__(self, stop_reactor: Callable[[], None]) -> None:
        self._stop_reactor = stop_reactor
        self._stopped = False

    def stop(self) -> None:
        """Stop the reactor unless that was done."""
        if not self._stopped:
            self._stop_reactor()
            self._stopped = True


def name_files(given: Any, program: str) -> None:
    """Name the file of the process id, and a daemon's log, after the program where nobody has said how they are called.

    ``given`` is what ``twistd`` was told itself; ``twist``, and whoever is not called by either, has no such files.
    All of ``twistd``'s programs would use the same two, so a server and an agent could not begin in one directory.
    """
    if given is None or "pidfile" not in given:
        return
    if given["pidfile"] == _PIDFILE:
        given["pidfile"] = f"{program}.pid"
    elsewhere = given["logfile"] or given["logger"] or given["syslog"]
    if not given["nodaemon"] and not elsewhere:
        given["logfile"] = f"{program}.log"


def take_log_level(given: Any) -> None:
    """Let debug messages be said where ``twist`` was told to; ``twistd`` would show them all, always."""
    want_debug(given is not None and given.get("logLevel") is LogLevel.debug)


def stop(program: str, error: P2pxferError) -> NoReturn:
    """Say why and end the process; once ``twistd`` has turned standard error into log lines, say it in both places.

    The status is that of the error; but where the system failed in what may pass it is that of :class:`DiskError`, so
    that whoever supervises the program starts it again.
    """
    for stream in {sys.__stderr__, sys.stderr}:
        if stream is not None:
            stream.write(f"{program}: {error}\n")
            stream.flush()
    raise SystemExit(DiskError.exit_code if _may_pass(error) else error.exit_code)


def _may_pass(error: P2pxferError) -> bool:
    cause = error.__cause__
    # Twisted wraps what it was told about a socket.
    fault = getattr(cause, "socketError", cause)
    return isinstance(error, ConfigError) and isinstance(fault, OSError) and fault.errno in _PASSING
