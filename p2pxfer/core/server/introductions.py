"""What two peers learn of each other, computed from what the server saw: pure functions.

Laws of this file:

1. A public endpoint that a peer hears of is one from which the server itself saw the other peer on an authenticated
   connection.  Nobody can have a third party dialled by asserting its address.
2. Asserted (LAN) endpoints go only to a peer that was seen from the same public address.
3. Private and loopback endpoints that the server saw go only to a peer that it reached in the same way.
4. What a side reports of its NAT never replaces what the server saw of it.
5. An endpoint that a side's router is said to lead to it is passed on only with an address from which the server saw
   that side; what it asserts is the port.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv6Address

from msgspec import Struct, structs

from p2pxfer.core import addresses
from p2pxfer.core.addresses import Address, Endpoint
from p2pxfer.core.messages import MAX_MAPPED, MAX_OBSERVED, NatSummary, PathPolicy, Registered
from p2pxfer.core.server.effects import Listening
from p2pxfer.core.traversal import discovery
from p2pxfer.core.traversal.discovery import View
from p2pxfer.errors import AddressRefused

_MAX_OBSERVERS = 8
"""Most observers in one ``Registered`` message, see :class:`p2pxfer.core.messages.Registered`."""
_LOCAL = frozenset(("private", "shared", "loopback"))


class Side(Struct, frozen=True):
    """One party of an introduction: what the server saw of its socket binding ``tag``, and what it asserts."""

    control: Endpoint
    tag: int
    views: tuple[View, ...]
    lan: tuple[str, ...]
    path: PathPolicy
    reported: NatSummary
    """What the party says of its NAT from probes of its own."""
    mapped: tuple[str, ...] = ()
    """The endpoints that it says its router leads to it."""


def policies(one: PathPolicy, other: PathPolicy) -> tuple[bool, bool]:
    """Whether two peers may (dial, relay): each is allowed unless one of them forbids it."""
    return "relay" not in {one, other}, "direct" not in {one, other}


def observed_for(subject: Side, reader: Side, refuse: Collection[Endpoint] = ()) -> list[Endpoint]:
    """The observed endpoints of ``subject`` that ``reader`` may hear of and dial, without repetition.

    ``refuse`` holds the server's own endpoints.
    """
    reached = addresses.scope(reader.control.host)
    unwanted = {*refuse, reader.control, *(view.seen for view in reader.views)}
    kept = [
        seen
        for seen in dict.fromkeys(view.seen for view in subject.views)
        if addresses.dialable_public(
            seen, allow_private=reached in _LOCAL, allow_loopback=reached == "loopback", refuse=unwanted
        )
    ]
    return kept[:MAX_OBSERVED]


def lan_for(subject: Side, reader: Side, refuse: Collection[Endpoint] = ()) -> tuple[list[Endpoint], int]:
    """The LAN candidates of ``subject`` that ``reader`` may hear of, and how many illegal ones were dropped."""
    if not _share_site(subject, reader):
        return [], 0
    return addresses.legal_lan(
        subject.lan, allow_loopback=addresses.scope(reader.control.host) == "loopback", refuse=refuse
    )


def mapped_for(subject: Side, reader: Side, refuse: Collection[Endpoint] = ()) -> list[Endpoint]:
    """The endpoints that the router of ``subject`` leads to it, as far as ``reader`` may hear of and dial them.

    They have an address at which the server saw ``subject``; or, where it saw both at one, a private or shared address:
    that of a home's router behind the NAT that is before both.
    """
    reached = addresses.scope(reader.control.host)
    seen = set(_hosts(subject))
    neighbours = _share_site(subject, reader)
    kept: dict[Endpoint, None] = {}
    for text in subject.mapped:
        try:
            endpoint = addresses.canonical_endpoint(addresses.parse_endpoint(text))
        except AddressRefused:
            continue
        if addresses.dialable_mapped(
            endpoint, seen, allow_private=reached in _LOCAL, allow_loopback=reached == "loopback", refuse=refuse
        ) or (neighbours and addresses.dialable_inner(endpoint, refuse)):
            kept[endpoint] = None
    return list(kept)[:MAX_MAPPED]


def _share_site(one: Side, other: Side) -> bool:
    mine = {addresses.source_network(host) for host in _hosts(one)}
    return any(addresses.source_network(host) in mine for host in _hosts(other))


def _hosts(side: Side) -> list[Address]:
    return [side.control.host, *(view.seen.host for view in side.views)]


def nat_summary(side: Side) -> NatSummary:
    """What is known of the NAT in front of one socket binding (terms of RFC 4787 section 4).

    The mapping is what the observations show.  What the side reported of its ports counts only where they also show
    that the mapping depends on the destination, and that not even the same connection keeps one where they show that
    it depends on the port.  Of simultaneous opens only the side itself can know.
    """
    views = discovery.one_family(side.views)
    mapping = discovery.mapping_of(views, _asserted_hosts(side.lan))
    if mapping in discovery.DEPENDENT and side.reported.ports != "unknown":
        renews = mapping == "port-dependent" and side.reported.mapping == "connection-dependent"
        return side.reported if renews else structs.replace(side.reported, mapping=mapping)
    ports = discovery.binding_ports(views, side.tag)
    return NatSummary(mapping=mapping, ports=ports, simultaneous=side.reported.simultaneous)


def _asserted_hosts(texts: Iterable[str]) -> set[Address]:
    """The addresses that a client says are its own, dialable or not: only ever compared with observed ones."""
    hosts = set()
    for text in texts:
        try:
            hosts.add(addresses.canonical(addresses.parse_endpoint(text).host))
        except AddressRefused:
            continue
    return hosts


def server_endpoints(listening: Listening, local: Endpoint, remote: Endpoint) -> list[Endpoint]:
    """Every endpoint of the server that a client which came from ``remote`` to ``local`` can reach, that one first.

    Those of the other address family come last, which not every client can reach.  A server with a private address and
    a client with a public one means an address translator in front of the server: then its first ``observe`` address
    stands for the private one.
    """
    extra = [host for host in listening.observe if host.version == local.host.version]
    base = local.host
    if addresses.scope(base) in _LOCAL and addresses.scope(remote.host) == "public":
        if not extra:
            return [local, *_other_family(listening, local)]
        base = extra[0]
    found = [Endpoint(base, local.port)]
    for host, port in listening.bound:
        if host.is_unspecified:
            reachable = isinstance(host, IPv6Address) or host.version == base.version
            found += [Endpoint(one, port) for one in (base, *extra)] if reachable else []
        elif host.version == base.version:
            found.append(Endpoint(base if host == local.host else host, port))
    own_address_first = sorted(found, key=lambda endpoint: endpoint.host != base)
    return list(dict.fromkeys([*own_address_first, *_other_family(listening, local)]))


def _other_family(listening: Listening, local: Endpoint) -> list[Endpoint]:
    """Endpoints of the other family, public ones or as private as ``local``."""
    version = 4 if local.host.version == 6 else 6
    hosts = [host for host in listening.observe if host.version == version]
    found = []
    for host, port in listening.bound:
        if host.is_unspecified and (host.version == 6 or version == 4):
            found += [Endpoint(one, port) for one in hosts]
        elif host.version == version and not host.is_unspecified:
            found.append(Endpoint(host, port))
    return [one for one in found if addresses.scope(one.host) in ("public", addresses.scope(local.host))]


def observers(listening: Listening, local: Endpoint, remote: Endpoint) -> list[Endpoint]:
    """Where else that client can let itself be observed; another port of the same address comes first.

    Of IPv6, where nothing is translated, one endpoint will do for a client that came by IPv4.
    """
    found = server_endpoints(listening, local, remote)[1:]
    if local.host.version == 4:
        first = next((one for one in found if one.host.version == 6), None)
        found = [one for one in found if one.host.version == 4][: _MAX_OBSERVERS - 1] + ([first] if first else [])
    return found[:_MAX_OBSERVERS]


def welcome(listening: Listening, key: bytes, name: str | None, view: View, ping_s: int) -> Registered:
    """The answer to a registration of ``key`` that was seen in this ``view``."""
    found = observers(listening, view.at, view.seen)
    return Registered(
        id=key, observed=str(view.seen), name=name, observers=[str(endpoint) for endpoint in found], ping_s=ping_s
    )
