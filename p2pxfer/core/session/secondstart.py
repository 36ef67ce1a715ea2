"""When a connection is to begin anew, since its congestion control took loss for a full line.

What knows loss only (``cubic``) ends its beginning with the first packet that is lost, and grows by little from there:
if that was one of the greeting, at a hundredth of what the line carries.  ``bbr`` (Cardwell and others, 2016) ends it
once three round trips brought less than a quarter more each.  A packet that is lost costs it the growth of a round
trip, since it sends no more for so long than arrives; some in a row end the beginning at a part of what the line
carries, and from there it looks for a quarter more each eight round trips only.

Laws of this file:

1. A connection begins anew where it was full and nothing queued for two windows (:data:`WINDOW_S`,
   :data:`WINDOW_TRIPS`), it delivered less than :data:`GROWTH` times as much in the second one, and it lost a packet,
   though not so many as a queue that is overrun (:data:`~p2pxfer.core.session.losses.MOST`).
2. It does not where it delivers more than :data:`NEAR` in a round trip: then buffers may be the limit.
3. A beginning has :data:`SETTLE` windows to itself, and another one follows only if it brought
   :data:`~p2pxfer.core.session.lines.GAIN` times what was there: a line that is full is asked once.

Times in seconds, rates in bytes a second.
"""

from __future__ import annotations

from typing import Final

from p2pxfer.core.session.lines import GAIN, LEAST_TRIP_S, WARM, Line, longest_usual
from p2pxfer.core.session.losses import MOST

WINDOW_S: Final = 0.25
WINDOW_TRIPS: Final = 4
GROWTH: Final = 2.0
"""A beginning brings this in one round trip without losses, and in two with one loss."""
SETTLE: Final = 3
NEAR: Final = 768 * 1024
"""Bytes; the buffers that Linux has by itself carry some 1.3 MB in a round trip with losses."""


class SecondStart:
    """Of one connection."""

    def __init__(self) -> None:
        self._least = 0.0
        """The shortest round trip that counts, 0.0 before any."""
        self._begun: float | None = None
        self._acked = 0
        self._rate = 0.0
        """What the last window delivered; 0.0 if there was none just before."""
        self._before = 0.0
        """What was delivered when it began anew last."""
        self._settling = 0
        """Windows that the beginning still has."""

    def look(self, line: Line, now: float) -> bool:
        """Whether the connection is to begin anew; called a few times a second while it carries."""
        if line.acked > WARM:
            self._least = min(line.trip, self._least or line.trip)
        counts = line.full and (not self._least or line.trip <= longest_usual(self._least))
        if not counts or self._begun is None:
            self._begin(line, now if counts else None)
            self._rate = 0.0
            return False
        if now - self._begun < max(WINDOW_S, WINDOW_TRIPS * (self._least or line.trip)):
            return False
        rate, last = (line.acked - self._acked) / (now - self._begun), self._rate
        self._begin(line, now)
        self._rate, self._settling = rate, max(0, self._settling - 1)
        lost = 0 < line.repeated <= MOST * line.sent
        stuck = self._least >= LEAST_TRIP_S and 0 < rate < GROWTH * last and rate * self._least <= NEAR
        if not lost or not stuck or self._settling or rate < GAIN * self._before:
            return False
        self._before, self._settling = rate, SETTLE
        return True

    def _begin(self, line: Line, now: float | None) -> None:
        self._begun, self._acked = now, line.acked
