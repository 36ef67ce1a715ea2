"""When a side of a punch follows which plan: the first one after a head start, another one after a second look.

Laws of this file:

1. Nothing is planned before the head start is over, nor, where the plan aims at ports that the peer's NAT gives out
   next, before news of them, while there may be some.
2. A plan that aims at the next ports of a sequential NAT is off if its counter came to the end of its range just then,
   if others took more ports than were aimed at, or if the news came too late.  To repeat it would lead nowhere: the
   side with such a NAT looks where it has come to by now, tells the peer, and both plan again.
3. All plans of a punch are of one way, end together, and share one budget and one permission; no port is dialled from
   the punch port in two of them.

Time is in seconds on any monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.messages import NatSummary
from p2pxfer.core.traversal.dials import Plan, Volley
from p2pxfer.core.traversal.strategies import AIMED, NEWS, Draw, Situation, kind, wants_news

MOST_PLANS: Final = 3
"""Most plans of one punch: the first, one for news of the peer that came late, one after the second look."""
DOUBT_S: Final = 2.0
"""After what time without a path it is doubted that what was aimed at is right, seconds."""
DOUBT_TRIPS: Final = 6.0
"""The same in round trips, where these are long."""
SETTLING_S: Final = 0.5
"""News that come so soon after the plan began were on their way already, seconds."""
AGAIN: Final = ", and again where it had come to by then"

Planner = Callable[[Situation, int, Draw], Plan | None]


def doubt(round_trip: float) -> float:
    """How long after the introduction a side without a path looks again, seconds."""
    return max(DOUBT_S, DOUBT_TRIPS * round_trip)


def may_look_again(situation: Situation) -> bool:
    """Whether a second look at the NAT here can show anything that the plans of both sides need."""
    return kind(situation.mine) == "sequential" and kind(situation.theirs) in ("cone", "sequential")


class Course:
    """The plans of one side of one punch.

    It is told what becomes known, and asked for a plan by :meth:`next` whenever it was.
    """

    def __init__(self, situation: Situation, planner: Planner) -> None:
        self.situation = situation
        """What is known of the two NATs, the latest news with it."""
        self._planner = planner
        self._due = False
        self._heard = False
        self._blind = False
        self._began = math.inf
        self._plans = 0
        self._way = ""
        self._phrase = ""
        self._dialled: set[int] = set()
        self._mine_at = self._theirs_at = -math.inf

    def seen(self, observed: tuple[Endpoint, ...]) -> None:
        """All endpoints at which the server saw the peer."""
        self.situation = replace(self.situation, observed=observed)

    def theirs(self, nat: NatSummary, now: float) -> None:
        """News of the peer's NAT."""
        self.situation = replace(self.situation, theirs=nat)
        self._heard = True
        if self._blind or now - self._began >= SETTLING_S:
            self._theirs_at, self._blind = now, False

    def mine(self, nat: NatSummary) -> None:
        """More is known of the NAT here."""
        self.situation = replace(self.situation, mine=nat)

    def looked_again(self, nat: NatSummary, now: float) -> None:
        """The NAT here was looked at a second time."""
        self.mine(nat)
        self._mine_at = now

    def no_news(self) -> None:
        """What is known of the peer's next ports must do."""
        self._blind = not self._heard
        self._heard = True

    def begin(self) -> None:
        """Single dials have had their time."""
        self._due = True

    def refused(self) -> None:
        """The plan may not be followed, and no other one."""
        self._plans = MOST_PLANS

    def next(self, port: int, draw: Draw, now: float) -> Plan | None:
        """The plan to follow from now on, beside what is followed already; ``port`` is the punch port."""
        waits = wants_news(self.situation) and not self._heard
        if not self._due or waits or (self._plans and not self._may_plan_again(now)):
            return None
        made = self._planner(self.situation, port, draw)
        if made is None:
            return None
        if self._plans:
            if made.way != self._way:
                return None
            made = replace(made, phrase=self._phrase + AGAIN, volleys=self._what_is_new(made, now - self._began))
            if not made.volleys:
                return None
        else:
            self._began, self._way, self._phrase = now, made.way, made.phrase
        self._plans += 1
        self._mine_at = self._theirs_at = -math.inf
        self._dialled.update(*(volley.ports for volley in made.volleys if volley.source != "fresh"))
        return made

    def _may_plan_again(self, now: float) -> bool:
        """Whether the way aims at ports, and all that it aims at was looked at just now."""
        if self._way not in AIMED or self._plans >= MOST_PLANS:
            return False
        since = now - max(SETTLING_S, NEWS * self.situation.round_trip)
        mine = self._mine_at >= since or kind(self.situation.mine) != "sequential"
        theirs = self._theirs_at >= since or not wants_news(self.situation)
        return mine and theirs

    def _what_is_new(self, made: Plan, late: float) -> tuple[Volley, ...]:
        """The volleys of a plan that begins ``late``, to end with the first one, without ports that are dialled from
        the punch port already; what is left with none is left out."""
        left = (
            replace(
                volley,
                ends=volley.ends - late,
                ports=tuple(port for port in volley.ports if volley.source == "fresh" or port not in self._dialled),
            )
            for volley in made.volleys
        )
        return tuple(volley for volley in left if volley.ports and volley.ends > volley.start)
