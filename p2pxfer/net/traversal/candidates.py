"""What of an introduction may be dialled: the candidates of one meeting, judged before the first SYN.

Laws of this file:

1. A public endpoint is dialled only where the server itself observed the peer, one that the peer's router gave only at
   such an address.  What else is asserted has to lie in private address space, what a router gave there only if the
   server sees both machines at one address.
2. Nothing is dialled that the rules for addresses forbid (:mod:`p2pxfer.core.addresses`), nor this machine's own punch
   port, whatever the server says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol as Interface

from twisted.logger import Logger

from p2pxfer.core.addresses import (
    Endpoint,
    canonical_endpoint,
    dialable_inner,
    dialable_lan,
    dialable_mapped,
    dialable_public,
    parse_endpoint,
    same_site,
    scope,
)
from p2pxfer.core.messages import Introduction
from p2pxfer.core.traversal.dialing import MAX_CANDIDATES
from p2pxfer.core.traversal.dials import Candidate
from p2pxfer.errors import AddressRefused
from p2pxfer.net.traversal.probing import NatDiscovery
from p2pxfer.status import PathKind


class Vantage(Interface):
    """How this machine stands to the server."""

    over_loopback: bool
    over_private: bool
    discovery: NatDiscovery

    @property
    def own_endpoints(self) -> frozenset[Endpoint]:
        """The punch port, as this machine and as the server sees it."""


class Candidates:
    """The endpoints of one peer that may lead to it."""

    log = Logger()

    def __init__(self, here: Vantage, introduction: Introduction) -> None:
        self._here = here
        self._introduction = introduction
        self._mapped: set[Endpoint] = set()
        self._inner: set[Endpoint] = set()

    def lan(self) -> list[Candidate]:
        """What the peer asserts of its local network."""
        here = self._here
        return [
            Candidate("host", str(one.host), one.port)
            for one in self._parsed(self._introduction.lan)
            if dialable_lan(one, allow_loopback=here.over_loopback, refuse=here.own_endpoints)
        ]

    def observed(self, texts: Iterable[str]) -> list[Endpoint]:
        """Where the server itself observed the peer."""
        here = self._here
        return [
            one
            for one in self._parsed(texts)
            if dialable_public(
                one,
                allow_private=here.over_private,
                allow_loopback=here.over_loopback,
                refuse=here.own_endpoints,
            )
        ]

    def at_one_address(self) -> bool:
        """Whether the server saw both sides at one address."""
        here = {one.host for one in self._here.own_endpoints}
        return not here.isdisjoint(one.host for one in self.observed(self._introduction.observed))

    def public(self, observed: Iterable[Endpoint]) -> list[Candidate]:
        """Those at which the server saw the peer.

        IPv6 is dialled from the address that the server saw here, which the peer expects, or not at all.
        """
        own = {4: "", 6: self._here.discovery.source6}
        return [
            Candidate("server-reflexive", str(one.host), one.port, local)
            for one in observed
            if (local := own[one.host.version]) is not None
        ]

    def mapped(self, texts: Iterable[str]) -> list[Candidate]:
        """Where the peer's router leads to it: at addresses at which the server observed the peer, or in the network of
        the one carrier of both.  There its router may have given the punch port's number only, which is to be punched.
        """
        here = self._here
        seen = {one.host for one in self.observed(self._introduction.observed)}
        own_ports = {one.port for one in self._parsed(self._introduction.lan)}
        neighbours = any(same_site(mine.host, host) for mine in here.own_endpoints for host in seen)
        found: list[Candidate] = []
        for one in self._parsed(texts):
            outer = dialable_mapped(
                one,
                seen,
                allow_private=here.over_private,
                allow_loopback=here.over_loopback,
                refuse=here.own_endpoints,
            )
            inner = neighbours and dialable_inner(one, here.own_endpoints)
            if len(self._mapped) + len(self._inner) < MAX_CANDIDATES and (outer or inner):
                punched = inner and one.port in own_ports
                found.append(Candidate("host" if punched else "mapped", str(one.host), one.port))
                (self._inner if punched else self._mapped).add(one)
        return found

    def kind(self, remote: str) -> PathKind:
        """What a connection with the endpoint ``remote`` is called."""
        endpoint = canonical_endpoint(parse_endpoint(remote))
        where = scope(endpoint.host)
        if endpoint in self._mapped:
            return "mapped"
        if endpoint in self._inner:
            return "punched"
        if where in ("private", "shared"):
            return "lan"
        if endpoint.host.version == 6:
            return "ipv6"
        open_side = "none" in (self._introduction.my_nat.mapping, self._introduction.peer_nat.mapping)
        return "direct" if where == "loopback" or open_side else "punched"

    def through_nats(self, kind: PathKind, remote: str) -> bool:
        """Whether such a path went over the Internet through what the server takes for the NATs of the two sides: not
        one inside the network of the carrier of both."""
        return kind in ("direct", "punched") and canonical_endpoint(parse_endpoint(remote)) not in self._inner

    def _parsed(self, texts: Iterable[str]) -> Iterator[Endpoint]:
        for text in texts:
            try:
                yield canonical_endpoint(parse_endpoint(text))
            except AddressRefused as error:
                self.log.info("a candidate is refused: {error}", error=error)
