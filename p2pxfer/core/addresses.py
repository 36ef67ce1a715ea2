"""Network addresses: one strict text form, one canonical value, and the rules for what may be dialled.

Laws of this file:

1. A text is an endpoint in exactly one notation, ``a.b.c.d:port`` or ``[v6]:port``; host names, zone ids, octal,
   hexadecimal or shortened IPv4 forms, signs and spaces are refused.
2. Every decision looks at the canonical address: an IPv4 address wrapped into IPv6 (mapped, compatible, 6to4, NAT64)
   is judged as that IPv4 address, so no wrapping reaches what the plain form does not.
3. What is not known to be harmless is forbidden: link-local, multicast, reserved and documentation ranges always,
   loopback unless the caller itself talks to its server over loopback, private ranges unless the caller says why.
4. Ports below 1024 are never dialled, and those of common services not where a peer merely asserts them: no peer of
   this protocol listens there, so such a candidate can only be meant for somebody else.

The benchmark ranges 198.18.0.0/15 (RFC 2544) and 2001:2::/48 (RFC 5180) count as public: test networks use them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Literal

from msgspec import Struct

from p2pxfer.core.messages import MAX_LAN
from p2pxfer.errors import AddressRefused

Address = IPv4Address | IPv6Address
Scope = Literal["loopback", "private", "shared", "public", "forbidden"]

MAX_TEXT: Final = 64
"""Longest endpoint text, characters; ``[`` + 39 + ``]:65535`` needs 47."""
MIN_PORT: Final = 1024
DENIED_PORTS: Final = frozenset(
    [
        *(1080, 1433, 1434, 1521, 1723, 1883, 2049, 2181, 2375, 2376, 2379, 2380, 3128, 3260, 3306, 3389, 4369),
        *(5060, 5061, 5432, 5672, 5900, 5901, 5984, 5985, 5986, 6000, 6379, 6443, 6667, 7001, 8009, 8086, 9042, 9092),
        *(9100, 9200, 9300, 10250, 11211, 15672, 25565, 26379, 27017, 27018, 27019, 50000, 50070),
    ]
)
"""Ports from 1024 on that belong to well-known services which trust their network."""
PUNCH_PORTS: Final = tuple(port for port in range(20000, 32768) if port not in DENIED_PORTS)
"""Local ports to punch and probe from: below Linux's ephemeral range, so that nothing else is given them by chance."""

_IPV4_TEXT: Final = re.compile(r"([0-9.]{7,15}):([1-9][0-9]{0,4})", re.ASCII)
_IPV6_TEXT: Final = re.compile(r"\[([0-9a-fA-F:.]{2,45})\]:([1-9][0-9]{0,4})", re.ASCII)

_PRIVATE4: Final = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_SHARED4: Final = IPv4Network("100.64.0.0/10")
_LOOPBACK4: Final = IPv4Network("127.0.0.0/8")
_FORBIDDEN4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # "this network", RFC 1122
            "169.254.0.0/16",  # link-local, cloud metadata services
            "192.0.0.0/24",  # protocol assignments, RFC 6890
            "192.0.2.0/24",  # documentation, RFC 5737
            "192.88.99.0/24",  # 6to4 relays, withdrawn by RFC 7526
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and the limited broadcast
        ),
    )
)
_UNIQUE_LOCAL6: Final = IPv6Network("fc00::/7")
_GLOBAL6: Final = IPv6Network("2000::/3")
_FORBIDDEN6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/32",  # Teredo: reaches an arbitrary IPv4 address
            "2001:10::/28",  # ORCHID, RFC 4843
            "2001:20::/28",  # ORCHIDv2, RFC 7343
            "2001:db8::/32",  # documentation, RFC 3849
            "3fff::/20",  # documentation, RFC 9637
        ),
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_LAST_32: Final = 0xFFFFFFFF


class Endpoint(Struct, frozen=True):
    """An address and a TCP port (1 to 65535); ``str()`` gives its text."""

    host: Address
    port: int

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"{self.port} is not a port")

    def __str__(self) -> str:
        return format_endpoint(self)


def format_endpoint(endpoint: Endpoint) -> str:
    """The text of ``endpoint``: ``a.b.c.d:port`` or ``[v6]:port`` with the shortest IPv6 form (RFC 5952)."""
    if isinstance(endpoint.host, IPv4Address):
        return f"{endpoint.host}:{endpoint.port}"
    return f"[{endpoint.host}]:{endpoint.port}"


def parse_endpoint(text: str) -> Endpoint:
    """The endpoint that ``text`` spells, its address as written (not canonical yet).

    Raises:
        AddressRefused: any other notation, port 0 or above 65535, more than ``MAX_TEXT`` characters.
    """
    if len(text) <= MAX_TEXT:
        for pattern, kind in ((_IPV4_TEXT, IPv4Address), (_IPV6_TEXT, IPv6Address)):
            found = pattern.fullmatch(text)
            if found is not None and int(found[2]) <= 65535:
                try:
                    return Endpoint(kind(found[1]), int(found[2]))
                except ipaddress.AddressValueError:
                    break
    raise AddressRefused("an address must read a.b.c.d:port or [v6]:port")


def observed_endpoint(host: str, port: int) -> Endpoint:
    """The canonical endpoint of a socket's address as the system reports it; a zone id is dropped."""
    return Endpoint(canonical(ipaddress.ip_address(host.partition("%")[0])), port)


def canonical(address: Address) -> Address:
    """``address``, or the IPv4 address inside an IPv4-mapped, IPv4-compatible, 6to4 or NAT64 one.

    Sources: RFC 4291 section 2.5.5, RFC 3056, RFC 6052.  A zone id is dropped.
    """
    if isinstance(address, IPv4Address):
        return address
    value = int(address)
    if address in _SIX_TO_FOUR:
        return IPv4Address((value >> 80) & _LAST_32)
    if address in _NAT64 or value >> 32 == 0xFFFF or (value >> 32 == 0 and value > 1):
        return IPv4Address(value & _LAST_32)
    return IPv6Address(value)


def canonical_endpoint(endpoint: Endpoint) -> Endpoint:
    """``endpoint`` with its canonical address."""
    return Endpoint(canonical(endpoint.host), endpoint.port)


def scope(address: Address) -> Scope:
    """Where ``address`` leads, judged by its canonical form.

    ``private`` is RFC 1918 and unique local IPv6 (RFC 4193), ``shared`` is 100.64.0.0/10 (RFC 6598).
    """
    plain = canonical(address)
    if isinstance(plain, IPv4Address):
        return _scope4(plain)
    if plain.is_loopback:
        return "loopback"
    if plain in _UNIQUE_LOCAL6:
        return "private"
    # The local NAT64 prefix 64:ff9b:1::/48, discard, link-local, site-local and multicast all lie outside 2000::/3.
    if plain not in _GLOBAL6 or any(plain in network for network in _FORBIDDEN6):
        return "forbidden"
    return "public"


def _scope4(address: IPv4Address) -> Scope:
    if address in _LOOPBACK4:
        return "loopback"
    if any(address in network for network in _PRIVATE4):
        return "private"
    if address in _SHARED4:
        return "shared"
    if any(address in network for network in _FORBIDDEN4):
        return "forbidden"
    return "public"


def source_network(address: Address) -> str:
    """The unit by which sources are counted and sites compared: an IPv4 address, or the /64 of an IPv6 one."""
    plain = canonical(address)
    if isinstance(plain, IPv4Address):
        return str(plain)
    return str(IPv6Network((int(plain) >> 64 << 64, 64)))


def same_site(one: Address, other: Address) -> bool:
    """True if both were seen from one IPv4 address or one IPv6 /64, hence may share a local network."""
    return source_network(one) == source_network(other)


def dialable_public(
    endpoint: Endpoint,
    *,
    allow_private: bool = False,
    allow_loopback: bool = False,
    refuse: Collection[Endpoint] = (),
) -> bool:
    """True if a server-observed endpoint may be dialled.

    A NAT may give any port from 1024 on to an honest peer, also one that a well-known service uses elsewhere, and the
    server saw the peer speak TLS from it.  So only what a peer merely asserts is held against :data:`DENIED_PORTS`.

    ``allow_private``: the caller's own connection to the server stays in private address space (a server for one
    site); ``allow_loopback``: it is a loopback connection.  ``refuse`` holds canonical endpoints that never are
    candidates: those of the server, and the caller's own.
    """
    where = scope(endpoint.host)
    allowed = (
        where == "public"
        or (allow_private and where in {"private", "shared"})
        or (allow_loopback and where == "loopback")
    )
    return allowed and endpoint.port >= MIN_PORT and canonical_endpoint(endpoint) not in refuse


def dialable_lan(endpoint: Endpoint, *, allow_loopback: bool = False, refuse: Collection[Endpoint] = ()) -> bool:
    """True if an endpoint that a peer of the same site asserts may be dialled: private, shared or unique local.

    ``allow_loopback`` and ``refuse`` as for :func:`dialable_public`.
    """
    where = scope(endpoint.host)
    allowed = where in {"private", "shared"} or (allow_loopback and where == "loopback")
    return allowed and _peer_port(endpoint.port) and canonical_endpoint(endpoint) not in refuse


def dialable_mapped(
    endpoint: Endpoint,
    seen: Collection[Address],
    *,
    allow_private: bool = False,
    allow_loopback: bool = False,
    refuse: Collection[Endpoint] = (),
) -> bool:
    """True if an endpoint that a peer's router is said to lead to it may be dialled.

    ``seen`` are the canonical addresses from which the server saw the peer: the endpoint must have one of them.  Its
    port is only asserted, so ports of common services are refused.  The rest is as for :func:`dialable_public`.
    """
    return (
        canonical(endpoint.host) in seen
        and _peer_port(endpoint.port)
        and dialable_public(endpoint, allow_private=allow_private, allow_loopback=allow_loopback, refuse=refuse)
    )


def dialable_inner(endpoint: Endpoint, refuse: Collection[Endpoint] = ()) -> bool:
    """True if an endpoint that a peer of the same site says its router has outside may be dialled.

    Two homes behind one carrier's NAT are such a site, and their routers have addresses of the carrier's network, most
    often of 100.64.0.0/10 (RFC 6598): neither is private to one home, and no public one may be asserted.
    """
    return endpoint.host.version == 4 and dialable_lan(endpoint, refuse=refuse)


def mapped_port(port: int) -> bool:
    """True if a router may be asked to lead ``port`` here: one that peers dial."""
    return _peer_port(port)


def legal_lan(
    texts: Iterable[str], *, allow_loopback: bool = False, refuse: Collection[Endpoint] = ()
) -> tuple[list[Endpoint], int]:
    """The LAN candidates among ``texts`` that may be dialled, and how many were dropped.

    The result is canonical, without repetition, in the order given, at most ``MAX_LAN`` of them.
    """
    kept: dict[Endpoint, None] = {}
    dropped = 0
    for text in texts:
        try:
            endpoint = canonical_endpoint(parse_endpoint(text))
        except AddressRefused:
            dropped += 1
            continue
        if endpoint in kept:
            continue
        if len(kept) < MAX_LAN and dialable_lan(endpoint, allow_loopback=allow_loopback, refuse=refuse):
            kept[endpoint] = None
        else:
            dropped += 1
    return list(kept), dropped


def _peer_port(port: int) -> bool:
    return port >= MIN_PORT and port not in DENIED_PORTS


def may_observe(observer: Endpoint, at: Endpoint) -> bool:
    """Whether a server that was reached at ``at`` may have this machine connect to ``observer`` to be observed there.

    Another port of its own address, or an address that is no more private than its own: a server must not make its
    clients knock at machines of their own networks.  A port below 1024 must be the one at which the server was reached.
    """
    if observer.host == at.host:
        return True
    harmless = observer.port >= MIN_PORT or observer.port == at.port
    return scope(observer.host) in ("public", scope(at.host)) and harmless
