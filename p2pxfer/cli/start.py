"""Where the process of a command begins: who stops it while Python still imports sees no traceback.

Nothing is imported here that takes time, since until :func:`main` runs a signal is the interpreter's.
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED_EXIT = 130
"""The exit code of :class:`~p2pxfer.errors.Interrupted`, which is not imported yet."""
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that end a command in good order; not every system has the last."""
EVENT = '{"event": "error", "t": 0.0, "code": "E_INTERRUPTED", "message": "interrupted", "retry": true}\n'
"""What a program reads then."""


def main() -> None:
    """Entry point: import the command line and run it, which ends the process."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background, and under nohup
            signal.signal(number, end_at_once)
    from p2pxfer.cli.main import main as run

    run()


def end_at_once(number: int, frame: object) -> None:
    """End the process: an exception may come to nothing in an import, or leave half a module behind."""
    stream, line = (1, EVENT) if "--json" in sys.argv[1:] else (2, "p2pxfer: interrupted\n")
    try:
        os.write(stream, line.encode())
    finally:
        os._exit(INTERRUPTED_EXIT)
