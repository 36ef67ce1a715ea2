"""Two machines behind NATs with a delay between them, in virtual time: where schedules and strategies are tried.

Both sides run the real cores: :mod:`~p2pxfer.core.traversal.discovery` makes of observations what is known of the NATs,
:mod:`~p2pxfer.core.traversal.strategies` makes the plans and :class:`~p2pxfer.core.traversal.dialing.DialSchedule` says
what to dial when. A SYN travels from a socket through the near boxes, which give it a port, over the delay, to the far
boxes, which let it in or not.  What a TCP does with it is modelled as far as it matters here: a SYN that meets a
connecting socket is a simultaneous open, one that meets the listener is accepted, RST and ICMP end a connecting socket,
an unanswered SYN is repeated as Linux repeats it.

Two traits of NATs that keep track of sequence numbers are in it as well.  In a flow whose first SYN came from a socket
that is gone, the listener's answer does not pass; and as the kernel goes on with that half-open connection, the same
four-tuple cannot be dialled again.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

from msgspec import structs

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.messages import MAX_OBSERVED, NatSummary
from p2pxfer.core.traversal.course import Course, Planner, doubt, may_look_again
from p2pxfer.core.traversal.dialing import REPEATS, DialSchedule
from p2pxfer.core.traversal.dials import Candidate, Dial
from p2pxfer.core.traversal.strategies import NEWS, ROUND_TRIP_S, Situation, head_start, plan
from scripts.poplib.knowledge import SERVER, summary
from scripts.poplib.nats import Address, NatKind
from scripts.poplib.side import MAPPED_PORT, Machine, Side, SingleDial, Socket, side_of

PUNCH_S = 10.0
NOMINATED = 2.5
"""Round trips from the connection to the nomination, after which both sides stop dialling."""


class World:
    """Two sides; :meth:`run` tells after how many seconds they met, or ``None``.

    ``kinds`` are machines or, for short, their only boxes.  ``delay`` is one way between the sides, ``skew`` how much
    later the second one hears of the introduction, seconds.  ``known`` says what is known of a side; ``news`` adds what
    is found out during the punch; ``round_trip`` is what the sides reckon with.  ``age`` is the time from the
    observation to the introduction.  ``single``: both sides only dial once, the first endpoint at which the server saw
    the other.
    """

    def __init__(
        self,
        kinds: tuple[NatKind | Machine, NatKind | Machine],
        seed: int | str,
        *,
        delay: float = 0.04,
        skew: float = 0.01,
        age: float = 0.1,
        known: Callable[[Side], NatSummary] | None = None,
        news: bool = False,
        round_trip: float = ROUND_TRIP_S,
        single: bool = False,
        planner: Planner = plan,
    ) -> None:
        rng = random.Random(seed)
        self.delay = delay
        self.now = 0.0
        self.met: float | None = None
        self.starts = (age + max(0.0, -skew), age + max(0.0, skew))
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = itertools.count()
        self._known = known or summary
        self._news = news
        self._round_trip = round_trip
        self._single = single
        self._planner = planner
        machines = [one if isinstance(one, Machine) else Machine((one,)) for one in kinds]
        self.sides = tuple(side_of(machine, index, rng) for index, machine in enumerate(machines))

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (when, next(self._number), call, arguments))

    def run(self) -> float | None:
        seen = [self._observed(side) for side in self.sides]
        known = [self._known(side) for side in self.sides]
        for index, side in enumerate(self.sides):
            trip = self._round_trip
            spare = (27000 + index, 27001 - index)
            situation = Situation(known[index], known[1 - index], seen[1 - index], trip, seen=seen[index], spare=spare)
            side.course = Course(situation, self._planner)
            self.at(self.starts[index], self._introduced, side, situation)
        end = max(self.starts) + PUNCH_S
        while self._events and self.now < end:
            self.now, _, call, arguments = heapq.heappop(self._events)
            if self.now < end:
                call(*arguments)
        return None if self.met is None else self.met - min(self.starts)

    # -- the introduction ----------------------------------------------------------------------------------------

    def _observed(self, side: Side) -> tuple[Endpoint, ...]:
        """The endpoints that the server sees of the punch port."""
        places = [side.out(side.port, at, 0.0) for at in SERVER]
        seen = dict.fromkeys(Endpoint(IPv4Address(host), port) for host, port in filter(None, places))
        return tuple(seen)[:MAX_OBSERVED]

    def _candidates(self, side: Side, situation: Situation) -> list[Candidate]:
        other = self._other(side)
        observed = situation.observed[:1] if self._single else situation.observed
        found = [Candidate("server-reflexive", str(one.host), one.port) for one in observed]
        if other.machine.mapped:
            found.append(Candidate("server-reflexive", other.nat.address, MAPPED_PORT))
        if side.ipv6 and other.ipv6:
            found.append(Candidate("server-reflexive", other.ipv6[-1].address, other.port))
        return found

    def _introduced(self, side: Side, situation: Situation) -> None:
        candidates = self._candidates(side, situation)
        if self._single:
            side.schedule = SingleDial(candidates, side.port)
        else:
            side.schedule = DialSchedule(candidates, side.port, self.now, self.now + PUNCH_S, side.rng.random)
            self.at(self.now + head_start(situation) * situation.round_trip, self._begin, side)
            if self._news:
                self.at(self.now + NEWS * situation.round_trip, self._no_news, side)
                self.at(self.now + doubt(situation.round_trip), self._look_again, side)
                if situation.mine.ports == "sequential":
                    self._probe(side, again=False)
            else:
                side.course.no_news()
        self._work(side)

    def _probe(self, side: Side, again: bool) -> None:
        """One more connection to the server shows where a sequential NAT has come to; then the peer hears of it.

        It takes a round trip each for TCP, TLS and the answer.
        """
        if side.out(next(side.fresh), SERVER[0], self.now) is not None:
            mine = structs.replace(side.course.situation.mine, latest=side.nat.latest)
            other = self._other(side)
            if again:
                self.at(self.now + 6 * side.machine.server, self._looked_again, side, mine)
            self.at(self.now + 7 * side.machine.server + other.machine.server, self._heard, other, mine)

    def _heard(self, side: Side, theirs: NatSummary) -> None:
        side.course.theirs(theirs, self.now)
        self._make_plan(side)

    def _looked_again(self, side: Side, mine: NatSummary) -> None:
        side.course.looked_again(mine, self.now)
        self._make_plan(side)

    def _look_again(self, side: Side) -> None:
        if self.met is None and may_look_again(side.course.situation):
            self._probe(side, again=True)

    def _begin(self, side: Side) -> None:
        side.course.begin()
        self._make_plan(side)

    def _no_news(self, side: Side) -> None:
        side.course.no_news()
        self._make_plan(side)

    def _make_plan(self, side: Side) -> None:
        made = side.course.next(side.port, side.rng.random, self.now)
        if made is None:
            return
        # As the puncher does it: permission is asked for once.
        side.allowed = side.allowed or side.ledger.take(b"peer", self.now)
        if side.allowed:
            side.schedule.add(made, self.now)
            self._work(side)
        else:
            side.course.refused()

    # -- sockets -------------------------------------------------------------------------------------------------

    def _work(self, side: Side) -> None:
        orders = side.schedule.due(self.now)
        for dial in orders.drop:
            self._close(side, side.sockets[dial])
        for dial in orders.dial:
            self._dial(side, dial)
        wake = side.schedule.wake()
        if wake is not None and (side.wake_at is None or wake < side.wake_at):
            side.wake_at = max(wake, self.now + 1e-4)
            self.at(side.wake_at, self._woken, side, side.wake_at)

    def _woken(self, side: Side, when: float) -> None:
        if when == side.wake_at:
            side.wake_at = None
            self._work(side)

    def _dial(self, side: Side, dial: Dial) -> None:
        local = next(side.fresh) if dial.source == "fresh" else dial.source
        sock = Socket(local, (dial.host, dial.port), dial)
        taken = (local, sock.remote) in side.bound
        # A walk does not know of mapped ports and may come to one that is a candidate: the kernel refuses it then.
        if (local, sock.remote) in side.stuck or (taken and dial.port == MAPPED_PORT):
            side.schedule.failed(dial, self.now)
            return
        assert not taken, "one four-tuple twice"
        side.sockets[dial] = side.bound[local, sock.remote] = sock
        side.dialled.append((self.now, dial))
        self._send_syn(side, sock, self.now, 0)

    def _send_syn(self, side: Side, sock: Socket, began: float, index: int) -> None:
        if not sock.alive:
            return
        side.sent += 1
        if sock.dial.serial:
            side.syns.append(self.now)
        source = side.out(sock.local, sock.remote, self.now)
        if source is not None:
            self.at(self.now + self.delay, self._arrives, self._other(side), sock, source)
        if index < len(REPEATS):
            self.at(began + REPEATS[index], self._send_syn, side, sock, began, index + 1)

    def _arrives(self, far: Side, sock: Socket, source: Address) -> None:
        to = sock.remote
        boxes = far.path(to[0])
        tracked = boxes[-1].tracks and (to, source) in boxes[-1].flows
        for number, nat in reversed(list(enumerate(boxes))):
            local = nat.lets_in(to, source)
            if local is None:
                answer = nat.answer(to, source, self.now)
                if answer != "drop":
                    self.at(self.now + self.delay, self._refused, self._other(far), sock, answer)
                return
            if number:
                to = (boxes[number - 1].address, local)
        assert local is not None
        meets = far.bound.get((local, source))
        if meets is not None or (local == far.port and not tracked):
            if sock.alive and self.met is None:
                self.at(self.now + self.delay, self._connected, far, sock, meets)
        elif local == far.port:
            # In a flow that a closed socket had opened, the listener's answer does not pass.
            far.stuck.add((local, source))
        else:
            self.at(self.now + self.delay, self._refused, self._other(far), sock, "rst")

    def _connected(self, far: Side, sock: Socket, meets: Socket | None) -> None:
        if self.met is not None or not sock.alive:
            return
        self.met = self.now
        self._other(far).schedule.connected(sock.dial)
        if meets is not None:
            far.schedule.connected(meets.dial)
        self.at(self.now + NOMINATED * 2 * self.delay, self._events.clear)

    def _refused(self, side: Side, sock: Socket, answer: str) -> None:
        local = sock.local
        if answer == "rst":
            for nat in side.path(sock.remote[0]):
                outside = nat.forget(local, sock.remote)
                if outside is None:
                    return
                local = outside[1]
        if sock.alive:
            self._close(side, sock)
            side.schedule.failed(sock.dial, self.now, icmp=answer == "icmp")
            self._work(side)

    def _close(self, side: Side, sock: Socket) -> None:
        sock.alive = False
        side.sockets.pop(sock.dial, None)
        side.bound.pop((sock.local, sock.remote), None)
        side.give_up(sock.local, sock.remote)

    def _other(self, side: Side) -> Side:
        return self.sides[1] if side is self.sides[0] else self.sides[0]
