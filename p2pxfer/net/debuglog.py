"""The logger of what has something to say to whoever looks for a fault, and else to nobody.

``twistd`` writes every event into its log, of whatever level, so what nobody asked for is not said in the first place.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from twisted import logger


class _Asked(Struct):
    debug: bool = False


_asked: Final = _Asked()


def want_debug(wanted: bool) -> None:
    """Let debug messages reach the log, or not; they do not until this is called."""
    _asked.debug = wanted


class Logger(logger.Logger):
    """Twisted's, but for debug messages that nobody wants."""

    def emit(self, level: logger.LogLevel, format: str | None = None, **kwargs: object) -> None:
        """See Twisted."""
        if level is not logger.LogLevel.debug or _asked.debug:
            super().emit(level, format, **kwargs)
