"""What to dial when: the schedule of one punch, without sockets.

Laws of this file, each learned from kernel NATs:

1. Every candidate is dialled at once; there is no meeting time.  A NAT that drops the early SYN costs only the skew.
2. A connecting socket is never closed in order to try the same four-tuple again: the kernel repeats the same SYN with
   the same sequence number, and another number would meet a NAT that has seen the first.  So a dial without an answer
   is left alone.  The oldest dial of a volley may make room for one to *another* port.
3. A candidate that failed (RST, ICMP, address in use) is dialled again on the same four-tuple after a random 0 to
   50 ms: two NATs that answer with RST forget their own entry too, so both SYNs must cross in flight, which a fixed
   interval may never do.  The first failure is answered at once: while nothing is dialled, the peer's SYN would settle
   in the listener, whose answer a NAT that has seen this side's SYN drops, and hold the four-tuple for the whole punch.
   That happens where the peer's NAT answered with ICMP because the peer began later; so whatever ICMP ended is answered
   at once each time, at most every :data:`ICMP_GAP_S`.
4. After :data:`EAGER` failures the pace falls to 100 to 200 ms, and after :data:`MAX_DIALS` the candidate is dropped:
   the number of SYNs that anybody can make this machine send is bounded.
5. The volleys of a plan share one :class:`Budget`, in which the kernel's own repetitions count as well.  When it is
   spent, a dial that is still pending is closed before the kernel repeats its SYN.

Time is in seconds on any monotonic clock; ``draw`` returns a uniform number in [0, 1).
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

from msgspec import Struct, field

from p2pxfer.core.traversal.dials import Budget, Candidate, Dial, Plan, Volley

EAGER = 40
ICMP_GAP_S: Final = 0.01
"""Least time between two dials of one four-tuple of which the first one met an ICMP error, seconds."""
MAX_DIALS = 90
MAX_CANDIDATES = 16
"""Most candidates of one session, whatever the server says."""
TICK: Final = 0.01
"""How often a volley goes on, seconds: a timer for each of 600 dials a second would cost more than the dials."""
CATCH_UP: Final = 0.05
"""How much of a volley's pace may be made up for after a delay, seconds."""
REPEATS: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 11.0)
"""When Linux repeats a SYN, seconds after the first (``tcp_syn_linear_timeouts`` = 4, since 6.5; before that less)."""


class Orders(Struct, frozen=True):
    """What to do now: close these dials, then start those."""

    drop: list[Dial] = []
    dial: list[Dial] = []


class _Running(Struct):
    """A volley under way; ``owed`` are ports to be dialled again, ``pending`` maps dials to their start."""

    volley: Volley
    began: float
    next_at: float
    next_index: int = 0
    dials: int = 0
    owed: deque[int] = field(default_factory=deque)
    pending: dict[Dial, float] = {}

    @property
    def has_work(self) -> bool:
        """Whether a port is left to be dialled, and a dial to do it with."""
        left = bool(self.owed) or self.next_index < len(self.volley.ports)
        return left and self.dials < self.volley.most

    @property
    def end(self) -> float:
        """When no dial of it is to be pending any more, on the clock of ``now``."""
        return self.began + self.volley.ends

    def take_port(self) -> int:
        """The next port to dial: first one that was taken from a dial before its time."""
        if self.owed:
            return self.owed.popleft()
        self.next_index += 1
        return self.volley.ports[self.next_index - 1]


class _Attempt(Struct):
    """The tries of one dial, and the volley to which it belongs."""

    run: _Running | None = None
    dials: int = 0
    made: float = 0.0


class _Repeat(NamedTuple):
    """When the kernel repeats the SYN of a dial that began at ``began``; ``order`` breaks ties."""

    when: float
    order: int
    number: int
    began: float
    dial: Dial
    run: _Running


class DialSchedule:
    """What is to be dialled now, for one introduction.

    The caller carries out the orders of :meth:`due` and reports each end of a dial through :meth:`failed` or
    :meth:`connected`; success of the whole ends the schedule from outside.  ``deadline`` is the time after which
    nothing is dialled again.
    """

    def __init__(
        self,
        candidates: Iterable[Candidate],
        port: int,
        now: float,
        deadline: float,
        draw: Callable[[], float],
        budget: Budget | None = None,
    ) -> None:
        self._port = port
        self._known: set[tuple[str, int]] = set()
        self._hosts: Collection[str] | None = None
        """Where alone candidates are dialled; ``None``: everywhere."""
        self._attempts: dict[Dial, _Attempt] = {}
        self._waiting: dict[Dial, float] = {}
        self.offer(candidates, now)
        self._deadline = deadline
        self._draw = draw
        self._budget = budget or Budget()
        self._running: list[_Running] = []
        self._recent: deque[float] = deque(maxlen=self._budget.rate)
        self._repeats: list[_Repeat] = []
        self._heap_order = 0
        self._serial = 0
        self._last = -math.inf
        self._candidate_dials = 0
        self.room = self._budget.syns
        """How many dials of a plan may be pending at once; what is above it is dropped next time."""
        self.syns = 0
        """SYNs of the plan so far, the kernel's repetitions with them."""

    @property
    def dials(self) -> int:
        """Dials made so far, those of a plan with them."""
        return self._candidate_dials + sum(run.dials for run in self._running)

    @property
    def pending(self) -> int:
        """Dials of the plan that have no answer yet."""
        return sum(len(run.pending) for run in self._running)

    def offer(self, candidates: Iterable[Candidate], now: float) -> list[Candidate]:
        """Dial these too, from ``now`` on; those that are known and those above ``MAX_CANDIDATES`` are left out.

        Returns the others.
        """
        taken: list[Candidate] = []
        for candidate in candidates:
            endpoint = (candidate.host, candidate.port)
            wanted = self._hosts is None or candidate.host in self._hosts
            if wanted and endpoint not in self._known and len(self._known) < MAX_CANDIDATES:
                self._known.add(endpoint)
                dial = Dial(self._port, *endpoint, local=candidate.local)
                self._attempts[dial] = _Attempt()
                self._waiting[dial] = now
                taken.append(candidate)
        return taken

    def add(self, plan: Plan, now: float) -> None:
        """Begin ``plan`` at ``now``."""
        for volley in plan.volleys:
            self._running.append(_Running(volley, now, now + volley.start))

    def keep_to(self, hosts: Collection[str]) -> set[Dial]:
        """Dial candidates at these hosts, and nothing else any more; returns what is given up."""
        self._hosts = hosts
        self._candidate_dials = self.dials
        self._running.clear()
        self._repeats.clear()
        given_up = {dial for dial in self._attempts if dial.serial or dial.host not in hosts}
        for dial in given_up:
            del self._attempts[dial]
            self._waiting.pop(dial, None)
        return given_up

    def due(self, now: float) -> Orders:
        """What is to be done at ``now``; each dial in it counts as made from then on."""
        orders = Orders()
        if now >= self._deadline:
            return orders
        self._last = now
        for run in self._running:
            if now >= run.end:
                self._close(run, orders)
            while run.pending and self.pending > self.room:
                self._drop(next(iter(run.pending)), run, orders)
        self._foresee_repeats(now, orders)
        for dial in [dial for dial, due in self._waiting.items() if due <= now]:
            attempt = self._attempts[dial]
            if attempt.run is None or self._affordable(now):
                del self._waiting[dial]
                attempt.dials += 1
                attempt.made = now
                orders.dial.append(dial)
                self._made(dial, attempt.run, now)
        for run in self._running:
            self._advance(run, now, orders)
        return orders

    def failed(self, dial: Dial, now: float, *, icmp: bool = False) -> None:
        """``dial`` ended with an error at ``now``; ``icmp``: an ICMP message brought it."""
        attempt = self._attempts.get(dial)
        if attempt is None:
            return
        run = attempt.run
        if run is not None:
            run.pending.pop(dial, None)
            if run.volley.after_error != "redial":
                del self._attempts[dial]
                if run.volley.after_error == "redraw":
                    run.owed.append(dial.port)
                return
        if attempt.dials < MAX_DIALS and (run is None or run.dials < run.volley.most):
            self._waiting[dial] = self._next_try(attempt, now, icmp)

    def _next_try(self, attempt: _Attempt, now: float, icmp: bool) -> float:
        """When to dial again after an error; laws 3 and 4."""
        if attempt.dials >= EAGER:
            return now + 0.1 + 0.1 * self._draw()
        if attempt.dials <= 1:
            return now
        return max(now, attempt.made + ICMP_GAP_S) if icmp else now + 0.05 * self._draw()

    def connected(self, dial: Dial) -> None:
        """``dial`` became a connection: it is not dialled again."""
        attempt = self._attempts.get(dial)
        if attempt is not None and attempt.run is not None:
            attempt.run.pending.pop(dial, None)
            del self._attempts[dial]

    def wake(self) -> float | None:
        """When :meth:`due` has something next; ``None`` when only answers can change anything."""
        # What the budget holds back is looked at again after a tick.
        times = [
            max(due, self._last + TICK) if self._attempts[dial].run else due for dial, due in self._waiting.items()
        ]
        for run in self._running:
            if run.has_work:
                times.append(max(run.next_at, self._last + TICK))
            if run.pending:
                times.append(run.end)
        if self.pending > self.room:
            times.append(self._last)
        if self._repeats:
            times.append(self._repeats[0].when - TICK)
        return min(times) if times and min(times) < self._deadline else None

    # -- volleys -------------------------------------------------------------------------------------------------

    def _advance(self, run: _Running, now: float, orders: Orders) -> None:
        """Dial as far as pace, window and budget allow."""
        volley = run.volley
        while run.next_at <= now < run.end and run.has_work and self._affordable(now):
            if len(run.pending) >= volley.window or self.pending >= self.room:
                oldest = next(iter(run.pending), None)
                rolling = now - run.began < volley.rolls
                if oldest is None or not rolling or now - run.pending[oldest] <= volley.keep:
                    return
                self._drop(oldest, run, orders)
            self._serial += 1
            dial = Dial(volley.source, volley.host, run.take_port(), self._serial)
            self._attempts[dial] = _Attempt(run, 1)
            orders.dial.append(dial)
            self._made(dial, run, now)
            run.next_at = max(run.next_at, now - CATCH_UP) + 1 / volley.pace

    def _made(self, dial: Dial, run: _Running | None, now: float) -> None:
        """Count a dial that is being made."""
        if run is None:
            self._candidate_dials += 1
            return
        run.dials += 1
        run.pending[dial] = now
        self._count(now)
        self._await_repeat(dial, run, now, 0)

    def _close(self, run: _Running, orders: Orders) -> None:
        """The volley is over: nothing of it stays pending, nothing is dialled again."""
        orders.drop.extend(run.pending)
        for dial in [dial for dial, attempt in self._attempts.items() if attempt.run is run]:
            self._forget(dial, run)
        run.owed.clear()
        run.next_index = len(run.volley.ports)

    def _drop(self, dial: Dial, run: _Running, orders: Orders) -> None:
        self._forget(dial, run)
        orders.drop.append(dial)

    def _forget(self, dial: Dial, run: _Running) -> None:
        run.pending.pop(dial, None)
        self._waiting.pop(dial, None)
        del self._attempts[dial]

    # -- the budget ----------------------------------------------------------------------------------------------

    def _affordable(self, now: float) -> bool:
        """Whether one more SYN stays within the rate and the total."""
        full = len(self._recent) == self._budget.rate and now - self._recent[0] < 1.0
        return self.syns < self._budget.syns and not full

    def _count(self, now: float) -> None:
        self.syns += 1
        self._recent.append(now)

    def _await_repeat(self, dial: Dial, run: _Running, began: float, index: int) -> None:
        if index < len(REPEATS):
            self._heap_order += 1
            heapq.heappush(self._repeats, _Repeat(began + REPEATS[index], self._heap_order, index, began, dial, run))

    def _foresee_repeats(self, now: float, orders: Orders) -> None:
        """Count what the kernel is about to send by itself for pending dials; close those that are out of budget."""
        while self._repeats and self._repeats[0].when - TICK <= now:
            next_one = heapq.heappop(self._repeats)
            dial, run = next_one.dial, next_one.run
            if run.pending.get(dial) != next_one.began:
                continue
            if self.syns < self._budget.syns:
                self._count(now)
                self._await_repeat(dial, run, next_one.began, next_one.number + 1)
            else:
                self._drop(dial, run, orders)
