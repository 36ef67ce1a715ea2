"""What this machine's NAT does with connections that come in, as far as somebody asks: three checks with the server.

Laws of this file:

1. Nothing is checked unless it is asked for.  Whether SYNs may cross, which a punch in trouble asks for, is then
   believed for ``FRESH_S`` seconds on the same outside address, and that the server could not tell for ``UNKNOWN_S``;
   the same check is never made twice at once.
2. Every wait has an end, that of the slowest check.  :meth:`InboundChecks.end` ends the crossing, which is found out
   for the connection that is gone; filtering and hairpin go on to their own ends, or until whoever asked gives up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import Deferred, FirstError, gatherResults

from p2pxfer.core.addresses import Address, Endpoint, dialable_public, scope
from p2pxfer.core.traversal import discovery
from p2pxfer.core.traversal.discovery import DEPENDENT, Inbound, Mapping, Simultaneous, View
from p2pxfer.net.traversal.crossing import CrossingCheck
from p2pxfer.net.traversal.filtering import FilteringCheck
from p2pxfer.net.traversal.flight import Opener
from p2pxfer.net.traversal.freshports import fresh_ports
from p2pxfer.net.traversal.hairpin import HairpinCheck
from p2pxfer.net.types import Reactor

FRESH_S = 600.0
"""How long what was found on one outside address is believed, seconds."""
UNKNOWN_S = 60.0
"""How long the server is not asked again after it said that it does not know, seconds."""
_LOST = "the server is not connected"
_MOVES = "the outside port depends on the destination"


class Placement(Struct, frozen=True):
    """How this machine stands to the server: reached ``at``, with the addresses ``own``, seen in ``views``."""

    at: Endpoint
    own: frozenset[Address]
    views: tuple[View, ...]
    mapping: Mapping

    @property
    def judged(self) -> list[View]:
        """The views of the NAT that is spoken of: over IPv6 the control connection does not pass that of IPv4."""
        return discovery.one_family(self.views)

    @property
    def target(self) -> Endpoint:
        """The endpoint of the server that is reached through that NAT."""
        return self.judged[0].at

    @property
    def host(self) -> Address:
        """Its outside address."""
        return self.judged[0].seen.host


class InboundChecks:
    """The checks of one client.  ``placement`` tells how it stands now, ``None`` while no server is connected."""

    def __init__(self, reactor: Reactor, opener: Opener, placement: Callable[[], Placement | None]) -> None:
        self._reactor = reactor
        self._opener = opener
        self._placement = placement
        self._crossing: CrossingCheck | None = None
        self._waiting: list[Deferred[tuple[Simultaneous, str]]] = []
        self._found: tuple[Simultaneous, str] = "unknown", ""
        self._found_on: Address | None = None
        self._found_at = 0.0

    @property
    def simultaneous(self) -> Simultaneous:
        """What is known of it on the present outside address."""
        placement = self._placement()
        return self._found[0] if placement is not None and self._believed(placement) else "unknown"

    def _believed(self, placement: Placement) -> bool:
        """Whether what was found last holds still."""
        lasts = UNKNOWN_S if self._found[0] == "unknown" else FRESH_S
        return placement.host == self._found_on and self._reactor.seconds() - self._found_at < lasts

    async def all(self) -> Inbound:
        """Check everything; takes as long as the slowest check at most."""
        placement = self._placement()
        if placement is None:
            return Inbound(closed=_LOST, unturned=_LOST, unanswered=_LOST, uncrossed=_LOST)
        filtering = FilteringCheck(self._reactor, self._opener, placement.target, fresh_ports(1)[0])
        waiting: list[Deferred[Any]] = [filtering.done, Deferred.fromCoroutine(self.crossing())]
        unturned = _no_hairpin(placement)
        if not unturned:
            hairpin = HairpinCheck(self._reactor, self._opener, placement.target, self.may_dial)
            waiting.append(hairpin.done)
            hairpin.start()
        filtering.start()
        try:
            found = await gatherResults(waiting, consumeErrors=True)
        except FirstError as error:  # what a group makes of a cancellation
            error.subFailure.raiseException()
            raise
        behaviour: Inbound = replace(found[0], simultaneous=found[1][0], uncrossed=found[1][1])
        if unturned:
            return replace(behaviour, unturned=unturned)
        return replace(behaviour, hairpin=found[2][0], unturned=found[2][1])

    async def crossing(self) -> tuple[Simultaneous, str]:
        """Whether the NAT lets a SYN in that crosses one of its own, and why that is unknown if it is."""
        placement = self._placement()
        if placement is None:
            return "unknown", _LOST
        if placement.mapping in ("port-dependent", "connection-dependent"):
            return "unknown", _MOVES
        if self._believed(placement):
            return self._found
        waiting: Deferred[tuple[Simultaneous, str]] = Deferred()
        self._waiting.append(waiting)
        if self._crossing is None:
            check = self._crossing = CrossingCheck(self._reactor, self._opener, placement.target)
            check.done.addCallbacks(self._crossed, self._not_crossed, callbackArgs=(check, placement.host))
            check.start()
        return await waiting

    def _crossed(self, found: tuple[Simultaneous, str], check: CrossingCheck, host: Address) -> None:
        if check.answered:
            self._found, self._found_on, self._found_at = found, host, self._reactor.seconds()
        self._tell(found)

    def _not_crossed(self, failure: object) -> None:
        """The check was cancelled, there is no other error."""
        self._tell(("unknown", _LOST))

    def _tell(self, found: tuple[Simultaneous, str]) -> None:
        self._crossing = None
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(found)

    def may_dial(self, endpoint: Endpoint) -> bool:
        """Whether this machine's own outside endpoint may be dialled, which the server has told; as for a peer's."""
        placement = self._placement()
        if placement is None:  # the connection to the server was lost meanwhile
            return False
        private = scope(placement.target.host) in ("private", "shared")
        known = any(view.seen.host == endpoint.host for view in placement.judged)
        return known and dialable_public(endpoint, allow_private=private, refuse=[placement.at, placement.target])

    def end(self) -> None:
        """The connection to the server is gone, and with it whoever was to hear of the crossing."""
        if self._crossing is not None:
            self._crossing.done.cancel()


def _no_hairpin(placement: Placement) -> str:
    """Why no hairpin is looked for; empty if one is."""
    if any(view.seen.host in placement.own for view in placement.judged):
        return "there is no NAT"
    return _MOVES if placement.mapping in DEPENDENT else ""
