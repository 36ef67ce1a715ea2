"""When to dial which candidate: the schedule of one punch, without sockets.

Laws of this file, each learned from kernel NATs:

1. Every candidate is dialled at once; there is no meeting time.  A NAT that drops the early SYN costs only the skew.
2. A connecting socket is never closed in order to try again: the kernel repeats the same SYN with the same sequence
   number, and another number would meet a NAT that has seen the first.  So a dial without an answer is left alone.
3. A dial that failed (RST, ICMP, address in use) is repeated on the same four-tuple after a random 0 to 50 ms: two NATs
   that answer with RST forget their own entry too, so both SYNs must cross in flight, which a fixed interval may never
   do.  Fifty milliseconds is also the longest that leaves the peer's SYN no time to settle in the listener.
4. After :data:`EAGER` failures the pace falls to 100 to 200 ms, and after :data:`MAX_DIALS` the candidate is dropped:
   the number of SYNs that anybody can make this machine send is bounded.

Time is in seconds on any monotonic clock; ``draw`` returns a uniform number in [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

EAGER = 40
MAX_DIALS = 90
MAX_CANDIDATES = 16
"""Most candidates of one session, whatever the server says."""

CandidateType = Literal["host", "server-reflexive"]


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """An endpoint of the peer that may lead to it; ``host`` is an IP address in text form."""

    type: CandidateType
    host: str
    port: int


@dataclass(slots=True)
class _Attempt:
    dials: int = 0
    due: float | None = None


class DialSchedule:
    """Which dials are due now, for one introduction.

    The caller starts each dial that :meth:`due` returns and reports its failure through :meth:`failed`; success ends
    the schedule from outside.  ``deadline`` is the time after which nothing is dialled again.
    """

    def __init__(self, candidates: Iterable[Candidate], now: float, deadline: float, draw: Callable[[], float]) -> None:
        unique = list(dict.fromkeys(candidates))[:MAX_CANDIDATES]
        self._attempts = {candidate: _Attempt(due=now) for candidate in unique}
        self._deadline = deadline
        self._draw = draw

    @property
    def candidates(self) -> list[Candidate]:
        """What is dialled, in the order given."""
        return list(self._attempts)

    def due(self, now: float) -> list[Candidate]:
        """Candidates to dial at ``now``; each counts as dialled from then on."""
        if now >= self._deadline:
            return []
        chosen = [c for c, attempt in self._attempts.items() if attempt.due is not None and attempt.due <= now]
        for candidate in chosen:
            attempt = self._attempts[candidate]
            attempt.due = None
            attempt.dials += 1
        return chosen

    def failed(self, candidate: Candidate, now: float) -> None:
        """A dial to ``candidate`` ended with an error at ``now``."""
        attempt = self._attempts[candidate]
        if attempt.dials >= MAX_DIALS:
            return
        pause = 0.05 * self._draw() if attempt.dials < EAGER else 0.1 + 0.1 * self._draw()
        attempt.due = now + pause

    def wake(self) -> float | None:
        """When :meth:`due` has something next; ``None`` when only answers can change anything."""
        times = [attempt.due for attempt in self._attempts.values() if attempt.due is not None]
        return min(times, default=None) if not times or min(times) < self._deadline else None

    def dials(self) -> int:
        """Dials made so far."""
        return sum(attempt.dials for attempt in self._attempts.values())
