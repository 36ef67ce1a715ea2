"""The keyboard or pipe from which the lines of a chat come, and the screen or pipe to which the peer's go."""

from __future__ import annotations

import os
import select
import sys
import time
from typing import Final

from p2pxfer.core.session.chatwire import MAX_TEXT
from p2pxfer.core.session.conversation import Line
from p2pxfer.core.text import safe_text
from p2pxfer.net.blocking import write_whole

LINE_MAX: Final = 4 * MAX_TEXT
"""Most bytes of one line: what is longer cannot be one of :data:`~p2pxfer.core.session.chatwire.MAX_TEXT`
characters."""
TOO_LONG: Final = "\0"
"""Stands for a line that is longer; no line of text is this one."""


class LineInput:
    """Lines of a descriptor, for one thread; see :mod:`p2pxfer.cli.questions` why it is not ``sys.stdin``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self._skipping = False
        self._ended = False

    def read(self) -> list[str] | None:
        """Wait for lines; ``None`` when the input has ended."""
        while not self._ended:
            try:
                select.select([self._descriptor], [], [])
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            self._ended = not data
            lines = self._lines(data)
            if lines:
                return lines
        return None

    def _lines(self, data: bytes) -> list[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if self._ended and (self._rest or self._skipping):
            whole.append(self._rest)
        found = []
        for line in whole:
            if self._skipping or len(line) > LINE_MAX:
                self._skipping = False
                found.append(TOO_LONG)
            else:
                found.append(line.removesuffix(b"\r").decode("utf-8", "replace"))
        if len(self._rest) > LINE_MAX:
            self._rest, self._skipping = b"", True
        return found


def shown_line(name: str, line: Line, terminal: bool) -> str:
    """A line of the peer as it is written, without its end; it cannot steer a terminal, whatever is in it."""
    text = safe_text(line.text, 10 * MAX_TEXT)
    if not terminal:
        return text
    when = time.strftime("%H:%M", time.localtime(min(line.at, 2**40)))
    return f"[{when}] {safe_text(name)}: {text}"


def write_line(text: str) -> None:
    """Write one line to standard output, however long that takes.  Raises ``OSError``."""
    write_whole(sys.stdout.fileno(), bytearray(text.encode("utf-8", "replace") + b"\n"))
