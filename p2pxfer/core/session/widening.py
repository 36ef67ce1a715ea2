"""Whether one connection is enough: when another one is opened beside it, and whether it may stay.

Laws of this file:

1. Nothing is tried unless the connections are the limit: all of them were full for a whole window
   (:func:`~p2pxfer.core.session.lines.window_s`), what they deliver has stopped growing, and the round trip is long
   enough for a window of the kernel to matter.  On loopback and in a LAN one connection fills the line.
2. Nothing is tried while packets queue: then the line is the limit.  What is left is a window, or loss.
3. One change at a time, but see 5.  It is judged by the sum of what all connections deliver, once it has settled: it
   stays if the sum rose by :data:`~p2pxfer.core.session.lines.GAIN`, and a connection only if it delivers what the sum
   had to rise by, or would have now; else it is undone, but not while it delivers more with each window, for
   :data:`TRIAL` windows.  Behind a connection that was undone, or did not come about, nothing is tried for
   :data:`REST_S`, twice as long each time.  A short pause of what was there before makes nothing new look better
   (:data:`FADE`).  While a connection stands still or is not full, or after one was lost, nothing is judged.  But a
   connection on trial that delivers nothing at all for :data:`TRIAL` windows, while another one does, is undone.
4. Where packets get lost (:mod:`~p2pxfer.core.session.losses`) the first change is another congestion control, which
   does not take loss for a full line; it costs nothing.  All further ones are connections, ``most`` at most, and none
   is opened before it is known whether packets get lost.
5. Where loss is plain the growth is not waited for: what takes loss for a full line has ended its growth with the
   first one, and what arrives behind a hole is kept at both ends until the hole is filled, so that with losses the
   kernels' buffers carry half of what they do without.  The same holds where a loss has left a single connection so
   slow that no more losses show (:mod:`~p2pxfer.core.session.secondstart`).  The other congestion control comes at
   once, and so does the second connection, which takes some round trips to come.  The congestion control stays as soon
   as the sum is :data:`LEAP` times what it was, or if those that were there before deliver more, or the line is full;
   where it did not, it goes with the connection that is undone.  Connections that lose packets take longer to grow, so
   no third one comes while the second one does.
6. Where SYNs crossed the kernel takes a part of the round trip (:data:`~p2pxfer.core.session.lines.PART`) for all of
   it, for some seconds, and what paces by a model is held back by that.  So there the other congestion control is not
   judged, and the second connection comes at once where loss is plain, or where the system itself paces by a model.
   Once that one stays, knows better and delivers :data:`LEAP` times as much, the first one goes.

Times in seconds, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from p2pxfer.core.session.gauge import Gauge
from p2pxfer.core.session.lineorders import Close, Open, Order, Steady
from p2pxfer.core.session.lines import GAIN, Line, held_back, misled
from p2pxfer.core.session.secondstart import SecondStart

MAX_LINES: Final = 8
TRIAL: Final = 4
IDLE: Final = 16 * 1024
"""So many bytes in a trial, or less, are signs of life and no data."""
SETTLE_S: Final = 0.5
SETTLE_TRIPS: Final = 8
"""What a new connection has until it counts: slow start takes one round trip for each doubling."""
FADE: Final = 0.9
"""What a window delivered counts for so much in the next one, if that delivered less."""
LEAP: Final = 2.0
REST_S: Final = 30.0
MAX_REST_S: Final = 960.0


class _Phase(Enum):
    WATCHING = "what the connections deliver is measured"
    CHANGING = "a change is under way"
    SETTLING = "a change was made and takes effect"
    JUDGING = "what they deliver after the change is measured"
    RESTING = "nothing is tried for a while"


class _Steadying(Enum):
    UNTRIED = "what bears loss was not tried"
    TRIED = "what bears loss is in use and on trial"
    KEPT = "what bears loss is in use"
    REFUSED = "the system has nothing that bears loss, or uses it anyway, or it brought nothing"


class Widening:
    """The connections between two hosts, by number; one of these for each transfer.  ``most``: so many at once."""

    def __init__(self, now: float, most: int = MAX_LINES) -> None:
        self._most = most
        self._phase = _Phase.WATCHING
        self._until = 0.0
        self._rest = REST_S
        self._gauge = Gauge(now)
        self._before = 0.0
        self._newest: int | None = None
        """The connection on trial; ``None``: the congestion control is."""
        self._own = 0.0
        """What the connection on trial delivered in the last window."""
        self._at_trial: dict[int, Line] = {}
        """The connections as they were when the trial began."""
        self._steadying = _Steadying.UNTRIED
        self._start = SecondStart()
        """Of the only connection, before what bears loss was tried."""
        self._plain = False  # as of the last look

    def look(self, lines: Mapping[int, Line], now: float) -> Order | None:
        """What is to be done, with all connections that are up as they are now; called a few times a second."""
        if self._gauge.lines.keys() - lines.keys() and self._phase in (_Phase.SETTLING, _Phase.JUDGING):
            self._phase, self._before = _Phase.WATCHING, 0.0
            self._keep()
        full = self._gauge.look(lines, now)
        if not full or self._phase in (_Phase.CHANGING, _Phase.SETTLING, _Phase.RESTING):
            self._gauge.begin_window(now)
        self._pass_time(now)
        if self._phase is _Phase.RESTING and self._steadying is _Steadying.TRIED:
            self._steadying = _Steadying.REFUSED
            return Steady(False)
        alone = len(lines) == 1 and self._steadying is _Steadying.UNTRIED
        self._plain = (alone and self._start.look(next(iter(lines.values())), now)) or self._gauge.losses.plain
        order = self._at_once() if full else None
        if order is not None:
            return order
        delivered = self._gauge.delivered(now)
        if delivered is None:
            return self._stuck(now)
        match self._phase:
            case _Phase.WATCHING:
                return self._watched(delivered.rate)
            case _Phase.JUDGING:
                return self._judged(delivered.rate, delivered.of(self._newest), now)
            case _:
                return None

    def opened(self, line: int | None, now: float) -> None:
        """The connection that was asked for stands, or none came about."""
        if self._phase is not _Phase.CHANGING:
            return
        self._newest = line
        if line is None and self._steadying is not _Steadying.TRIED:
            self._take_a_rest(now)
        else:
            self._settle(now)

    def steadied(self, done: bool, now: float) -> Order | None:
        """Whether the system has the other congestion control, and allows it; returns what is to be done next."""
        if self._phase is not _Phase.CHANGING:
            return None
        self._newest = None
        used = _Steadying.KEPT if self._gauge.misled else _Steadying.TRIED
        self._steadying = used if done else _Steadying.REFUSED
        if self._plain and len(self._gauge.lines) == 1 < self._most:
            return Open()
        if self._steadying is _Steadying.TRIED:
            self._settle(now)
        else:
            self._phase = _Phase.WATCHING
        return None

    @property
    def steady(self) -> bool:
        """Whether new connections are to have the congestion control that bears loss."""
        return self._steadying in (_Steadying.TRIED, _Steadying.KEPT)

    # -- phases ---------------------------------------------------------------------------------------------------

    def _settle(self, now: float) -> None:
        self._phase, self._until = _Phase.SETTLING, now + max(SETTLE_S, SETTLE_TRIPS * self._gauge.least)

    def _begin_trial(self, now: float) -> None:
        self._phase, self._until = _Phase.JUDGING, now + TRIAL * self._gauge.window_s
        self._at_trial, self._own = self._gauge.lines, 0.0

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

    def _at_once(self) -> Order | None:
        """What needs no window."""
        rate = self._gauge.lately.rate
        if self._steadying is _Steadying.TRIED and self._newest is None:
            if self._gauge.lately.known and rate >= LEAP * self._before > 0:
                self._before, self._rest = rate, REST_S
                self._keep()
                if self._phase is not _Phase.CHANGING:
                    self._phase = _Phase.WATCHING
            return None
        hurried = self._gauge.held_back
        clear = self._plain or (hurried and self._gauge.lately.known)
        alone = len(self._gauge.lines) == 1 and (self.steady or hurried)
        fits = self._steadying is _Steadying.UNTRIED or alone
        if self._phase is not _Phase.WATCHING or not clear or not rate or not fits:
            return None
        self._before = max(self._before, rate)
        return self._change()

    def _keep(self) -> None:
        """What bears loss stays, if it is in use."""
        if self._steadying is _Steadying.TRIED:
            self._steadying = _Steadying.KEPT

    def _watched(self, rate: float) -> Order | None:
        grown, self._before = rate > GAIN * self._before, max(rate, FADE * self._before)
        return None if grown or not rate else self._change()

    def _change(self) -> Order | None:
        self._phase = _Phase.WATCHING
        if self._gauge.queues:
            return None
        untried = self._steadying is _Steadying.UNTRIED
        if untried and (self._plain or self._gauge.losses.found):
            self._phase = _Phase.CHANGING
            return Steady(True)
        known = not untried or self._gauge.losses.known or self._gauge.held_back
        if known and len(self._gauge.lines) < self._most:
            self._phase = _Phase.CHANGING
            return Open()
        return None

    def _stuck(self, now: float) -> Order | None:
        """Nothing can be judged; but the connection on trial goes if it delivered nothing while another one did."""
        if self._phase is not _Phase.JUDGING or now < self._until:
            return None
        before = self._at_trial
        went = {
            number: line.acked - before[number].acked for number, line in self._gauge.lines.items() if number in before
        }
        moved = {number for number, size in went.items() if size > IDLE}
        self._begin_trial(now)
        if self._newest not in self._gauge.lines or self._newest in moved or not moved:
            return None
        line = self._newest
        if self._steadying is _Steadying.TRIED:
            self._newest = None
            self._settle(now)
        else:
            self._take_a_rest(now)
        return Close(line)

    def _judged(self, rate: float, own: float, now: float) -> Order | None:
        """The change stays and the next one is made, or it is undone."""
        if self._newest is not None and self._newest not in self._gauge.lines:
            self._phase, self._before = _Phase.WATCHING, 0.0
            return None
        carries = self._newest is None or own >= (GAIN - 1) * max(self._before, rate - own)
        grows, self._own = own > GAIN * self._own, own
        helped = self._newest is None or rate - own >= GAIN * self._before or self._gauge.queues
        if rate >= GAIN * self._before and carries:
            self._rest, self._before = REST_S, rate
            if self._steadying is _Steadying.TRIED and not helped:
                return self._refuse()
            self._keep()
            if (slow := self._left_behind(rate, own)) is not None:
                self._phase, self._before, self._newest = _Phase.WATCHING, own, None
                return Close(slow)
            if grows and self._newest is not None and self._steadying is not _Steadying.UNTRIED:
                self._phase = _Phase.WATCHING
                return None
            return self._change()
        if self._newest is None:
            return self._refuse()
        if grows and now < self._until:
            return None
        if helped:
            self._keep()
        self._take_a_rest(now)
        return Close(self._newest)

    def _left_behind(self, rate: float, own: float) -> int | None:
        """The first connection, if what its kernel takes for the round trip holds it back; the second one is good."""
        if len(self._gauge.lines) != 2 or self._newest is None or own < LEAP * (rate - own):
            return None
        (first,) = self._gauge.lines.keys() - {self._newest}
        least = self._gauge.least
        better = not misled([self._gauge.lines[self._newest]], least)
        return first if held_back([self._gauge.lines[first]], least) and better else None

    def _refuse(self) -> Order:
        self._steadying = _Steadying.REFUSED
        self._phase = _Phase.WATCHING
        return Steady(False)
