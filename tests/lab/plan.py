"""Addresses, links and routes of the lab, as text for `ip -batch`.

    alice --lan-- nat_a --wan--+           every access line (wan) is a TUN pair with a delay,
                               pub -- srv  or a virtual cable if no delay is wanted; the
    bob ---lan--- nat_b --wan--+           server's line is always a cable

A carrier's NAT, if there is one, stands in the access line: nat_a --cable-- carrier_a --wan-- pub.
With one NAT for both, bob's cable ends in nat_a, whose lan is a bridge then, and there is no nat_b.
With one carrier for both, nat_b's cable ends in carrier_a, whose lan is the bridge, and the carrier lets nobody go from
one customer to another but through itself.

`pub` is a plain router that knows the public addresses and swallows everything else, like the
default-free zone: no ICMP tells a host that an address does not exist. Public addresses come from
the range for benchmarks (RFC 2544), because those for documentation are refused by the product.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tests.lab.namespaces import LabError

HOSTS = ("alice", "bob", "srv")
ROUTER_OF = {"alice": "nat_a", "bob": "nat_b"}
CARRIER_OF = {"nat_a": "carrier_a", "nat_b": "carrier_b"}
PUB_PORT = {"nat_a": "pub-a", "nat_b": "pub-b", "srv": "pub-srv"}
SERVER_ADDRESSES = ("198.18.0.10", "198.18.0.11")
DISCARD_PORT = 9
"""A port of the server on which nothing listens."""

_GATEWAY = "198.18.0.1"
_SITE = {"nat_a": 1, "nat_b": 2}
_PORT_OF_LAN = ("lan-1", "lan-2")
_MANY = 10_000


@dataclass(frozen=True, slots=True)
class Site:
    """One host and its router. `routed`: the host has a public address and nothing translates.

    `edge` is the router on the access line: the host's own, or its carrier's. `guest`: the other
    host is in this LAN too, `isolated` from this one or not. `customer`: the place at a carrier that serves both
    sites, 0 without one; the first one has the access line. `net` is the first half of the public address.
    """

    router: str
    host: str
    routed: bool
    lan_router: str
    lan_host: str
    edge: str
    guest: str | None = None
    isolated: bool = False
    customer: int = 0
    net: str = "198.18"

    @property
    def has_line(self) -> bool:
        """Whether an access line begins here."""
        return self.customer < 2

    def public(self, generation: int) -> str:
        """The public address of the site after so many changes of it."""
        if self.routed:
            return self.lan_host
        number = 1 if self.customer else _SITE[self.router]
        return f"{self.net}.{number}.{1 + generation}"

    @property
    def hosts(self) -> dict[str, str]:
        """The address of every host of the site."""
        own = {self.host: self.lan_host}
        return own if self.guest is None else {**own, self.guest: _lan_address(self.lan_router, self.guest)}

    @property
    def wan(self) -> str:
        """The address on the access line that no generation uses, for a router that only routes."""
        return f"198.18.{_SITE[self.router]}.254"

    @property
    def behind_carrier(self) -> str:
        """The outside address of the router if a carrier's NAT is in front of it (RFC 6598)."""
        return f"100.64.{_SITE[self.router]}.2"

    @property
    def carrier(self) -> str:
        """The inside address of the carrier's NAT."""
        return f"100.64.{_SITE[self.router]}.1"


def _lan_address(router: str, host: str) -> str:
    return router.rpartition(".")[0] + {"alice": ".10", "bob": ".20"}[host]


def site(
    host: str,
    *,
    routed: bool,
    same_lan: bool,
    carrier: bool,
    guest: str | None = None,
    isolated: bool = False,
    one_carrier: bool = False,
    net: str = "198.18",
) -> Site:
    """Return the plan for the site of alice or bob.

    `same_lan` gives both sites one private prefix, as two homes with the same make of router. Raises
    `LabError` for a carrier's NAT in front of no NAT, and for a guest where the host's address is public.
    """
    router = ROUTER_OF[host]
    if routed and (carrier or guest):
        raise LabError(f"for a carrier's NAT in front of it or a second host, {router} needs a NAT")
    if routed:
        prefix = f"198.18.{100 + _SITE[router]}."
    elif host == "alice" or same_lan:
        prefix = "192.168.1."
    else:
        prefix = "10.20.30."
    edge = "carrier_a" if one_carrier else CARRIER_OF[router] if carrier else router
    address = _lan_address(prefix + "1", host)
    customer = _SITE[router] if one_carrier else 0
    return Site(router, host, routed, prefix + "1", address, edge, guest, isolated, customer, net)


def links(names: dict[str, str], sites: Collection[Site], cables: bool) -> str:
    """Return the lines that make the virtual cables; the access lines too if `cables`.

    Ends with unlike interface numbers report their carrier at once, equal ones a second later.
    """
    pairs = [("srv", "eth0", 21, "pub", "pub-srv", 11)]
    for number, home in enumerate(sites):
        for index, host in enumerate(home.hosts):
            device = "lan" if home.guest is None else _PORT_OF_LAN[index]
            pairs.append((host, "eth0", 21, home.router, device, 31 + index))
        if home.edge != home.router:
            device = _PORT_OF_LAN[home.customer - 1] if home.customer else "lan"
            pairs.append((home.router, "wan", 22, home.edge, device, 30 + max(1, home.customer)))
        if cables and home.has_line:
            pairs.append((home.edge, "wan", 22, "pub", PUB_PORT[home.router], 12 + number))
    return "".join(
        f"link add name {left} index {left_index} netns {names[a]} type veth"
        f" peer name {right} index {right_index} netns {names[b]}\n"
        for a, left, left_index, b, right, right_index in pairs
    )


def pub(sites: Collection[Site], tuns: bool) -> str:
    """Return the lines for the public network."""
    lines = ["link set lo up", f"addr add {_GATEWAY}/32 dev lo", "route add blackhole default"]
    lines += _up(PUB_PORT["srv"], False)
    sites = [home for home in sites if home.has_line]
    for home in sites:
        lines += _up(PUB_PORT[home.router], tuns)
    lines += [f"route add {address}/32 dev pub-srv" for address in SERVER_ADDRESSES]
    for home in sites:
        lines.append(f"route add {home.public(0)}/32 {_towards(home)}")
        if home.routed:
            lines.append(f"route add {home.wan}/32 dev {PUB_PORT[home.router]}")
    return "\n".join(lines) + "\n"


def _towards(home: Site) -> str:
    port = PUB_PORT[home.router]
    return f"via {home.wan} dev {port} onlink" if home.routed else f"dev {port}"


def srv() -> str:
    """Return the lines for the server."""
    lines = ["link set lo up", *_up("eth0", False)]
    lines += [f"addr add {address}/32 dev eth0" for address in SERVER_ADDRESSES]
    return "\n".join([*lines, default_route("srv", None)]) + "\n"


def router(home: Site, tuns: bool) -> str:
    """Return the lines for a site's router."""
    lan = "" if home.guest is None else _bridge("lan", _PORT_OF_LAN, home.isolated)
    if home.edge != home.router:
        return lan + _between(home.behind_carrier, home.lan_router, home.carrier, False)
    address = home.wan if home.routed else home.public(0)
    return lan + _between(address, home.lan_router, _GATEWAY, tuns)


def _bridge(name: str, ports: Iterable[str], isolated: bool) -> str:
    """What hosts of one LAN send each other passes none of the router's rules; isolated ones reach only the router."""
    members = (f"link set {port} master {name}\nlink set {port} up\n" for port in ports)
    apart = (f"link set {port} type bridge_slave isolated on\n" for port in ports if isolated)
    return f"link add name {name} type bridge\n{''.join(members)}{''.join(apart)}"


def carrier(home: Site, tuns: bool) -> str:
    """Return the lines for the carrier's NAT in front of a site's router, or its place for the second of its customers.

    For the first of two customers these lines come first.
    """
    if home.customer > 1:
        return f"addr add {home.carrier}/24 dev lan\n"
    lan = _bridge("lan", _PORT_OF_LAN, True) if home.customer else ""
    return lan + _between(home.public(0), home.carrier, _GATEWAY, tuns)


def _between(outside: str, inside: str, gateway: str, tuns: bool) -> str:
    lines = [
        "link set lo up",
        *_up("wan", tuns),
        *_up("lan", False),
        f"addr add {outside}/32 dev wan",
        f"addr add {inside}/24 dev lan",
        f"route add default via {gateway} dev wan onlink",
    ]
    return "\n".join(lines) + "\n"


def host(home: Site, role: str) -> str:
    """Return the lines for a host of a site."""
    lines = ["link set lo up", *_up("eth0", False), f"addr add {home.hosts[role]}/24 dev eth0"]
    return "\n".join([*lines, default_route(role, home)]) + "\n"


def default_route(role: str, home: Site | None) -> str:
    """Return the line that gives a host its way out; it is lost whenever its link goes down."""
    via = f"{_GATEWAY} dev eth0 onlink" if home is None else home.lan_router
    return f"route replace default via {via}"


def move(home: Site, generation: int) -> tuple[str, str]:
    """Return the lines for the router and for pub that replace a site's public address."""
    old, new = home.public(generation - 1), home.public(generation)
    out = f"route replace default via {_GATEWAY} dev wan onlink"
    port = PUB_PORT[home.router]
    return (
        f"addr add {new}/32 dev wan\naddr del {old}/32 dev wan\n{out}\n",
        f"route del {old}/32\nroute add {new}/32 dev {port}\n",
    )


def _up(interface: str, tun: bool) -> list[str]:
    """The queue of a TUN device is where the kernel hands over: it must hold a whole burst."""
    queue = [f"link set {interface} txqueuelen {_MANY}"] if tun else []
    return [*queue, f"link set {interface} up"]
