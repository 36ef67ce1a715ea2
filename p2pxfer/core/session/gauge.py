"""What the connections between two hosts deliver together, as far as it says what the line between them can.

Laws of this file:

1. What they deliver is told of whole windows (:func:`~p2pxfer.core.session.lines.window_s`), and only if each of those
   that are up delivered something in it.
2. A round trip counts for the shortest one only on a connection that has carried
   :data:`~p2pxfer.core.session.lines.WARM`.
3. Packets queue while the longest round trip, as it is now or smoothed, is more than the usual one.
4. What was delivered lately is known only while all connections are full.

It does not know what is tried, and judges nothing.  Times in seconds, sizes in bytes, rates in bytes a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from p2pxfer.core.session.lines import (
    LEAST_TRIP_S,
    WARM,
    Lately,
    Line,
    held_back,
    longest_usual,
    misled,
    window_s,
)
from p2pxfer.core.session.losses import Losses

TRIP_WEIGHT: Final = 0.15
"""Of the newest round trip: what queues on a full line comes and goes, and ``bbr`` empties it on purpose at times."""


class _Window(Struct):
    """What each connection delivered since it was ``begun``, of those that delivered anything."""

    begun: float
    acked: dict[int, int] = field(default_factory=dict)


class Measured(Struct, frozen=True):
    """What came of a window of so many ``seconds``: bytes by connection."""

    seconds: float
    acked: Mapping[int, int]

    @property
    def rate(self) -> float:
        """Of all connections."""
        return sum(self.acked.values()) / self.seconds

    def of(self, line: int | None) -> float:
        """The rate of one of them; 0.0 of none."""
        return self.acked.get(line or 0, 0) / self.seconds


class Gauge:
    """Of the connections of one transfer, by number."""

    def __init__(self, now: float) -> None:
        self.lines: dict[int, Line] = {}
        """As they were at the last look."""
        self.least = 0.0
        """The shortest round trip that counts, 0.0 before any."""
        self.lately = Lately()
        self.losses = Losses()
        self._window = _Window(now)
        self._trip = 0.0
        """The longest of all connections, smoothed."""

    def look(self, lines: Mapping[int, Line], now: float) -> bool:
        """All connections that are up as they are now; returns whether they are the limit."""
        for line in lines.values():
            if line.acked > WARM:
                self.least = min(line.trip, self.least or line.trip)
        full = bool(lines) and all(line.full for line in lines.values()) and self.least >= LEAST_TRIP_S
        self._count(lines, full, now)
        return full

    def _count(self, lines: Mapping[int, Line], full: bool, now: float) -> None:
        window = self._window.acked
        acked = sent = repeated = 0
        for number, line in lines.items():
            before = self.lines.get(number)
            if before is not None:
                if line.acked > before.acked:
                    window[number] = window.get(number, 0) + line.acked - before.acked
                acked += line.acked - before.acked
                sent += line.sent - before.sent
                repeated += line.repeated - before.repeated
        self.lines = dict(lines)
        if not full:
            self.lately.forget()
        self.lately.look(acked, now)
        trip = max((line.trip for line in lines.values()), default=0.0)
        self._trip += TRIP_WEIGHT * (trip - self._trip) if self._trip else trip
        self.losses.look(sent, repeated, full=full, queues=trip > self._usual)

    def begin_window(self, now: float) -> None:
        """What was delivered so far says nothing more."""
        self._window = _Window(now)

    def delivered(self, now: float) -> Measured | None:
        """What the window brought, if it is over, and the next one begins; ``None`` also if one stood still in it."""
        window, seconds = self._window, now - self._window.begun
        if seconds < self.window_s:
            return None
        self.begin_window(now)
        return Measured(seconds, window.acked) if window.acked.keys() == self.lines.keys() else None

    @property
    def window_s(self) -> float:
        """How long a window is."""
        return window_s(self.least)

    @property
    def queues(self) -> bool:
        """Packets queue."""
        return self._trip > self._usual or any(line.trip > self._usual for line in self.lines.values())

    @property
    def _usual(self) -> float:
        """The round trip from which on packets queue."""
        return longest_usual(self.least)

    @property
    def misled(self) -> bool:
        """See :func:`~p2pxfer.core.session.lines.misled`."""
        return misled(self.lines.values(), self.least)

    @property
    def held_back(self) -> bool:
        """See :func:`~p2pxfer.core.session.lines.held_back`."""
        return held_back(self.lines.values(), self.least)
