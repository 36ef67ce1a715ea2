"""How much goes into the next sealed record.

A record is opened when all of it has come, so of one that a cut meets nothing is of use.  Large ones save time where
many go by in a second; on a slow line one would take longer than some connections live.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from p2pxfer.core.session.records import MAX_RECORD
from p2pxfer.net.connection.tcpinfo import delivery_rate

RECORD_S: Final = 0.5
"""A record takes no longer than this at the rate at which the other end acknowledged lately, seconds."""
LEAST: Final = 32 * 1024
"""Smaller ones would cost a slow line more in headers than they save, and a new connection has no rate yet; bytes."""
UNKNOWN: Final = 512 * 1024
"""Where the kernel knows no rate: the line may be a slow one; bytes."""
AGAIN: Final = 8
"""After so many full records the kernel is asked again, and"""
AGAIN_S: Final = 1.0
"""after so many seconds."""


class RecordSize:
    """Of the records on ``sock``; ``now`` is the reactor's clock.

    Inside a relay leg the rate is that of the leg's own connection to the server, since that is what the kernel knows;
    where it knows nothing, as elsewhere than on Linux, records have :data:`UNKNOWN` bytes.
    """

    def __init__(self, sock: Any, now: Callable[[], float], rate: Callable[[Any], int | None] = delivery_rate) -> None:
        self._socket = sock
        self._now = now
        self._rate = rate
        self._most = 0
        self._left = 0
        self._until = 0.0

    def most(self) -> int:
        """Most bytes of the record that is sealed now."""
        now = self._now()
        if self._left <= 0 or now >= self._until:
            rate = self._rate(self._socket)
            self._most = UNKNOWN if rate is None else min(MAX_RECORD, max(LEAST, int(rate * RECORD_S)))
            self._left, self._until = AGAIN * self._most, now + AGAIN_S
        self._left -= self._most
        return self._most
