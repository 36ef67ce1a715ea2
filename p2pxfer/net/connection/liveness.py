"""Whether the other end of a connection is still there: of a path, or of the connection to the server.

Laws of this file:

1. A ping goes out at every interval of the :class:`Pace`, and any byte from the other end is a sign of life: a send
   buffer that holds minutes of data on a slow line is not mistaken for a dead path, nor is one that this side does not
   read because its own disk is behind.
2. What was sent and is not acknowledged by the peer's kernel, although ours repeats it, means that packets do not
   arrive: a NAT has lost the mapping, or the network is gone.  That shows within :attr:`Pace.unanswered`, long before
   silence does, and cannot be mistaken for a peer that is busy.
3. A program that was stopped, or whose machine slept, has heard nothing meanwhile, which says nothing of the other end:
   one more ping goes out before it judges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol as Interface

from msgspec import Struct
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pxfer.errors import P2pxferError, Unreachable

SURE_S = 0.5
"""How long it must have looked so: on a quiet connection the last acknowledgement is older than what is missing."""


class Pace(Struct, frozen=True):
    """How closely a connection is watched, in seconds.

    ``ping``: between two pings; ``dead``: without a byte from the other end it is dead; ``unanswered``: as long nothing
    that the kernel repeats was acknowledged when packets count as lost; ``look``: between two questions to the kernel.
    ``other`` is who is there, for people.
    """

    ping: float
    dead: float
    unanswered: float
    look: float
    other: str


PATH = Pace(ping=2.0, dead=20.0, unanswered=1.2, look=0.25, other="the peer")
"""Of a path: 1.2 seconds are two time-outs of a line with a round trip of 200 ms."""


def to_server(ping: float) -> Pace:
    """Of the connection to the server, which lies idle for long."""
    return Pace(ping=ping, dead=2.5 * ping, unanswered=3.0, look=min(2.0, ping), other="the server")


class PacketsLost(Unreachable):
    """What is sent to the other end does not arrive any more; nor, probably, what takes the same way elsewhere."""


class Watched(Interface):
    """What liveness needs of a connection."""

    def ping(self, number: int) -> None:
        """Send a ping."""

    def silent_for(self) -> float:
        """See :func:`p2pxfer.net.connection.tcpinfo.silent_for`; 0.0 where nothing is known."""

    def fail(self, error: P2pxferError) -> None:
        """Give the connection up."""


class Liveness:
    """Watches a connection from :meth:`start` to :meth:`stop`, which every end of the connection must call."""

    def __init__(self, clock: IReactorTime, watched: Watched, pace: Pace = PATH) -> None:
        self.rtt: float | None = None
        """The shortest round trip that a ping took, seconds."""
        self._clock = clock
        self._watched = watched
        self._pace = pace
        self._last_byte = clock.seconds()
        self._reading = True
        self._numbers = -1
        self._repeating_since: float | None = None
        self._sent: tuple[int, float] = (-1, 0.0)
        self._pinged = 0.0
        self._slept = False
        self._calls: dict[Callable[[], None], IDelayedCall] = {}

    def start(self) -> None:
        """The other end is there."""
        self._ping()
        self._look()

    def stop(self) -> None:
        """The connection is over."""
        for call in self._calls.values():
            if call.active():
                call.cancel()
        self._calls.clear()

    def byte(self) -> None:
        """Something came from the peer."""
        self._last_byte = self._clock.seconds()

    def reading(self, on: bool) -> None:
        """Whether this side reads; while it does not, the peer's silence says nothing."""
        self._reading = on
        if on:
            self.byte()

    @property
    def quiet_for(self) -> float:
        """Seconds since something came from the peer; 0.0 while this side does not read."""
        return self._clock.seconds() - self._last_byte if self._reading else 0.0

    def pong(self, number: int) -> None:
        """The answer to a ping; only that to the last one counts."""
        last, at = self._sent
        if number == last:
            self._sent = (-1, 0.0)
            took = self._clock.seconds() - at
            self.rtt = took if self.rtt is None else min(self.rtt, took)

    @property
    def waiting(self) -> bool:
        """A ping that followed a pause is out, and nothing came since.

        A ping that is late by half its interval does not count: this machine slept.
        """
        number, at = self._sent
        return number > 0 and self._last_byte < at and not self._slept

    def _again(self, after: float, call: Callable[[], None]) -> None:
        self._calls[call] = self._clock.callLater(after, call)

    def _ping(self) -> None:
        now = self._clock.seconds()
        pace = self._pace
        slept = self._numbers >= 0 and now - self._pinged > 1.5 * pace.ping
        if slept and not self._slept:
            self._last_byte = max(self._last_byte, now - pace.dead)
        if self._reading and now - self._last_byte > pace.dead:
            self._watched.fail(Unreachable(f"{pace.other} has been silent for {pace.dead:.0f} seconds"))
            return
        self._slept = slept
        self._pinged = now
        number = self._numbers = (self._numbers + 1) % 2**32
        self._sent = (number, now)
        self._again(pace.ping, self._ping)
        self._watched.ping(number)

    def _look(self) -> None:
        silent, now = self._watched.silent_for(), self._clock.seconds()
        if not silent:
            self._repeating_since = None
        elif self._repeating_since is None:
            self._repeating_since = now
        elif silent > self._pace.unanswered and now - self._repeating_since >= SURE_S:
            self._watched.fail(PacketsLost(f"what is sent to {self._pace.other} does not arrive any more"))
            return
        self._again(self._pace.look, self._look)
