"""How fast the kernel may send on one connection: not much faster than it ever delivered.

A congestion control that paces by a model of the line, such as ``bbr`` (Cardwell and others, 2016), begins at 2.9 times
what is delivered and slows down when that stops growing.  It does not believe a measurement that was taken while there
was nothing to send; and a socket whose buffer is smaller than what the beginning would have under way looks just like
that whenever it is written to.  So on a long line with the kernel's usual buffers ``bbr`` may never end its beginning:
each pause is followed by a burst that the queue of the line does not hold, and what is lost is repaired for seconds.

Laws of this file:

1. No cap before what is delivered has stopped growing for a whole window: no beginning is held up.
2. The cap is :data:`HEADROOM` times the most that was delivered in a window, and rises with it, so a line that gets
   faster is found out within some windows.
3. The cap never sinks.  A line that got slower is the congestion control's business, and one that stood still for a
   while has not become slow.
4. A time in which the connection was not full says nothing, and nothing is capped where the round trip is too short
   for a buffer to be smaller than the line (:data:`~p2pxfer.core.session.widening.LEAST_TRIP_S`).
5. A connection that carried nothing for :data:`ANEW_S`, as when another path did, begins anew, without a cap: its line
   may have been mended, and a cap that rises step by step would have it judged as the slow one that it was.

Times in seconds, rates in bytes a second.
"""

from __future__ import annotations

from typing import Final

from p2pxfer.core.session.widening import GAIN, LEAST_TRIP_S, Line, window_s

HEADROOM: Final = 1.25
"""What ``bbr`` itself uses to look for more."""
ANEW_S: Final = 5.0


class PaceCap:
    """The cap of one connection."""

    def __init__(self) -> None:
        self._begun: float | None = None
        self._acked = 0
        self._best = 0.0
        self._cap = 0.0
        self._looked = 0.0

    def look(self, line: Line, now: float) -> int | None:
        """The cap from now on, 0 for none, ``None`` if it stays as it is; called a few times a second while the
        connection carries."""
        rested, self._looked = now - self._looked > ANEW_S, now
        if rested and self._cap:
            self._best = self._cap = 0.0
            self._begin(line, None)
            return 0
        counts = line.full and line.trip >= LEAST_TRIP_S
        if not counts or self._begun is None:
            self._begin(line, now if counts else None)
            return None
        if now - self._begun < window_s(line.trip):
            return None
        rate = (line.acked - self._acked) / (now - self._begun)
        self._begin(line, now)
        grows, self._best = rate > GAIN * self._best, max(rate, self._best)
        if (grows and not self._cap) or HEADROOM * self._best <= self._cap:
            return None
        self._cap = HEADROOM * self._best
        return int(self._cap)

    def _begin(self, line: Line, now: float | None) -> None:
        self._begun, self._acked = now, line.acked
