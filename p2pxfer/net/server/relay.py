"""Two connections as one pipe: bytes of either go to the other, no faster than that one takes them.

Laws of this machine:

1. Reading from a leg stops while the buffer towards the other one is full, so memory is bounded whatever the peers do.
2. What was accepted from a leg is written to the other one before that is closed.
3. A leg that takes nothing for ``STALL_S`` although data waits for it ends the relay; one that is slow does not.
4. With a limit the relay ends as soon as both legs together brought as much, and what they brought is passed on.

The relay looks at nothing and adds nothing: what passes is the peers' own TLS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol as Interface

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from p2pxfer.net.connection.tls import Octets
from p2pxfer.net.connection.transport import TLSTransport

STALL_S = 60.0
"""How long a leg may take nothing while data waits for it, seconds."""
LINGER_S = 60.0
"""Longest time for the rest of the data and the farewell once one side ended, seconds."""


class Leg(Interface):
    """One end of a relay."""

    @property
    def tls(self) -> TLSTransport:
        """Its transport."""

    def close_within(self, seconds: float) -> None:
        """Flush and close; abort after ``seconds``."""

    def abort(self) -> None:
        """End it at once."""


@implementer(IPushProducer)
class _Flow:
    """One direction: what is read from ``source`` is written to ``sink``."""

    def __init__(self, source: Leg, sink: Leg, clock: IReactorTime, stalled: Callable[[], None]) -> None:
        self.count = 0
        self._source = source
        self._sink = sink
        self._clock = clock
        self._stalled = stalled
        self._timer: IDelayedCall | None = None
        self._taken: tuple[int, int] = (0, 0)
        self._over = False

    def start(self) -> None:
        """Let the sink say how fast."""
        self._sink.tls.registerProducer(self, True)

    def carry(self, data: Octets) -> None:
        """Pass bytes on; a view is copied, for its memory is the reader's."""
        self.count += len(data)
        self._sink.tls.write(bytes(data))

    def pauseProducing(self) -> None:
        """The sink's buffer is full."""
        if self._timer is None and not self._over:
            self._source.tls.pauseProducing()
            self._wait()

    def resumeProducing(self) -> None:
        """The sink's buffer is empty again."""
        if self._timer is not None:
            self._stop_timer()
            self._source.tls.resumeProducing()

    def stopProducing(self) -> None:
        """The sink is gone; the relay hears that from its connection."""
        self._stop_timer()

    def end(self) -> None:
        """The source has ended: the sink may close when its buffer is empty."""
        self._over = True
        self._stop_timer()
        self._sink.tls.unregisterProducer()

    def _wait(self) -> None:
        self._taken = self._progress()
        self._timer = self._clock.callLater(STALL_S, self._look)

    def _look(self) -> None:
        """The buffer is full still; whether the sink took any of it."""
        self._timer = None
        if self._progress() != self._taken:
            self._wait()
        else:
            self._stalled()

    def _progress(self) -> tuple[int, int]:
        """Changes while the sink takes anything: of what waits the kernel may have much, which tells on Linux only."""
        flow = self._sink.tls.flow()
        return self._sink.tls.unsent, 0 if flow is None else flow.acked

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class Relay:
    """Two legs and their flows; ``ended(relay)`` is called once.  ``limit`` is that of law 4, bytes; 0 is none."""

    def __init__(
        self, one: Leg, other: Leg, clock: IReactorTime, ended: Callable[[Relay], None], limit: int = 0
    ) -> None:
        self.started = clock.seconds()
        self.why = ""
        """Why the relay itself ended it, for the log; empty where a leg did."""
        self._ended = ended
        self._limit = limit
        self._legs = (one, other)
        self._over = False
        self._flows = {
            one: _Flow(one, other, clock, self._stall),
            other: _Flow(other, one, clock, self._stall),
        }
        for flow in self._flows.values():
            flow.start()

    @property
    def counts(self) -> tuple[int, int]:
        """Bytes that came from the first leg, and from the second."""
        one, other = self._legs
        return self._flows[one].count, self._flows[other].count

    def received(self, leg: Leg, data: Octets) -> None:
        """Bytes came from ``leg``."""
        if self._over:
            return
        self._flows[leg].carry(data)
        if 0 < self._limit <= sum(self.counts):
            self._end("all that a session may carry", lambda each: each.close_within(LINGER_S))

    def lost(self, leg: Leg) -> None:
        """``leg`` is gone: flush the other one and close it."""
        if self._over:
            return
        self._finish()
        one, other = self._legs
        survivor = other if leg is one else one
        survivor.close_within(LINGER_S)

    def _stall(self) -> None:
        self._end("one side took no data", lambda each: each.abort())

    def _end(self, why: str, close: Callable[[Leg], None]) -> None:
        self.why = why
        self._finish()
        for leg in self._legs:
            close(leg)

    def _finish(self) -> None:
        self._over = True
        for flow in self._flows.values():
            flow.end()
        self._ended(self)
