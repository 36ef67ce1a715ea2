"""One introduction turned into paths: the relay leg, the punch, the greetings, and the choice of one direct path.

Laws of this file:

1. Relay and punch start at the same moment; neither waits for the other.
2. Every connection, dialled or accepted, makes its own TLS handshake and greeting.  The initiator of the introduction
   is the TLS client on all of them, since after a simultaneous open both ends dialled.
3. The initiator nominates: the first direct path that greeted.  The responder keeps the one that is nominated.  All
   other direct connections are reset, so that they leave no state in the NATs.
4. A meeting that has no path and nothing under way any more says so once, with every reason it saw.
5. Many SYNs go only to a peer whose key was verified before, only to where the server observed it, and not again for
   ten minutes; ``gentle`` forbids them.
"""

from __future__ import annotations

import itertools
import os
from typing import cast

from msgspec import structs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.codec import Message
from p2pxfer.core.messages import ALPN_PEER, Introduction, NatSummary, PeerNat
from p2pxfer.core.server.experience import LOST, took
from p2pxfer.core.session.wire import Chunk, Nominate, PathClass, PlanState
from p2pxfer.core.traversal.dials import spare_ports
from p2pxfer.core.traversal.ledger import Ledger
from p2pxfer.core.traversal.strategies import ROUND_TRIP_S, Situation, kind
from p2pxfer.errors import AddressRefused, P2pxferError, Unreachable
from p2pxfer.net.connection.streams import SecureBootstrap
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.session.parties import MeetingOwner, Party, why_gentle
from p2pxfer.net.session.path import PathFacts, PathOwner, PeerPath
from p2pxfer.net.session.siblings import Siblings
from p2pxfer.net.traversal.candidates import Candidates
from p2pxfer.net.traversal.ownaddresses import endpoint_text
from p2pxfer.net.traversal.puncher import Mapped, Puncher
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.types import Reactor
from p2pxfer.net.waiting import Waiting
from p2pxfer.status import PathKind

MAX_GREETING = 16
"""Most connections of one introduction that have not been nominated: strangers may connect to the punch port too."""
NOMINATION_S = 10.0
"""How long after the punch a greeted connection may wait to be nominated, seconds."""
ONE_ADDRESS = "both are behind one public address, which lets nothing back in to itself"
DOUBT_S = 2.0
"""After what time without a direct path it is doubted that both NATs let SYNs cross, seconds."""
SHORTEST_S = 0.05
"""Shortest round trip that a punch reckons with, seconds: the peers may be farther from each other than from the
server."""
_numbers = itertools.count(1)
_ledger = Ledger()
"""Of this process: every meeting takes part in the same limit."""


class Meeting(PathOwner):
    """Everything that happens because of one introduction."""

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        introduction: Introduction,
        party: Party,
        client: RendezvousClient,
        owner: MeetingOwner,
    ) -> None:
        self.introduction = introduction
        self.party = party
        self.started = reactor.seconds()
        self._reactor = reactor
        self._client = client
        self._owner = owner
        self._is_client = party.role == "initiator"
        self._creator = PeerTLS(party.identity, party.peer_key, ALPN_PEER)
        self._greeting: set[PeerPath] = set()
        self._up: dict[PeerPath, None] = {}
        self._nominated: PeerPath | None = None
        self._made_by: dict[PeerPath, str] = {}
        """The way to which direct connections belong that are not up yet."""
        self._puncher: Puncher | None = None
        self.tried = ""
        """What the punch tried beyond the candidates, or why not, as a phrase for people."""
        self.one_address = False
        """Whether the server saw both at one address, known when the punch has ended."""
        self.plan_state: PlanState = "none"
        """What became of the plan of many dials, known when the punch has ended."""
        self.nats = (introduction.my_nat, introduction.peer_nat)
        """What is known of the NATs here and at the peer, after the punch all that came to be known in it."""
        self._candidates = Candidates(client, introduction)
        self._leg: Deferred[IProtocol] | None = None
        self._nomination: IDelayedCall | None = None
        self._doubt: IDelayedCall | None = None
        self._reasons: list[P2pxferError] = []
        self.siblings = Siblings(reactor, client, self._creator, self, self._make_path, self._raise)
        self._undecided = Waiting()
        self._closed = False
        self.had_path = False
        """Whether any path of this meeting was ever up."""
        self.unheard = False
        """The peer had probably lost its connection to the server when it was introduced, and never heard of it."""
        client.informed[introduction.session] = self

    # -- start and stop ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the relay and punch, as far as the introduction allows either."""
        introduction = self.introduction
        if introduction.dial:
            found = self._candidates
            observed = found.observed(introduction.observed)
            candidates = [*found.lan(), *found.mapped(introduction.mapped), *found.public(observed)]
            trip = max(introduction.round_trip_ms / 1000 or ROUND_TRIP_S, SHORTEST_S)
            nats = (introduction.my_nat, introduction.peer_nat)
            seen = tuple(self._client.discovery.seen)
            situation = Situation(
                *nats,
                tuple(observed),
                trip,
                tuple(introduction.order),
                seen,
                spare_ports(introduction.session, self.party.role),
            )
            port, announced = self._client.mapped_port
            self._puncher = Puncher(
                self._reactor, self._client.port, candidates, self._direct_protocol, situation, self._permit,
                Mapped(port, self._mapped_protocol, announced) if port else None, self._client.doorman,
            )  # fmt: skip
            self._puncher.done.addCallback(self._punched)
            self._puncher.start()
            Deferred.fromCoroutine(self._client.discovery.settled()).addCallback(self._settled)
            self._doubt = self._reactor.callLater(DOUBT_S, self._suspect)
        if introduction.relay_token is not None:
            path = self._make_path("relay", "", "")
            self._leg = self._client.join_relay(introduction.relay_token, path, self._creator, self._is_client)
            self._leg.addBoth(self._leg_ended, path)
        self._check_failed()

    async def decided(self) -> None:
        """Wait until a direct path is up, or none can come any more; some 20 seconds at most."""
        if self._may_come():
            await self._undecided.moment()

    def _may_come(self) -> bool:
        """A direct path is looked for, or greets, and none is up."""
        greets = self._puncher is not None or any(path.facts.kind != "relay" for path in self._greeting)
        return greets and not self._closed and (self._nominated is None or self._nominated in self._greeting)

    def _check_decided(self) -> None:
        if not self._may_come():
            self._undecided.come()

    def close(self) -> None:
        """End everything; paths that are up are closed in order, all else is reset."""
        self._closed = True
        if self._nomination is not None and self._nomination.active():
            self._nomination.cancel()
        if self._puncher is not None:
            self._puncher.stop()
        if self._leg is not None:
            self._leg.cancel()
        self.siblings.close()
        for path in list(self._greeting):
            path.fail(Unreachable("the meeting is over"))
        for path in list(self._up):
            path.close()
        self._check_decided()

    def peer_nat(self, news: PeerNat) -> None:
        """See :class:`~p2pxfer.net.traversal.asking.Informed`."""
        if self._puncher is None:
            return
        observed = self._candidates.observed(news.observed)
        if observed:
            self._puncher.peer_seen(observed)
            self._puncher.add(self._candidates.public(observed))
        if news.nat is not None:
            self._puncher.peer_nat(news.nat)

    def peer_returned(self) -> None:
        """See :class:`~p2pxfer.net.traversal.asking.Informed`."""
        if self._closed or self.had_path:
            return
        self.unheard = True
        self._reasons.append(Unreachable("the peer lost its connection to the server just before"))
        self.close()
        self._owner.meeting_failed(self, self._reasons)

    def peer_mapped(self, mapped: list[str]) -> None:
        """See :class:`~p2pxfer.net.traversal.asking.Informed`."""
        if self._puncher is not None:
            self._puncher.add(self._candidates.mapped(mapped))

    def _settled(self, _: object) -> None:
        summary = self._client.discovery.summary
        # Nothing is known any more after the connection to the server was lost; what was known then still holds.
        if self._puncher is not None and summary.mapping != "unknown":
            self._puncher.my_nat(summary)

    def _suspect(self) -> None:
        """What crosses should have met by now: see whether a NAT is in the way of that, as the peer does now, too."""
        if self._may_come() and all(kind(nat) == "cone" for nat in self._nats_of(self._puncher)):
            Deferred.fromCoroutine(self._client.discovery.find_crossing())

    def _nats_of(self, puncher: Puncher | None) -> tuple[NatSummary, NatSummary]:
        """What is known of the NATs here and at the peer by now."""
        if puncher is None or puncher.situation is None:
            return self.nats
        mine = structs.replace(puncher.situation.mine, simultaneous=self._client.discovery.summary.simultaneous)
        return mine, puncher.situation.theirs

    @property
    def punching(self) -> bool:
        """A direct path may still come."""
        return self._puncher is not None

    @property
    def paths(self) -> list[PeerPath]:
        """What is up."""
        return list(self._up)

    def _permit(self) -> str | None:
        return why_gentle(self.party, _ledger, self._reactor.seconds())

    # -- connections ---------------------------------------------------------------------------------------------

    def _direct_protocol(self, address: IAddress) -> IProtocol | None:
        """The protocol for a connection from or to the punch port."""
        there = cast(IPv4Address | IPv6Address, address)
        remote = endpoint_text(there.host, there.port)
        try:
            kind = self._candidates.kind(remote)
        except AddressRefused:  # a neighbour's link-local address: never a candidate
            return None
        return self._protocol(kind, self._client.port, remote)

    def _mapped_protocol(self, address: IAddress) -> IProtocol | None:
        """The protocol for a connection that the router led here."""
        there = cast(IPv4Address | IPv6Address, address)
        return self._protocol("mapped", self._client.mapped_port[0], endpoint_text(there.host, there.port))

    def _protocol(self, kind: PathKind, port: int, remote: str) -> IProtocol | None:
        if self._closed or self._nominated is not None or len(self._greeting) >= MAX_GREETING:
            return None
        path = self._make_path(kind, f"port {port}", remote)
        if self._puncher is not None:
            self._made_by[path] = self._puncher.made_by
        return SecureBootstrap(self._reactor, path, self._creator, is_client=self._is_client)

    def _make_path(
        self, kind: PathKind, local: str, remote: str, beside: PeerPath | None = None, owner: PathOwner | None = None
    ) -> PeerPath:
        purpose: PathClass = "beside" if beside is not None else "relay" if kind == "relay" else "direct"
        terms = self.party.terms(self.introduction.session, purpose, os.urandom(32))
        facts = PathFacts(next(_numbers), kind, local, remote, 0 if beside is None else beside.facts.group)
        path = PeerPath(facts, terms, owner or self, self._reactor)
        if beside is None:
            self._greeting.add(path)
        return path

    def _leg_ended(self, result: IProtocol | Failure, path: PeerPath) -> None:
        """The relay leg stands, or there is none."""
        self._leg = None
        if isinstance(result, Failure):
            self._greeting.discard(path)
            error = result.value
            self._reasons.append(error if isinstance(error, P2pxferError) else Unreachable(result.getErrorMessage()))
            self._check_failed()

    def _punched(self, dials: int) -> None:
        puncher, self._puncher = self._puncher, None
        if self._doubt is not None and self._doubt.active():
            self._doubt.cancel()
        self.log.debug("the punch ended after {dials} dials", dials=dials)
        if puncher is not None:
            self.one_address, self.plan_state = self._candidates.at_one_address(), puncher.plan_state
            self.tried = puncher.tried or (ONE_ADDRESS if self.one_address else "")
            self.nats = self._nats_of(puncher)
            if self._nominated is None:
                if self.had_path and not self._closed:  # the relay stood, so the peer took part
                    self._client.outcome(self.introduction.session, puncher.way, LOST)
                for (host, port), why in puncher.last_errors.items():
                    self._reasons.append(Unreachable(f"{host}:{port}: {why}"))
        if not self._closed:
            self._nomination = self._reactor.callLater(NOMINATION_S, self._drop_losers)
        self._check_failed()

    def _drop_losers(self) -> None:
        """Reset every direct connection that is not the one to keep."""
        for other in list(self._greeting):
            if other is not self._nominated and other.facts.kind != "relay":
                other.fail(Unreachable("another direct path was nominated, or none in time"))

    def _check_failed(self) -> None:
        self._check_decided()
        waiting = self._up or self._greeting or self._leg is not None or self._puncher is not None
        if not waiting and not self._closed:
            self._closed = True
            self._owner.meeting_failed(self, self._reasons)

    # -- from the paths ------------------------------------------------------------------------------------------

    def path_greeted(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        if self._closed:
            path.fail(Unreachable("the meeting is over"))
        elif path.facts.kind == "relay":
            self._raise(path)
        elif self.party.role == "initiator":
            if self._nominated is None:
                path.send(Nominate())
                self._keep(path)
            else:
                path.fail(Unreachable("another direct path was nominated"))

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        direct = path.facts.kind != "relay"
        if isinstance(message, Nominate) and direct and self.party.role == "responder" and self._nominated is None:
            self._keep(path)
        elif path in self._up and not (direct and self.siblings.receive(path, message)):
            self._owner.path_message(path, message)

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        self._owner.path_chunk(path, chunk)

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        self._owner.path_writable(path)

    def path_lost(self, path: PeerPath, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        self._greeting.discard(path)
        self._made_by.pop(path, None)
        was_up = path in self._up
        self._up.pop(path, None)
        self._reasons.append(error)
        self.siblings.lost(path)
        if was_up:
            self._owner.path_down(self, path, error)
        self._check_failed()

    def _keep(self, path: PeerPath) -> None:
        """The nominated path stays, every other direct connection goes."""
        self._nominated = path
        told = self._candidates.through_nats(path.facts.kind, path.facts.remote)
        if told and (way := self._made_by.get(path)) is not None:
            self._client.outcome(self.introduction.session, way, took(self._reactor.seconds() - self.started))
        self._made_by.clear()
        if self._puncher is not None:
            self._puncher.stop()
        _ledger.succeeded(self.party.peer_key)
        self._drop_losers()
        self._raise(path)

    def _raise(self, path: PeerPath) -> None:
        self._greeting.discard(path)
        self.had_path = True
        self._up[path] = None
        self._owner.path_up(self, path)
        self._check_decided()
