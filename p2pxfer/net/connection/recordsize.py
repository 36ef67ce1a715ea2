"""How much of what is sent goes together: into the next sealed record, or behind it until the kernel takes more.

A record is opened when all of it has come, so of one that a cut meets nothing is of use.  Large ones save time where
many go by in a second; on a slow line one would take longer than some connections live.  What waits for the kernel
cannot be overtaken, and on a slow line may be many seconds of it.
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


class LineShare:
    """What ``sock`` takes in half a second, ``largest`` bytes at most; ``now`` is the reactor's clock.

    Inside a relay leg the rate is that of the leg's own connection to the server, since that is what the kernel knows;
    where it knows nothing, as elsewhere than on Linux, it is :data:`UNKNOWN` bytes.
    """

    def __init__(
        self,
        sock: Any,
        now: Callable[[], float],
        rate: Callable[[Any], int | None] = delivery_rate,
        *,
        largest: int = MAX_RECORD,
    ) -> None:
        self._largest = largest
        self._socket = sock
        self._now = now
        self._rate = rate
        self._most = 0
        self._left = 0
        self._until = 0.0

    def most(self) -> int:
        """Most bytes of the record that is sealed now, or of what may wait before it."""
        now = self._now()
        if self._left <= 0 or now >= self._until:
            rate = self._rate(self._socket)
            share = UNKNOWN if rate is None else max(LEAST, int(rate * RECORD_S))
            self._most = min(self._largest, share)
            self._left, self._until = AGAIN * self._most, now + AGAIN_S
        self._left -= self._most
        return self._most
