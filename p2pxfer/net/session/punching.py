"""The punch of one meeting: made from the introduction, fed with the news of both NATs, and what is known at its end.

Laws of this file:

1. What is learnt of either NAT while the punch goes on changes it at once, and is kept when it has ended.
2. A responder that is behind no NAT only listens for a round trip.  Of two SYNs that cross the kernel learns a round
   trip that is too short by up to all of it, and keeps that for minutes: ``bbr`` sets its window by it.  The initiator
   speaks first on every connection, so none that it made comes later for that.
3. Many SYNs go only to a peer whose key was verified before, only to where the server observed it, and not again for
   ten minutes; ``gentle`` forbids them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from msgspec import structs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol

from p2pxfer.core.messages import Introduction, NatSummary, PeerNat
from p2pxfer.core.session.wire import PlanState
from p2pxfer.core.traversal.course import doubt, may_look_again
from p2pxfer.core.traversal.dials import spare_ports
from p2pxfer.core.traversal.ledger import Ledger
from p2pxfer.core.traversal.strategies import ROUND_TRIP_S, Situation, kind
from p2pxfer.errors import AddressRefused
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.session.parties import Party, why_gentle
from p2pxfer.net.traversal.candidates import Candidates
from p2pxfer.net.traversal.ownaddresses import endpoint_text
from p2pxfer.net.traversal.puncher import Mapped, Puncher
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.types import Reactor
from p2pxfer.status import PathKind

ONE_ADDRESS = "both are behind one public address, which lets nothing back in to itself"
SHORTEST_S = 0.05
"""Shortest round trip that a punch reckons with, seconds: the peers may be farther from each other than from the
server."""
SILENT_S = 0.5
"""Most that a responder waits for the initiator's SYN, seconds, whatever the server says of the round trip."""
_ledger = Ledger()
"""Of this process: every meeting takes part in the same limit."""

_Found = TypeVar("_Found")
Connected = Callable[[PathKind, int, str], IProtocol | None]
"""Makes the protocol of a connection, from its kind, the local port and the other end; ``None`` refuses it."""


class Punching:
    """Looks for direct connections with the peer of one introduction.

    ``connected`` makes their protocols.  ``lacking`` says, some time after the start, whether none is up.  ``ended`` is
    called once, when no further one can come; what is known then stays here.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        introduction: Introduction,
        party: Party,
        client: RendezvousClient,
        connected: Connected,
        lacking: Callable[[], bool],
        ended: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._introduction = introduction
        self._party = party
        self._client = client
        self._connected = connected
        self._trip = max(introduction.round_trip_ms / 1000 or ROUND_TRIP_S, SHORTEST_S)
        self._lacking = lacking
        self._on_end = ended
        self._puncher: Puncher | None = None
        self._doubt: IDelayedCall | None = None
        self.candidates = Candidates(client, introduction)
        self.way = ""
        """What was tried last, in the words that the server counts by; known when the punch has ended."""
        self.errors: dict[tuple[str, int], str] = {}
        """Why no connection came from each address and port that was dialled; known when the punch has ended."""
        self.tried = ""
        """What was tried beyond the candidates, or why not, as a phrase for people."""
        self.one_address = False
        """Whether the server saw both at one address, known when the punch has ended."""
        self.plan_state: PlanState = "none"
        """What became of the plan of many dials, known when the punch has ended."""
        self.nats = (introduction.my_nat, introduction.peer_nat)
        """What is known of the NATs here and at the peer, after the punch all that came to be known in it."""

    @property
    def under_way(self) -> bool:
        """A direct connection may still come."""
        return self._puncher is not None

    @property
    def made_by(self) -> str:
        """The way to which a connection that comes now belongs; empty if none may come."""
        return "" if self._puncher is None else self._puncher.made_by

    def start(self) -> None:
        """Dial and listen."""
        self._puncher = self._new_puncher()
        self._puncher.done.addCallback(self._ended)
        self._puncher.start(self._silence())
        self._find_out(self._client.discovery.settled(), self._settled)
        self._doubt = self._reactor.callLater(doubt(self._trip), self._suspect)

    def _silence(self) -> float:
        """How long the peer alone dials, seconds."""
        reached = self._party.role == "responder" and self._introduction.my_nat.mapping == "none"
        return min(self._trip, SILENT_S) if reached else 0.0

    def stop(self) -> None:
        """Dial and listen no more; does nothing when it has ended."""
        if self._puncher is not None:
            self._puncher.stop()

    def _new_puncher(self) -> Puncher:
        introduction, found = self._introduction, self.candidates
        observed = found.observed(introduction.observed)
        candidates = [*found.lan(), *found.mapped(introduction.mapped), *found.public(observed)]
        situation = Situation(
            introduction.my_nat,
            introduction.peer_nat,
            tuple(observed),
            self._trip,
            tuple(introduction.order),
            tuple(self._client.discovery.seen),
            spare_ports(introduction.session, self._party.role),
        )
        port, announced = self._client.mapped_port
        mapped = Mapped(port, self._came_by_router, announced) if port else None
        return Puncher(
            self._reactor, self._client.port, candidates, self.came, situation, self.permit, mapped,
            self._client.doorman,
        )  # fmt: skip

    def permit(self) -> str | None:
        """Why no plan of many SYNs may be followed, asked once when there is one; ``None`` if it may."""
        return why_gentle(self._party, _ledger, self._reactor.seconds())

    def succeeded(self, useful: Callable[[str], bool]) -> None:
        """A direct path was nominated: look only for what is ``useful`` beside it, and the next plan for this peer is
        no repetition."""
        if self._puncher is not None:
            self._puncher.settle_for(useful)
        _ledger.succeeded(self._party.peer_key)

    # -- connections ---------------------------------------------------------------------------------------------

    def came(self, address: IAddress) -> IProtocol | None:
        """The protocol for a connection from or to the punch port."""
        remote = _endpoint(address)
        try:
            kind = self.candidates.kind(remote)
        except AddressRefused:  # a neighbour's link-local address: never a candidate
            return None
        return self._connected(kind, self._client.port, remote)

    def _came_by_router(self, address: IAddress) -> IProtocol | None:
        """The protocol for a connection that the router led here."""
        return self._connected("mapped", self._client.mapped_port[0], _endpoint(address))

    # -- news ----------------------------------------------------------------------------------------------------

    def peer_nat(self, news: PeerNat) -> None:
        """See :class:`~p2pxfer.net.traversal.asking.Informed`."""
        if self._puncher is None:
            return
        observed = self.candidates.observed(news.observed)
        if observed:
            self._puncher.peer_seen(observed)
            self._puncher.add(self.candidates.public(observed))
        if news.nat is not None:
            self._puncher.peer_nat(news.nat)

    def peer_mapped(self, mapped: list[str]) -> None:
        """See :class:`~p2pxfer.net.traversal.asking.Informed`."""
        if self._puncher is not None:
            self._puncher.add(self.candidates.mapped(mapped))

    def _find_out(self, looking: Coroutine[Any, Any, _Found], found: Callable[[_Found], None]) -> None:
        """Let ``found`` hear what comes of it, maybe after the end; a fault costs the punch no more than that."""
        hearing = Deferred.fromCoroutine(looking).addCallback(found)
        hearing.addErrback(lambda failure: self.log.failure("finding out about the NAT", failure))

    def _settled(self, _: object) -> None:
        summary = self._client.discovery.summary
        # Nothing is known any more after the connection to the server was lost; what was known then still holds.
        if self._puncher is not None and summary.mapping != "unknown":
            self._puncher.my_nat(summary)

    def _suspect(self) -> None:
        """What crosses should have met by now: see whether a NAT is in the way of that, as the peer does now, too."""
        if not self._lacking() or self._puncher is None:
            return
        situation = self._puncher.situation
        if situation is not None and may_look_again(situation):
            self._find_out(self._client.discovery.look_again(), self._looked_again)
        elif all(kind(nat) == "cone" for nat in self._nats_by_now()):
            self._find_out(self._client.discovery.find_crossing(), lambda _: None)

    def _looked_again(self, seen: bool) -> None:
        if seen and self._puncher is not None:
            self._puncher.looked_again(self._client.discovery.summary)

    def _nats_by_now(self) -> tuple[NatSummary, NatSummary]:
        """What is known of the NATs here and at the peer by now."""
        if self._puncher is None or self._puncher.situation is None:
            return self.nats
        situation = self._puncher.situation
        mine = structs.replace(situation.mine, simultaneous=self._client.discovery.summary.simultaneous)
        return mine, situation.theirs

    # -- the end -------------------------------------------------------------------------------------------------

    def _ended(self, dials: int) -> None:
        assert self._puncher is not None
        if self._doubt is not None and self._doubt.active():
            self._doubt.cancel()
        self.log.debug("the punch ended after {dials} dials", dials=dials)
        self.nats = self._nats_by_now()
        puncher, self._puncher = self._puncher, None
        self.way, self.plan_state, self.errors = puncher.way, puncher.plan_state, puncher.last_errors
        self.one_address = self.candidates.at_one_address()
        self.tried = puncher.tried or (ONE_ADDRESS if self.one_address else "")
        self._on_end()


def _endpoint(address: IAddress) -> str:
    there = cast(IPv4Address | IPv6Address, address)
    return endpoint_text(there.host, there.port)
