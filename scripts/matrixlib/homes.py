"""The homes of the matrix: the NATs of the lab, and what may stand around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

from scripts.matrixlib.results import Pair
from tests.lab.ipv6 import Filter
from tests.lab.nat import KINDS, NatKind
from tests.lab.topology import Lab

RTT_MS = 40
"""Round trip between the two homes, milliseconds."""


@dataclass(frozen=True, slots=True)
class Home:
    """A router, perhaps with a carrier's NAT in front of it, perhaps with IPv6 beside it; `meaning` is for the page.

    `firewall` is what a router without NAT filters.
    """

    nat: NatKind | None
    meaning: str
    carrier: NatKind | None = None
    v6: Filter | None = None
    firewall: Filter = "open"


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Two hosts who share an address: behind one NAT, or each at home behind it and all behind one carrier's NAT."""

    nat: NatKind | None
    meaning: str
    carrier: NatKind | None = None
    isolated: bool = False

    def lab(self) -> Lab:
        """Not built yet."""
        return Lab(
            self.nat,
            self.nat,
            carrier_a=self.carrier,
            one_carrier=self.carrier is not None,
            one_nat=self.carrier is None,
            isolated=self.isolated,
            same_lan=True,
            rtt_ms=RTT_MS,
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
    "port-restricted/random-port",
    "port-restricted/random-port/rst",
    "port-restricted/no-simo",
    "sequential",
    "symmetric",
    "block-64",
    "block-256",
    "block-512",
    "carrier",
    "v6-firewall",
    *NEIGHBOURS,
)


def meaning(kind: str) -> str:
    """What a name stands for."""
    return NEIGHBOURS[kind].meaning if kind in NEIGHBOURS else HOMES[kind].meaning


def pairs(kinds: Sequence[str]) -> list[Pair]:
    """Every pair of homes, equal ones too, each in one order; then the neighbours."""
    homes = combinations_with_replacement([kind for kind in kinds if kind not in NEIGHBOURS], 2)
    return [*homes, *((kind, kind) for kind in kinds if kind in NEIGHBOURS)]


def lab_of(pair: Pair) -> Lab:
    """The lab for two homes or neighbours, not built yet."""
    if pair[0] in NEIGHBOURS:
        return NEIGHBOURS[pair[0]].lab()
    one, other = (HOMES[name] for name in pair)
    return Lab(
        one.nat,
        other.nat,
        carrier_a=one.carrier,
        carrier_b=other.carrier,
        firewall_a=one.firewall,
        firewall_b=other.firewall,
        v6_a=one.v6,
        v6_b=other.v6,
        rtt_ms=RTT_MS,
    )
