"""The homes of the matrix: the NATs of the lab, and what may stand around them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

from scripts.matrixlib.results import Case, Pair
from tests.lab import plan
from tests.lab.habits import allow_web_only, shorten_memory
from tests.lab.ipv6 import Filter
from tests.lab.nat import EIM, KINDS, NatKind
from tests.lab.portmapper import ORDINARY, PortMapper
from tests.lab.topology import Lab
from tests.scene import Scene

DAY = 86_400.0
"""Longer than any run of the matrix, seconds."""


@dataclass(frozen=True, slots=True)
class Home:
    """A router, perhaps with a carrier's NAT in front of it, perhaps with IPv6 beside it; `meaning` is for the page.

    `firewall` is what a router without NAT filters.  `mapper`: the router gives ports to whoever asks.  `busy`: so many
    connections a second are made by others behind it.  `web_only`: it lets nobody out but to the ports of the web.
    `forgetful`: it forgets soon.
    """

    nat: NatKind | None
    meaning: str
    carrier: NatKind | None = None
    v6: Filter | None = None
    firewall: Filter = "open"
    mapper: bool = False
    busy: float = 0.0
    web_only: bool = False
    forgetful: bool = False

    @property
    def is_cone(self) -> bool:
        """No NAT of it depends on the destination, or does anything else that is unusual."""
        plain = all(nat is None or (nat.mapping == EIM and nat.simultaneous_open) for nat in (self.nat, self.carrier))
        return plain and not self.web_only

    @property
    def is_open(self) -> bool:
        """It can be dialled by anybody, at its address or at a port that is in use."""
        if self.mapper:
            return True
        lets_in = self.firewall == "open" if self.nat is None else self.nat.filtering == "full-cone"
        return lets_in and self.carrier is None and self.is_cone


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Two hosts who share an address: behind one NAT, or each at home behind it and all behind one carrier's NAT."""

    nat: NatKind | None
    meaning: str
    carrier: NatKind | None = None
    isolated: bool = False

    def lab(self, rtt_ms: int) -> Lab:
        """Not built yet."""
        return Lab(
            self.nat,
            self.nat,
            carrier_a=self.carrier,
            one_carrier=self.carrier is not None,
            one_nat=self.carrier is None,
            isolated=self.isolated,
            same_lan=True,
            rtt_ms=rtt_ms,
        )


_ANSWERS = {
    "rst": "answers what is unsolicited with RST",
    "icmp": "answers what is unsolicited with ICMP",
    "rst-limited": "answers 25 unsolicited packets a second with RST",
}
_FILTERING = {
    "full-cone": "anybody may send to a port that is in use",
    "address-restricted": "whoever was dialled may answer from any port",
    "port-restricted": "only what was dialled may answer",
}


def meaning_of(kind: NatKind) -> str:
    """A NAT in words."""
    words = []
    if kind.mapping == "endpoint-independent":
        words += [_FILTERING[kind.filtering]] + ([] if kind.preserving else ["ports are chosen at random"])
    elif kind.mapping == "sequential":
        words.append(f"every connection gets a port of its own, {kind.step} above the last one")
    else:
        words.append(f"every connection gets a port of its own, at random of {kind.block or 64512}")
    if not kind.simultaneous_open:
        words.append("the SYN of a simultaneous open is dropped")
    if kind.unsolicited != "drop":
        words.append(_ANSWERS[kind.unsolicited])
    return "; ".join(words)


_CONE = KINDS["port-restricted"]
_CHANGED = KINDS["port-restricted/random-port"]
HOMES = {
    **{
        name: Home(kind, "a public address, nothing in between" if kind is None else meaning_of(kind))
        for name, kind in KINDS.items()
    },
    "firewall": Home(None, "a public address; only what was dialled may answer", firewall="drop"),
    "carrier": Home(_CHANGED, "a port-restricted/random-port NAT at home and one of its carrier's", carrier=_CHANGED),
    "v6-firewall": Home(
        KINDS["symmetric"], "a symmetric NAT, and IPv6 through a firewall that drops what is unsolicited", v6="drop"
    ),
    "v6-open": Home(KINDS["symmetric"], "a symmetric NAT, and IPv6 that lets in whatever comes", v6="open"),
    "mapped": Home(KINDS["symmetric"], "a symmetric NAT that gives ports by PCP, NAT-PMP and UPnP", mapper=True),
    "sequential/busy": Home(
        KINDS["sequential"], "a sequential NAT behind which others make 20 connections a second", busy=20
    ),
    "sequential-2/busy": Home(
        KINDS["sequential-2"], "a sequential NAT of step 2 behind which others make 20 connections a second", busy=20
    ),
    "short-lived": Home(
        _CONE, "a port-restricted NAT that forgets unanswered SYNs in 2 s, quiet connections in 15 s", forgetful=True
    ),
    "web-only": Home(_CONE, "a port-restricted NAT that lets nobody dial but ports 80 and 443", web_only=True),
    "web-only/full-cone": Home(
        KINDS["full-cone"], "a full cone that lets nobody dial but ports 80 and 443", web_only=True
    ),
}
"""By name."""
_ALONE = "both behind one NAT whose LAN keeps its hosts apart"
_HOME = "each behind a port-restricted NAT, both behind one of their carrier's"
NEIGHBOURS = {
    "one-lan": Neighbours(KINDS["symmetric"], "both in one LAN behind a symmetric NAT"),
    "one-nat/hairpin": Neighbours(
        KINDS["port-restricted/hairpin"],
        f"{_ALONE}; it sends back what is for itself, and only what was dialled may answer",
        isolated=True,
    ),
    "one-nat": Neighbours(KINDS["port-restricted"], f"{_ALONE}; no hairpin", isolated=True),
    "one-carrier/hairpin": Neighbours(
        KINDS["port-restricted"], f"{_HOME}, a full cone with a hairpin", KINDS["full-cone/hairpin"]
    ),
    "one-carrier": Neighbours(KINDS["port-restricted"], f"{_HOME}, a full cone without hairpin", KINDS["full-cone"]),
}
"""By name; each makes a pair with itself only."""
DEFAULT_HOMES = (
    "none",
    "firewall",
    "full-cone",
    "address-restricted",
    "port-restricted",
    "port-restricted/rst",
    "port-restricted/icmp",
    "port-restricted/rst-limited",
    "port-restricted/random-port",
    "port-restricted/random-port/rst",
    "port-restricted/no-simo",
    "short-lived",
    "sequential",
    "sequential/busy",
    "sequential-2",
    "symmetric",
    "block-64",
    "block-256",
    "block-512",
    "carrier",
    "v6-firewall",
    "mapped",
    "web-only",
    *NEIGHBOURS,
)


FEW, MANY = 50, 100


def none_may_fail(one: Home, other: Home) -> bool:
    """Whether the two connect in every run, if the product does what it should."""
    if one.web_only or other.web_only:
        return False
    cones = one.is_cone and other.is_cone
    return cones or one.is_open or other.is_open or (one.v6 is not None and other.v6 is not None)


def promised(pair: Pair) -> int:
    """How many runs of a pair are asked for: more of those in which none may fail."""
    if pair[0] in NEIGHBOURS:
        return FEW
    one, other = (HOMES[name] for name in pair)
    return MANY if none_may_fail(one, other) else FEW


def meaning(kind: str) -> str:
    """What a name stands for."""
    return NEIGHBOURS[kind].meaning if kind in NEIGHBOURS else HOMES[kind].meaning


def pairs(kinds: Sequence[str]) -> list[Pair]:
    """Every pair of homes, equal ones too, each in one order; then the neighbours."""
    homes = combinations_with_replacement([kind for kind in kinds if kind not in NEIGHBOURS], 2)
    return [*homes, *((kind, kind) for kind in kinds if kind in NEIGHBOURS)]


def lab_of(case: Case) -> Lab:
    """The lab for two homes or neighbours, not built yet."""
    if case.one in NEIGHBOURS:
        return NEIGHBOURS[case.one].lab(case.rtt_ms)
    one, other = _homes(case.pair)
    return Lab(
        one.nat,
        other.nat,
        carrier_a=one.carrier,
        carrier_b=other.carrier,
        firewall_a=one.firewall,
        firewall_b=other.firewall,
        v6_a=one.v6,
        v6_b=other.v6,
        rtt_ms=case.rtt_ms,
        # `miniupnpd` gives no ports of an address that is for tests.
        public_net=ORDINARY if one.mapper or other.mapper else "198.18",
    )


@contextlib.contextmanager
def furnished(pair: Pair, lab: Lab, folder: Path) -> Iterator[None]:
    """What else is in the homes of a lab that is built; `folder` is for its files."""
    with contextlib.ExitStack() as stack:
        for side, home in zip(plan.ROUTER_OF, _homes(pair), strict=False):
            router = plan.ROUTER_OF[side]
            if home.mapper:
                PortMapper(lab, router, folder)
            if home.web_only:
                allow_web_only(lab, router)
            if home.forgetful:
                shorten_memory(lab, router)
            if home.busy:
                stack.enter_context(lab.cross_traffic(side, home.busy, seconds=DAY))
        yield


def served(pair: Pair, scene: Scene) -> None:
    """Start the server, where both can reach it."""
    if any(home.web_only for home in _homes(pair)):
        scene.start_server("tcp6:8877", "tcp6:443")
        scene.address = scene.address.replace(":8877#", ":443#")
    else:
        scene.start_server()


def _homes(pair: Pair) -> list[Home]:
    return [HOMES[name] for name in pair if name in HOMES]
