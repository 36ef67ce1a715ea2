"""Opens the hole: one local port that listens and dials, and further ones where the NATs demand it.

The port is the one of the server connection, which stays open and so pins the NAT's mapping.  Listener and dials share
it through reuse bindings.  Crossing SYNs complete on the dialling sockets; a SYN that comes before this side dialled
goes to the listener: both outcomes are connections, and whoever called the puncher greets on all of them.  The listener
is the doorman's, :mod:`p2pxfer.net.traversal.listening`: other punches may wait at the same port.

What is dialled when comes from :mod:`p2pxfer.core.traversal.dialing` and :mod:`p2pxfer.core.traversal.course`; the
sockets that dial are in :mod:`p2pxfer.net.traversal.attempts`; this file has the timers, and joins them.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import cast

from msgspec import Struct
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.messages import NatSummary
from p2pxfer.core.session.wire import PlanState
from p2pxfer.core.traversal.course import Course
from p2pxfer.core.traversal.dialing import DialSchedule
from p2pxfer.core.traversal.dials import Candidate, Dial
from p2pxfer.core.traversal.strategies import NEWS, SINGLE, Situation, head_start, plan
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.traversal.adopting import adopt
from p2pxfer.net.traversal.attempts import Attempts
from p2pxfer.net.traversal.halfopen import EXHAUSTED, HalfOpen, descriptor_room
from p2pxfer.net.traversal.listening import Doorman, Guest
from p2pxfer.net.types import Reactor

PUNCH_S = 10.0
"""How long a punch goes on, seconds."""
OTHERS_S = 3.0
"""How long candidates are still tried beside a path that stands, seconds."""
MAPPED_START = 6.0
"""When a plan begins where either side has a port from its router, round trips: that one will most likely win."""
MOST_SOCKETS = 600
"""Most half-open sockets of one plan."""
FEWEST_SOCKETS = 32
"""With fewer a plan is not worth its SYNs."""


def always() -> str | None:
    """No reason against a plan."""
    return None


class Mapped(Struct, frozen=True):
    """A port beside the punch port that the router leads here, and what makes the protocol of connections to it.

    ``announced``: the peer knows of it, or hears of it now.
    """

    port: int
    build: Callable[[IAddress], IProtocol | None]
    announced: bool = False


class Puncher:
    """One punch.  ``build(address)`` makes the protocol of each connection, or ``None`` to refuse it.

    ``situation`` is what is known of the two NATs; without it, or where it leads to no plan, only the candidates are
    dialled.  ``permit`` is asked once, for a plan of many dials: a phrase that it returns is why it is not followed.

    ``mapped`` is listened on too.  ``doorman`` listens; whoever punches twice at a time through one port has one
    doorman for both.

    ``done`` fires with the number of dials when the time is over or :meth:`stop` was called.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        port: int,
        candidates: Sequence[Candidate],
        build: Callable[[IAddress], IProtocol | None],
        situation: Situation | None = None,
        permit: Callable[[], str | None] = always,
        mapped: Mapped | None = None,
        doorman: Doorman | None = None,
    ) -> None:
        self._reactor = reactor
        self._port = port
        self._mapped = mapped
        announced = mapped is not None and mapped.announced
        self._has_mapped = announced or any(one.type == "mapped" for one in candidates)
        self._doorman = doorman if doorman is not None else Doorman(reactor)
        self._families = {":" in candidate.host for candidate in candidates}
        self._known = {(candidate.host, candidate.port) for candidate in candidates}
        self._deaf_to = {False, True}
        self._build = build
        self._guests = [Guest(self._accepted, self._known)]
        self._course = None if situation is None else Course(situation, plan)
        self._permit = permit
        now = reactor.seconds()
        self._schedule = DialSchedule(candidates, port, now, now + PUNCH_S, random.random)
        self._attempts = Attempts(reactor, port, self._stands, self._ended)
        self._silent_until = now
        self._timer: IDelayedCall | None = None
        self._head_start: IDelayedCall | None = None
        self._news: IDelayedCall | None = None
        self._end: IDelayedCall | None = None
        self._stopped = False
        self._phrase = ""
        self.last_errors: dict[tuple[str, int], str] = {}
        """The last error of each candidate."""
        self.plan_errors: Counter[str] = Counter()
        """How often a dial of the plan ended in which error."""
        self.plan_state: PlanState = "none"
        """Whether there was a plan of many dials, and whether it was followed."""
        self.way = SINGLE
        """The way that was tried last: single dials, or that of the plan."""
        self.made_by = SINGLE
        """The way to which the connection belongs for which a protocol is being made."""
        self.done: Deferred[int] = Deferred()

    @property
    def situation(self) -> Situation | None:
        """What is known of the two NATs, the latest news with it."""
        return None if self._course is None else self._course.situation

    @property
    def tried(self) -> str:
        """What was tried beyond the candidates, or why not, as a phrase for people; empty if there was no plan."""
        return self._phrase.format(syns=self._schedule.syns)

    def start(self, silent: float = 0.0) -> None:
        """Listen, and dial after so many seconds."""
        self._silent_until = self._reactor.seconds() + silent
        self._end = self._reactor.callLater(PUNCH_S, self.stop)
        self._listen()
        if self._mapped is not None:
            self._guests.append(Guest(self._mapped.build, self._known))
            self._doorman.admit(self._mapped.port, False, self._guests[-1])
        self._run()
        if self.situation is not None:
            trip = self.situation.round_trip
            trips = max(head_start(self.situation), MAPPED_START if self._has_mapped else 0.0)
            self._head_start = self._reactor.callLater(trips * trip, self._begin_plan)
            self._news = self._reactor.callLater(NEWS * trip, self._no_news)

    def settle_for(self, useful: Callable[[str], bool]) -> None:
        """A path stands: follow no plan any more, and try only candidates at hosts that are ``useful`` beside it."""
        hosts = {host for host, _ in self._known if useful(host)}
        if self._stopped or not hosts:
            self.stop()
            return
        if self._course is not None:
            self._course.refused()
        self._attempts.drop(self._schedule.keep_to(hosts))
        if self._end is not None and self._end.getTime() > self._reactor.seconds() + OTHERS_S:
            self._end.reset(OTHERS_S)

    def stop(self) -> None:
        """Dial no more, listen no more, drop what is half open."""
        if self._stopped:
            return
        self._stopped = True
        for call in (self._timer, self._head_start, self._news, self._end):
            if call is not None and call.active():
                call.cancel()
        self._attempts.drop_all()
        for guest in self._guests:
            self._doorman.dismiss(guest)
        self.log.debug(
            "{syns} SYNs beyond the candidates, errors: {errors}", syns=self._schedule.syns, errors=self.plan_errors
        )
        self.done.callback(self._schedule.dials)

    # -- the plan ------------------------------------------------------------------------------------------------

    def add(self, candidates: Sequence[Candidate]) -> None:
        """Dial these too; what is dialled already is left alone."""
        if self._stopped:
            return
        # What is not dialled is not expected either: a server may name endpoints without end.
        taken = self._schedule.offer(candidates, self._reactor.seconds())
        self._families |= {":" in candidate.host for candidate in taken}
        self._known.update((candidate.host, candidate.port) for candidate in taken)
        self._listen()
        self._run()

    def peer_seen(self, observed: Sequence[Endpoint]) -> None:
        """All endpoints at which the server saw the peer, for a plan that has not begun."""
        if self._course is not None:
            self._course.seen(tuple(observed))

    def peer_nat(self, nat: NatSummary) -> None:
        """More is known of the peer's NAT."""
        if self._course is not None:
            self._course.theirs(nat, self._reactor.seconds())
            self._make_plan()

    def my_nat(self, nat: NatSummary) -> None:
        """More is known of this side's NAT; a plan that has begun is not changed."""
        if self._course is not None:
            self._course.mine(nat)
            self._make_plan()

    def looked_again(self, nat: NatSummary) -> None:
        """This side's NAT was looked at a second time, since no path has come yet."""
        if self._course is not None:
            self._course.looked_again(nat, self._reactor.seconds())
            self._make_plan()

    def _no_news(self) -> None:
        if self._course is not None:
            self._course.no_news()
            self._make_plan()

    def _begin_plan(self) -> None:
        if self._course is not None:
            self._course.begin()
            self._make_plan()

    def _make_plan(self) -> None:
        """Follow the plan for the two NATs, if there is one by now; permission and room are asked for once."""
        if self._stopped or self._course is None:
            return
        made = self._course.next(self._port, random.random, self._reactor.seconds())
        if made is None:
            return
        if self.plan_state == "none":
            reason = None if made.light else self._permit()
            room = descriptor_room(MOST_SOCKETS)
            if reason is None and room < FEWEST_SOCKETS:
                reason = "this process may not open enough sockets to try more"
            if reason is not None:
                self.plan_state = "withheld"
                self._phrase = reason
                self._course.refused()
                return
            self.plan_state = "followed"
            self.way = made.way
            self._schedule.room = room
        self._phrase = made.phrase + " ({syns} SYNs from here)"
        self._schedule.add(made, self._reactor.seconds())
        self._run()

    # -- sockets -------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        # A punch without a listener still works whenever the SYNs cross.
        for is_ipv6 in self._families & self._deaf_to:
            self._deaf_to.discard(is_ipv6)
            self._doorman.admit(self._port, is_ipv6, self._guests[0])

    def _run(self) -> None:
        if self._stopped:
            return
        if self._reactor.seconds() >= self._silent_until:
            orders = self._schedule.due(self._reactor.seconds())
            self._attempts.drop(orders.drop)
            for dial in orders.dial:
                self._dial(dial)
        self._set_timer()

    def _set_timer(self) -> None:
        wake = self._schedule.wake()
        if wake is not None:
            wake = max(wake, self._silent_until)
        if self._timer is not None and self._timer.active():
            if wake is not None and self._timer.getTime() <= wake:
                return
            self._timer.cancel()
        self._timer = None
        if wake is not None:
            self._timer = self._reactor.callLater(max(0.0, wake - self._reactor.seconds()), self._run)

    def _dial(self, dial: Dial) -> None:
        try:
            self._attempts.begin(dial)
        except OSError as error:
            if error.errno in EXHAUSTED:
                # The rest of the program needs some too.
                self._schedule.room = self._schedule.pending // 2
            self._failed(dial, error.errno or 0, icmp=False)

    def _ended(self, dial: Dial, code: int, icmp: bool) -> None:
        self._failed(dial, code, icmp=icmp)
        self._set_timer()

    def _stands(self, dial: Dial, half_open: HalfOpen) -> None:
        self._schedule.connected(dial)
        self.made_by = self.way if dial.serial else SINGLE
        adopt(self._reactor, half_open.take(), half_open.family, self._build, self._make_room)

    def _accepted(self, address: IAddress) -> IProtocol | None:
        """The listener has a connection: one from where no candidate is belongs to the plan of the peer."""
        there = cast(IPv4Address | IPv6Address, address)
        self.made_by = SINGLE if (there.host, there.port) in self._known else self.way
        return self._build(address)

    def _make_room(self) -> bool:
        """Close what is still trying, for one that stands; false if there is nothing left to close."""
        self._schedule.room = 0
        return self._attempts.drop_all()

    def _failed(self, dial: Dial, code: int, *, icmp: bool) -> None:
        why = os.strerror(code)
        if dial.serial:
            self.plan_errors[why] += 1
        else:
            self.last_errors[dial.host, dial.port] = why
        self._schedule.failed(dial, self._reactor.seconds(), icmp=icmp)
