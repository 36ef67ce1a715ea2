"""Whether one connection is enough: when another one is opened beside it, and whether it may stay.

Laws of this file:

1. Nothing is tried unless the connections are the limit: all of them were full for a whole window
   (:data:`WINDOW_S`, :data:`WINDOW_TRIPS`), what they deliver has stopped growing, and the round trip is long enough
   (:data:`LEAST_TRIP_S`) for a window of the kernel to matter.  On loopback and in a LAN one connection fills the line.
2. Nothing is tried while packets queue (:data:`QUEUE`): then the line is the limit.  What is left is a window, or loss.
3. One change at a time.  It is judged by the sum of what all connections deliver, once it has settled: it stays if the
   sum rose by :data:`GAIN`, else it is undone; behind a connection that was undone, or did not come about, nothing is
   tried for :data:`REST_S`, twice as long each time.  While a connection stands still or is not full, or after one was
   lost, nothing is judged: the sum says nothing about the change then.  But a connection on trial that delivers nothing
   at all for :data:`TRIAL` windows, while another one does, is undone too.
4. Where packets get lost (:data:`LOSS`) the first change is another congestion control, which does not take loss for a
   full line; it costs nothing.  All further ones are connections, ``most`` at most, and none is opened before
   enough went out (:data:`ENOUGH`) to tell whether packets get lost.

Times in seconds, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from msgspec import Struct, field

MAX_LINES: Final = 8
LEAST_TRIP_S: Final = 0.01
GAIN: Final = 1.15
WINDOW_S: Final = 0.5
WINDOW_TRIPS: Final = 6
TRIAL: Final = 4
IDLE: Final = 16 * 1024
"""So many bytes in a trial, or less, are signs of life and no data."""
SETTLE_S: Final = 0.5
SETTLE_TRIPS: Final = 8
"""What a new connection has until it counts: slow start takes one round trip for each doubling."""
QUEUE: Final = 1.25
QUEUE_S: Final = 0.002
"""Packets queue when the round trip is so many times the shortest one, and so much longer."""
LOSS: Final = 0.0005
"""Share of segments that were sent again."""
ENOUGH: Final = 1000
"""Segments after which it is known whether packets get lost: of so many one in two hundred leaves none out."""
WARM: Final = 128 * 1024
"""Bytes after which a round trip counts: the one that a kernel knows of two SYNs that crossed is too short by half."""
REST_S: Final = 30.0
MAX_REST_S: Final = 960.0


class Line(Struct, frozen=True):
    """One connection at one moment: bytes acknowledged, segments sent and segments sent again since it stood; its
    smoothed round trip; ``full``: more waits than it takes."""

    acked: int
    sent: int
    repeated: int
    trip: float
    full: bool


class Open(Struct, frozen=True):
    """Open another connection, and tell :meth:`Widening.opened` what came of it."""


class Close(Struct, frozen=True):
    """Give this connection nothing more, and close it."""

    line: int


class Steady(Struct, frozen=True):
    """Take the congestion control that bears loss, or (``on`` false) the usual one again, on every connection; see
    :meth:`Widening.steadied`."""

    on: bool


Order = Open | Close | Steady


class _Phase(Enum):
    WATCHING = "what the connections deliver is measured"
    CHANGING = "a change is under way"
    SETTLING = "a change was made and takes effect"
    JUDGING = "what they deliver after the change is measured"
    RESTING = "nothing is tried for a while"


class _Window(Struct):
    """A time in which all connections were full."""

    begun: float
    acked: int = 0
    sent: int = 0
    repeated: int = 0
    moved: set[int] = field(default_factory=set)
    """Which connections delivered anything."""


def window_s(trip: float) -> float:
    """How long what is delivered is measured, on a line with this round trip."""
    return max(WINDOW_S, WINDOW_TRIPS * trip)


class Widening:
    """The connections between two hosts, by number; one of these for each transfer.  ``most``: so many at once."""

    def __init__(self, now: float, most: int = MAX_LINES) -> None:
        self._most = most
        self._phase = _Phase.WATCHING
        self._until = 0.0
        self._rest = REST_S
        self._lines: dict[int, Line] = {}
        self._window = _Window(now)
        self._before = 0.0
        self._least: float | None = None
        """The shortest round trip that counts."""
        self._newest: int | None = None
        """The connection on trial; ``None``: the congestion control is."""
        self._at_trial: dict[int, Line] = {}
        """The connections as they were when the trial began."""
        self._sent = self._repeated = 0
        """Segments in all windows that were full."""
        self._steady: bool | None = None
        """Whether the other congestion control is in use; ``None``: not tried."""

    def look(self, lines: Mapping[int, Line], now: float) -> Order | None:
        """What is to be done, with all connections that are up as they are now; called a few times a second."""
        self._count(lines)
        least = self._least or 0.0
        full = bool(lines) and all(line.full for line in lines.values())
        if not full or least < LEAST_TRIP_S or self._phase in (_Phase.CHANGING, _Phase.SETTLING, _Phase.RESTING):
            self._begin_window(now)
        self._pass_time(now)
        if now - self._window.begun < self._window_s:
            return self._stuck(now)
        window = self._window
        self._begin_window(now)
        if window.moved != set(lines):
            return self._stuck(now)
        rate = window.acked / (now - window.begun)
        self._sent += window.sent
        self._repeated += window.repeated
        lost = window.repeated > LOSS * window.sent or self._repeated > LOSS * self._sent
        match self._phase:
            case _Phase.WATCHING:
                return self._watched(rate, lost, now)
            case _Phase.JUDGING:
                return self._judged(rate, lost, now)
            case _:
                return None

    def opened(self, line: int | None, now: float) -> None:
        """The connection that was asked for stands, or none came about."""
        if self._phase is not _Phase.CHANGING:
            return
        if line is None:
            self._take_a_rest(now)
        else:
            self._newest = line
            self._settle(now)

    def steadied(self, done: bool, now: float) -> None:
        """Whether the system has the other congestion control, and allows it."""
        if self._phase is not _Phase.CHANGING:
            return
        self._steady = done
        self._newest = None
        if done:
            self._settle(now)
        else:
            self._phase = _Phase.WATCHING

    @property
    def steady(self) -> bool:
        """Whether new connections are to have the congestion control that bears loss."""
        return bool(self._steady)

    # -- measuring -----------------------------------------------------------------------------------------------

    def _count(self, lines: Mapping[int, Line]) -> None:
        window = self._window
        if self._lines.keys() - lines.keys() and self._phase in (_Phase.SETTLING, _Phase.JUDGING):
            self._phase, self._before = _Phase.WATCHING, 0.0
        for number, line in lines.items():
            before = self._lines.get(number)
            if before is not None:
                window.acked += line.acked - before.acked
                if line.acked > before.acked:
                    window.moved.add(number)
                window.sent += line.sent - before.sent
                window.repeated += line.repeated - before.repeated
            if line.acked > WARM:
                self._least = min(line.trip, self._least or line.trip)
        self._lines = dict(lines)

    @property
    def _window_s(self) -> float:
        return window_s(self._least or 0.0)

    def _begin_window(self, now: float) -> None:
        self._window = _Window(now)

    def _settle(self, now: float) -> None:
        self._phase, self._until = _Phase.SETTLING, now + max(SETTLE_S, SETTLE_TRIPS * (self._least or 0.0))

    def _begin_trial(self, now: float) -> None:
        self._phase, self._until = _Phase.JUDGING, now + TRIAL * self._window_s
        self._at_trial = self._lines

    def _take_a_rest(self, now: float) -> None:
        self._phase, self._until = _Phase.RESTING, now + self._rest
        self._rest = min(2 * self._rest, MAX_REST_S)
        self._before = 0.0

    def _pass_time(self, now: float) -> None:
        if self._phase is _Phase.SETTLING and now >= self._until:
            self._begin_trial(now)
        elif self._phase is _Phase.RESTING and now >= self._until:
            self._phase = _Phase.WATCHING

    # -- deciding ------------------------------------------------------------------------------------------------

    def _watched(self, rate: float, lost: bool, now: float) -> Order | None:
        grown, self._before = rate > GAIN * self._before, rate
        return None if grown or not rate else self._change(lost)

    def _change(self, lost: bool) -> Order | None:
        usual = QUEUE * (self._least or 0.0) + QUEUE_S
        if any(line.trip > usual for line in self._lines.values()):
            self._phase = _Phase.WATCHING
            return None
        if lost and self._steady is None:
            self._phase = _Phase.CHANGING
            return Steady(True)
        known = lost or self._steady is not None or self._sent >= ENOUGH
        if known and len(self._lines) < self._most:
            self._phase = _Phase.CHANGING
            return Open()
        self._phase = _Phase.WATCHING
        return None

    def _stuck(self, now: float) -> Order | None:
        """Nothing can be judged; but the connection on trial goes if it delivered nothing while another one did."""
        if self._phase is not _Phase.JUDGING or now < self._until:
            return None
        before = self._at_trial
        went = {number: line.acked - before[number].acked for number, line in self._lines.items() if number in before}
        moved = {number for number, size in went.items() if size > IDLE}
        self._begin_trial(now)
        if self._newest not in self._lines or self._newest in moved or not moved:
            return None
        self._take_a_rest(now)
        return Close(self._newest)

    def _judged(self, rate: float, lost: bool, now: float) -> Order | None:
        """The change stays and the next one is made, or it is undone."""
        if self._newest is not None and self._newest not in self._lines:
            self._phase, self._before = _Phase.WATCHING, 0.0
            return None
        if rate >= GAIN * self._before:
            self._rest = REST_S
            self._before = rate
            return self._change(lost)
        if self._newest is None:
            self._steady = False
            self._phase = _Phase.WATCHING
            return Steady(False)
        self._take_a_rest(now)
        return Close(self._newest)
