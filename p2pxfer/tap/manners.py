"""The manners of a command for what ``twistd`` runs: time that nobody sets, files of its own, one line for a fault."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn, TextIO

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
_HEARD: Final = 100
"""So many bytes whoever began a daemon hears of why it did not start."""


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


def stop(program: str, error: P2pxferError, given: Any = None) -> NoReturn:
    """Say why and end the process, once for each who looks: on standard error, and in a log that is elsewhere.

    ``given`` is what ``twistd`` or ``twist`` was told itself.  The status is that of the error; but where the system
    failed in what may pass it is that of :class:`DiskError`, so that whoever supervises the program starts it again.
    """
    said = f"{program}: {error}"
    for stream in {sys.__stderr__, _log(given)}:
        if stream is not None:
            stream.write(f"{said}\n")
            stream.flush()
    if given is not None and "pidfile" in given:
        _part(given, said)
    raise SystemExit(DiskError.exit_code if _may_pass(error) else error.exit_code)


def _log(given: Any) -> TextIO | None:
    """Where what goes to standard error is written into the log, unless that is shown beside it.

    ``twistd`` turns standard error into log lines, and in the foreground has the log on standard output.
    """
    twistd = given is not None and "nodaemon" in given
    if twistd and given["nodaemon"] and given["logfile"] in (None, "-") and not (given["logger"] or given["syslog"]):
        return None
    return sys.stderr


def _part(given: Any, said: str) -> None:
    """Do what ``twistd`` does for faults alone and not where a program ends itself.

    Whoever began a daemon waits for its word, for ever if none comes, and a file with the id of a process that is gone
    keeps the next one away if that id is another's by then.
    """
    waiting = given.get("statusPipe")
    if waiting is not None:
        os.write(waiting, f"1 {said}".encode("ascii", "backslashreplace")[:_HEARD])
        os.close(waiting)
    file = Path(given["pidfile"] or os.devnull)
    with suppress(OSError):
        if file.read_text(encoding="ascii", errors="replace").strip() == str(os.getpid()):
            file.unlink()


def _may_pass(error: P2pxferError) -> bool:
    cause = error.__cause__
    # Twisted wraps what it was told about a socket.
    fault = getattr(cause, "socketError", cause)
    return isinstance(error, ConfigError) and isinstance(fault, OSError) and fault.errno in _PASSING
