"""The manners of a command for what ``twistd`` runs: time that nobody sets, and one line for what cannot be."""

from __future__ import annotations

import sys
import time
from typing import Any, NoReturn

from p2pxfer.errors import P2pxferError


def use_monotonic_time(reactor: Any) -> None:
    """Let timers and deadlines follow a clock that nobody sets: Twisted's reactors read the time of day.

    At the first moment that a plugin has; does nothing if another service of the process has scheduled a call by then,
    since that call carries a time of the other clock.
    """
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


def stop(program: str, error: P2pxferError) -> NoReturn:
    """Say why and end the process; once ``twistd`` has turned standard error into log lines, say it in both places."""
    for stream in {sys.__stderr__, sys.stderr}:
        if stream is not None:
            stream.write(f"{program}: {error}\n")
            stream.flush()
    raise SystemExit(error.exit_code)
