"""What is published of how common kinds of NAT are, what is not, and populations of machines drawn from both.

Laws of this file:

1. Every share is a row of :data:`SHARES`, with its source.  What nobody published says ``assumed``.
2. A share has three values, for the cases ``hard``, ``central`` and ``easy``: what is published as a range gives its
   ends and a value between; what is published as one number is that number; what is assumed is spread widely.
3. A machine follows from a mix, a case and a random number generator alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from scripts.poplib.nats import Mapping, NatKind, Ports
from scripts.poplib.side import Machine

Case = Literal["hard", "central", "easy"]
CASES: tuple[Case, ...] = get_args(Case)

SOURCES = {
    "Ford 2005": "B. Ford, P. Srisuresh, D. Kegel: Peer-to-Peer Communication Across Network Address Translators, "
    "USENIX ATC 2005.",
    "Guha 2005": "S. Guha, P. Francis: Characterization and Measurement of TCP Traversal through NATs and Firewalls, "
    "IMC 2005; 93 home NATs, weighted by market shares of that time.  Its figures are quoted at second hand.",
    "Halkes 2010": "G. Halkes, J. Pouwelse: UDP NAT and Firewall Puncturing in the Wild, report PDS-2010-007, Delft.",
    "DiCioccio 2012": "L. DiCioccio, R. Teixeira, M. May, C. Kreibich: Probe and Pray: Using UPnP for Home Network "
    "Measurements, PAM 2012; 120,000 homes, three data sets.",
    "Richter 2016": "P. Richter et al.: A Multi-perspective Analysis of Carrier-Grade NAT Deployment, IMC 2016.",
    "APNIC 2026": "G. Michaelson: Google hits 50% IPv6, blog.apnic.net, 28 April 2026; 42 % as APNIC measures it, "
    "50 % as Google does.",
    "libp2p 2025": "arXiv 2510.27500: hole punching of libp2p in the field; 4.4 million attempts.",
    "RFC 5382": "NAT Behavioral Requirements for TCP, REQ-2: simultaneous open is to be supported.",
    "RFC 6092": "Simple Security in IPv6 Residential CPE, REC-31: the same for firewalls.",
}
ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Share:
    """One number of a population in its three cases."""

    hard: float
    central: float
    easy: float
    what: str
    source: str


SHARES = {
    "home_dependent": Share(0.02, 0.01, 0.0, "home routers that map by destination (less than 2 %)", "Richter 2016"),
    "old_dependent": Share(0.30, 0.30, 0.24, "the same in 2005 (24 %, and 6 % others)", "Guha 2005"),
    "volunteer_dependent": Share(0.11, 0.11, 0.11, "the same among users of a file sharing network", "Halkes 2010"),
    "home_random": Share(1.0, 0.5, 0.0, "of those, draw at random; the others in sequence", ASSUMED),
    "open_filter": Share(0.06, 0.06, 0.06, "boxes that let in everybody at a mapped port", "Guha 2005"),
    "address_filter": Share(0.12, 0.12, 0.12, "boxes that let in every port of an address dialled", "Guha 2005"),
    "no_simo": Share(0.14, 0.14, 0.0, "boxes without simultaneous open; easy: RFC 5382 is followed", "Guha 2005"),
    "rst": Share(0.30, 0.15, 0.0, "home routers that answer an unsolicited SYN with RST", ASSUMED),
    "rst_limited": Share(0.20, 0.10, 0.0, "the same, 25 a second, then silence", ASSUMED),
    "icmp": Share(0.10, 0.05, 0.0, "the same with ICMP", ASSUMED),
    "cellular_nat": Share(1.0, 0.9, 0.9, "mobile machines behind a carrier's NAT (more than 90 % of networks)",
                          "Richter 2016"),
    "cellular_dependent": Share(0.40, 0.40, 0.40, "mobile carriers' NATs that map by destination", "Richter 2016"),
    "fixed_nat": Share(0.18, 0.133, 0.0, "homes with a carrier's NAT too (13.3 %, 17 to 18 % of networks)",
                       "Richter 2016"),
    "fixed_dependent": Share(0.11, 0.11, 0.11, "other carriers' NATs that map by destination", "Richter 2016"),
    "carrier_random": Share(0.63, 0.45, 0.45, "carriers' NATs that draw ports at random; hard: none preserves them",
                            "Richter 2016"),
    "carrier_sequential": Share(0.37, 0.26, 0.26, "carriers' NATs that take ports in sequence", "Richter 2016"),
    "carrier_block": Share(0.0, 0.0, 0.5, "of random ones, draw from a block of 512 ports", ASSUMED),
    "carrier_pools": Share(0.21, 0.21, 0.21, "carriers' NATs that give every mapping any of their addresses",
                           "Richter 2016"),
    "carrier_busy": Share(100.0, 20.0, 5.0, "connections of others through a sequential carrier's NAT, each second",
                          ASSUMED),
    "address_mapping": Share(0.1, 0.25, 0.25, "of what maps by destination, maps by address only", ASSUMED),
    "connection_mapping": Share(0.25, 0.1, 0.0, "of what maps by destination, maps every connection anew", ASSUMED),
    "mobile": Share(0.50, 0.25, 0.10, "mobile machines in the mix of all", ASSUMED),
    "upnp": Share(0.22, 0.35, 0.54, "homes whose router answers to UPnP (22, 47, 54 % by data set)", "DiCioccio 2012"),
    "ipv6": Share(0.42, 0.46, 0.50, "machines with IPv6, whatever their NAT", "APNIC 2026"),
    "ipv6_no_simo": Share(0.14, 0.0, 0.0, "IPv6 firewalls without simultaneous open; else RFC 6092", ASSUMED),
}  # fmt: skip
POOL, BLOCK, HOME_BUSY = 4, 512, 1.0
"""Assumed in all cases: addresses of a pool, ports of a block, connections a second of other machines at home."""
ACCESS_S, BACKBONE_S, JITTER_S = (0.010, 0.030), (0.002, 0.040), 0.005
"""Assumed delays, one way: median of the access at home and mobile (log-normal, sigma 0.5), backbone to the server
(uniform, from and to), and the mean of what each side takes more (exponential)."""

_CARRIER_PORTS: dict[str, Ports] = {"carrier_random": "random", "carrier_sequential": "sequential", "": "preserving"}
_MAPPINGS: dict[str, Mapping] = {
    "address_mapping": "address-dependent", "connection_mapping": "connection-dependent", "": "port-dependent",
}  # fmt: skip


class Drawer:
    """Draws what a case says."""

    def __init__(self, case: Case, rng: random.Random) -> None:
        self.case = case
        self.rng = rng

    def value(self, name: str) -> float:
        share: float = getattr(SHARES[name], self.case)
        return share

    def one_of(self, *names: str) -> str:
        """One of ``names``, each with its share, or ``""``."""
        number = self.rng.random()
        for name in names:
            number -= self.value(name)
            if number < 0:
                return name
        return ""

    # -- boxes -------------------------------------------------------------------------------------------------

    def home(self, dependent: str = "home_dependent") -> NatKind:
        """A router at home; ``dependent`` names the share that maps by destination."""
        box = self._filtering() | {"unsolicited": self._answer()}
        if self.one_of(dependent):
            ports: Ports = "random" if self.one_of("home_random") else "sequential"
            return NatKind(self._mapping(), ports, busy=HOME_BUSY if ports == "sequential" else 0.0, **box)
        return NatKind(ports="preserving" if self.rng.random() < 0.5 else "random", **box)

    def carrier(self, dependent: str) -> NatKind:
        """A carrier's NAT; it answers nothing."""
        box = self._filtering() | {"addresses": POOL if self.one_of("carrier_pools") else 1}
        ports = _CARRIER_PORTS[self.one_of("carrier_random", "carrier_sequential")]
        if ports == "random" and self.one_of("carrier_block"):
            low = 1024 + BLOCK * int(self.rng.random() * 125)
            box |= {"low": low, "high": low + BLOCK - 1}
        mapping: Mapping = self._mapping() if self.one_of(dependent) else "endpoint-independent"
        return NatKind(mapping, ports, busy=self.value("carrier_busy") if ports == "sequential" else 0.0, **box)

    def firewall(self, no_simo: str = "no_simo") -> NatKind:
        """No NAT, but only what was asked for comes in."""
        return NatKind("none", simo=not self.one_of(no_simo))

    def _filtering(self) -> dict[str, Any]:
        name = self.one_of("open_filter", "address_filter")
        filtering = {"open_filter": "none", "address_filter": "address", "": "port"}[name]
        return {"filtering": filtering, "simo": not self.one_of("no_simo")}

    def _answer(self) -> str:
        name = self.one_of("rst", "rst_limited", "icmp")
        return name.replace("_", "-") or "drop"

    def _mapping(self) -> Mapping:
        return _MAPPINGS[self.one_of("address_mapping", "connection_mapping")]


@dataclass(frozen=True, slots=True)
class Mix:
    """How the two machines of a pair are drawn, and what that stands for."""

    name: str
    what: str
    one: Callable[[Drawer], Boxes]
    other: Callable[[Drawer], Boxes]


@dataclass(frozen=True, slots=True)
class Boxes:
    """What stands before a machine, from the inside out, and whether its access is a mobile one."""

    kinds: tuple[NatKind, ...]
    mobile: bool = False


def _home(drawer: Drawer) -> Boxes:
    return Boxes((drawer.home(),))


def _fixed(drawer: Drawer) -> Boxes:
    router = drawer.home()
    return Boxes((router, drawer.carrier("fixed_dependent")) if drawer.one_of("fixed_nat") else (router,))


def _mobile(drawer: Drawer) -> Boxes:
    if drawer.one_of("cellular_nat"):
        return Boxes((drawer.carrier("cellular_dependent"),), mobile=True)
    return Boxes((drawer.firewall(),), mobile=True)


def _anybody(drawer: Drawer) -> Boxes:
    return _mobile(drawer) if drawer.one_of("mobile") else _fixed(drawer)


def _old(drawer: Drawer) -> Boxes:
    return Boxes((drawer.home("old_dependent"),))


def _volunteer(drawer: Drawer) -> Boxes:
    return Boxes((drawer.home("volunteer_dependent"),))


MIXES = (
    Mix("homes", "both at home, behind one router each", _home, _home),
    Mix("fixed lines", "both at home, some with a carrier's NAT before the router", _fixed, _fixed),
    Mix("home and mobile", "one on a fixed line, the other on a mobile network", _fixed, _mobile),
    Mix("mobile", "both on mobile networks", _mobile, _mobile),
    Mix("all", "both drawn from fixed lines and mobile networks", _anybody, _anybody),
    Mix("homes of 2005", "both at home, with the NATs of 2005", _old, _old),
    Mix("file sharers of 2010", "both at home, as users of a file sharing network were", _volunteer, _volunteer),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two machines, and the way between them: ``delay`` one way, ``skew`` between their starts, seconds."""

    machines: tuple[Machine, Machine]
    delay: float
    skew: float


def draw_pair(mix: Mix, case: Case, rng: random.Random, *, more: bool) -> Pair:
    """A pair of the mix; with ``more`` it has what may make punching needless, mapped ports and IPv6."""
    drawer = Drawer(case, rng)
    boxes = (mix.one(drawer), mix.other(drawer))
    access = [ACCESS_S[one.mobile] * rng.lognormvariate(0.0, 0.5) for one in boxes]
    backbone = [rng.uniform(*BACKBONE_S) for _ in boxes]
    # No side of a triangle is longer than the two others.
    between = rng.uniform(abs(backbone[0] - backbone[1]), backbone[0] + backbone[1])
    late = [far + near + rng.expovariate(1 / JITTER_S) for far, near in zip(backbone, access, strict=True)]
    first, second = (
        Machine(
            one.kinds,
            near + far,
            # A carrier's NAT does not care what the router at home was asked for.
            mapped=more and len(one.kinds) == 1 and not one.mobile and bool(drawer.one_of("upnp")),
            ipv6=drawer.firewall("ipv6_no_simo") if more and drawer.one_of("ipv6") else None,
        )
        for one, near, far in zip(boxes, access, backbone, strict=True)
    )
    return Pair((first, second), access[0] + access[1] + between, late[1] - late[0])


def label(machine: Machine) -> str:
    """The word for what is hard about a machine: the worst of its boxes."""
    words = {_word(kind) for kind in machine.boxes}
    return next(word for word in ("pooled", "random", "block", "sequential", "cone") if word in words)


def _word(kind: NatKind) -> str:
    if kind.mapping in ("none", "endpoint-independent"):
        return "cone"
    if kind.addresses > 1:
        return "pooled"
    if kind.ports == "random":
        return "block" if kind.high - kind.low < 2048 else "random"
    return "sequential" if kind.ports == "sequential" else "cone"
