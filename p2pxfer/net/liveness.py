"""Whether the other end of a path is still there.

Laws of this file:

1. A ping goes out every :data:`PING_S` seconds, and any byte from the peer is a sign of life: a send buffer that holds
   minutes of data on a slow line is not mistaken for a dead path, nor is one that this side does not read because its
   own disk is behind.
2. What was sent and is not acknowledged by the peer's kernel, although ours repeats it, means that packets do not
   arrive: a NAT has lost the mapping, or the network is gone.  That shows within :data:`UNANSWERED_S`, long before
   silence does, and cannot be mistaken for a peer that is busy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol as Interface

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pxfer.errors import P2pxferError, Unreachable

PING_S = 2.0
DEAD_S = 20.0
"""A path without a byte from the peer for this long is dead, seconds."""
UNANSWERED_S = 1.2
"""As long nothing that the kernel repeats was acknowledged when packets count as lost, seconds: two time-outs of a
line with a round trip of 200 ms."""
SURE_S = 0.5
"""How long it must have looked so: on a quiet path the last acknowledgement is older than what is missing."""
LOOK_S = 0.25
"""How often the kernel is asked, seconds."""


class PacketsLost(Unreachable):
    """What is sent to the other end does not arrive any more; its other connections have probably gone too."""


class Watched(Interface):
    """What liveness needs of a path."""

    def ping(self, number: int) -> None:
        """Send a ping."""

    def silent_for(self) -> float:
        """See :func:`p2pxfer.net.tcpinfo.silent_for`; 0.0 where nothing is known."""

    def fail(self, error: P2pxferError) -> None:
        """Give the path up."""


class Liveness:
    """Watches one path from :meth:`start` to :meth:`stop`, which every end of the path must call."""

    def __init__(self, clock: IReactorTime, path: Watched) -> None:
        self.rtt: float | None = None
        """The shortest round trip that a ping took, seconds."""
        self._clock = clock
        self._path = path
        self._last_byte = clock.seconds()
        self._reading = True
        self._numbers = -1
        self._repeating_since: float | None = None
        self._sent: tuple[int, float] = (-1, 0.0)
        self._calls: dict[Callable[[], None], IDelayedCall] = {}

    def start(self) -> None:
        """The path has greeted."""
        self._ping()
        self._look()

    def stop(self) -> None:
        """The path is over."""
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

    def pong(self, number: int) -> None:
        """The answer to a ping; only that to the last one counts."""
        last, at = self._sent
        if number == last:
            self._sent = (-1, 0.0)
            took = self._clock.seconds() - at
            self.rtt = took if self.rtt is None else min(self.rtt, took)

    def _again(self, after: float, call: Callable[[], None]) -> None:
        self._calls[call] = self._clock.callLater(after, call)

    def _ping(self) -> None:
        now = self._clock.seconds()
        if self._reading and now - self._last_byte > DEAD_S:
            self._path.fail(Unreachable(f"the peer has been silent for {DEAD_S:.0f} seconds"))
            return
        number = self._numbers = (self._numbers + 1) % 2**32
        self._sent = (number, now)
        self._again(PING_S, self._ping)
        self._path.ping(number)

    def _look(self) -> None:
        silent, now = self._path.silent_for(), self._clock.seconds()
        if not silent:
            self._repeating_since = None
        elif self._repeating_since is None:
            self._repeating_since = now
        elif silent > UNANSWERED_S and now - self._repeating_since >= SURE_S:
            self._path.fail(PacketsLost("what is sent to the peer does not arrive any more"))
            return
        self._again(LOOK_S, self._look)
