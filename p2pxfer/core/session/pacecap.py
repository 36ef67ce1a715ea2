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
4. A time in which the connection was not full says nothing.  A window in which the line was not what held it up, for
   more of the time than the headroom makes good, says that it delivers at least so much: the other end's disk was
   behind, or this end's processor.  Growth that stops there is no reason for a cap.
5. Nothing is capped where the round trip is too short for a buffer to be smaller than the line
   (:data:`~p2pxfer.core.session.lines.LEAST_TRIP_S`), and no longer than it looks longer.  The shortest one counts:
   what waits for a processor makes no line longer.
6. A connection that carried nothing for :data:`ANEW_S`, as when another path did, begins anew, without a cap: its line
   may have been mended, and a cap that rises step by step would have it judged as the slow one that it was.

Times in seconds, rates in bytes a second.
"""

from __future__ import annotations

from typing import Final

from p2pxfer.core.session.lines import GAIN, LEAST_TRIP_S, Line, window_s

HEADROOM: Final = 1.25
"""What ``bbr`` itself uses to look for more."""
ANEW_S: Final = 5.0


class PaceCap:
    """The cap of one connection."""

    def __init__(self) -> None:
        self._begun: tuple[float, Line] | None = None
        self._best = 0.0
        self._cap = 0.0
        self._looked = 0.0

    def look(self, line: Line, now: float) -> int | None:
        """The cap from now on, 0 for none, ``None`` if it stays as it is; called a few times a second while the
        connection carries."""
        rested, self._looked = now - self._looked > ANEW_S, now
        long = (line.shortest or line.trip) >= LEAST_TRIP_S
        if self._cap and (rested or not long):
            self._begun, self._best, self._cap = None, 0.0, 0.0
            return 0
        if not (line.full and long):
            self._begun = None
            return None
        if self._begun is None:
            self._begun = now, line
            return None
        since, before = self._begun
        if now - since < window_s(line.trip):
            return None
        self._begun = now, line
        return self._judge((line.acked - before.acked) / (now - since), _held_up(before, line, now - since))

    def _judge(self, rate: float, held_up: bool) -> int | None:
        """What follows from what was delivered in a window."""
        grows, self._best = rate > GAIN * self._best, max(rate, self._best)
        if ((grows or held_up) and not self._cap) or HEADROOM * self._best <= self._cap:
            return None
        self._cap = HEADROOM * self._best
        return int(self._cap)


def _held_up(before: Line, after: Line, seconds: float) -> bool:
    """Whether either end was waited for in a window of so many ``seconds``, for longer than the headroom makes good."""
    if before.at_work is None or after.at_work is None:
        return False
    return HEADROOM * (after.at_work - before.at_work) < seconds
