"""Kinds of NAT and the nftables rules that make the kernel behave like them.

The words are those of RFC 4787 and RFC 5382: *mapping* is how an outside port is chosen for an
inside endpoint, *filtering* is who may send to it from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Literal, get_args

Filtering = Literal["full-cone", "address-restricted", "port-restricted"]
Unsolicited = Literal["drop", "rst", "icmp"]
Mapping = Literal["endpoint-independent", "symmetric", "sequential"]

TABLE = "lab_nat"
# Below the ports that programs here bind: Linux keeps an inside port that lies in the range.
RANDOM_PORTS = (2000, 19999)
SEQUENTIAL_PORTS = (40000, 41999)
_KEPT = "10m"


@dataclass(frozen=True, slots=True)
class NatKind:
    """How one router translates and filters.

    `preserving`: the outside port equals the inside port. `unsolicited`: the answer to a packet
    that belongs to nothing. `mapping`: "symmetric" takes a random port for every connection,
    "sequential" the next one. Raises `ValueError` for a preserving kind of those two.
    """

    filtering: Filtering = "port-restricted"
    preserving: bool = True
    unsolicited: Unsolicited = "drop"
    mapping: Mapping = "endpoint-independent"

    def __post_init__(self) -> None:
        if self.preserving and self.mapping != "endpoint-independent":
            raise ValueError(f"a {self.mapping} NAT does not preserve ports")

    @property
    def name(self) -> str:
        """The short name, as in the table of kinds."""
        if self.mapping == "endpoint-independent":
            words: list[str] = [self.filtering]
            if not self.preserving:
                words.append("random-port")
        else:
            words = [self.mapping]
            if self.filtering != "port-restricted":
                words.append(self.filtering)
        if self.unsolicited != "drop":
            words.append(self.unsolicited)
        return "/".join(words)


def _all_kinds() -> dict[str, NatKind | None]:
    kinds: list[NatKind] = []
    for unsolicited in get_args(Unsolicited):
        for filtering in get_args(Filtering):
            kinds.append(NatKind(filtering, True, unsolicited))
            kinds.append(NatKind(filtering, False, unsolicited))
        kinds.append(NatKind("port-restricted", False, unsolicited, "symmetric"))
        kinds.append(NatKind("port-restricted", False, unsolicited, "sequential"))
    return {"none": None, **{kind.name: kind for kind in sorted(kinds, key=lambda k: k.name)}}


KINDS: dict[str, NatKind | None] = _all_kinds()
"""Every named kind; "none" is a router that only forwards, its host has the public address."""


CONES = [
    *(f"full-cone{ports}" for ports in ("", "/random-port")),
    *(
        f"{filtering}{ports}{answer}"
        for filtering in ("address-restricted", "port-restricted")
        for ports in ("", "/random-port")
        for answer in ("", "/rst")
    ),
]
"""The kinds whose mapping is endpoint-independent: TCP can connect every one of them with every other."""
PAIRS = list(combinations_with_replacement(CONES, 2))


def ruleset(kind: NatKind, wan: str, lan: str, address: str) -> str:
    """Return the text for `nft -f` that makes a router of this kind.

    `wan` and `lan` are interface names, `address` is the public address. The text replaces an
    earlier table of the same name in one transaction and leaves other tables alone.
    """
    chains = (
        _state()
        + _inbound(kind, wan, address)
        + _outbound(kind, wan, address)
        + _learn(wan, address)
        + _guard(kind, wan, lan, address)
    )
    return f"table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n{chains}}}\n"


def forget() -> str:
    """Return the text for `nft -f` that empties the mappings and permissions of the router."""
    return f"flush map ip {TABLE} inbound\nflush map ip {TABLE} mapping\nflush set ip {TABLE} permitted\n"


def _state() -> str:
    lasting = f"flags dynamic,timeout; timeout {_KEPT}; size 65535;"
    return (
        f"map inbound {{ type inet_service : ipv4_addr . inet_service; {lasting} }}\n"
        "map mapping { type ipv4_addr . inet_service : ipv4_addr . inet_service;"
        f" {lasting} }}\n"
        f"set permitted {{ type inet_service . ipv4_addr; {lasting} }}\n"
    )


def _inbound(kind: NatKind, wan: str, address: str) -> str:
    """Connections from outside to a port that the inside host has opened, if the kind lets them.

    A port-restricted NAT has no rule here: conntrack alone lets the answers in.
    """
    match = f'iifname "{wan}" ip daddr {address}'
    if kind.filtering == "port-restricted":
        rule = ""
    elif kind.filtering == "address-restricted":
        rule = f"{match} tcp dport . ip saddr @permitted dnat ip to tcp dport map @inbound\n"
    else:
        rule = f"{match} dnat ip to tcp dport map @inbound\n"
    return f"chain inbound {{\ntype nat hook prerouting priority dstnat;\n{rule}}}\n"


def _outbound(kind: NatKind, wan: str, address: str) -> str:
    out = f'oifname "{wan}"'
    if kind.mapping == "symmetric":
        rules = f"{out} masquerade random,fully-random\n"
    elif kind.mapping == "sequential":
        low, high = SEQUENTIAL_PORTS
        # A bare counter would be taken for a port in the wrong byte order.
        ports = ", ".join(f"{port - low} : {port}" for port in range(low, high + 1))
        count = f"numgen inc mod {high - low + 1} map {{ {ports} }}"
        rules = f"{out} meta l4proto tcp snat ip to {address} : {count}\n{out} snat ip to {address}\n"
    elif kind.preserving:
        rules = f"{out} snat ip to {address}\n"
    else:
        low, high = RANDOM_PORTS
        target = f"snat ip to {address}:{low}-{high}"
        rules = (
            f"{out} snat ip to ip saddr . tcp sport map @mapping\n"
            f"{out} tcp sport {low}-{high} {target} random,fully-random\n"
            f"{out} meta l4proto {{ tcp, udp }} {target}\n"
            f"{out} snat ip to {address}\n"
        )
    return f"chain outbound {{\ntype nat hook postrouting priority srcnat;\n{rules}}}\n"


def _learn(wan: str, address: str) -> str:
    """After translation the packet bears the outside port and conntrack still knows the inside.

    Only the SYN of a connection from inside teaches, so nothing can be opened from outside.
    """
    match = f'oifname "{wan}" ip saddr {address} ct direction original tcp flags & (syn | ack) == syn'
    inside = "ct original ip saddr . ct original proto-src"
    return (
        "chain learn {\ntype filter hook postrouting priority srcnat + 10;\n"
        f"{match} update @inbound {{ tcp sport : {inside} }}\n"
        f"{match} update @mapping {{ {inside} : ip saddr . tcp sport }}\n"
        f"{match} update @permitted {{ tcp sport . ip daddr }}\n}}\n"
    )


def _guard(kind: NatKind, wan: str, lan: str, address: str) -> str:
    """Refuse what is unsolicited.

    A SYN to the public address that was not translated ends in `input`; a packet to a private
    address straight from outside ends in `forward`. The inside host's own SYN to the public
    address is refused like everybody's: there is no hairpin.
    """
    if kind.unsolicited == "drop":
        refuse = "drop"
    elif kind.unsolicited == "icmp":
        refuse = "reject with icmp port-unreachable"
    else:
        refuse = "meta l4proto tcp reject with tcp reset"
    return (
        "chain local {\ntype filter hook input priority filter; policy accept;\n"
        "ct state invalid drop\nct state established,related accept\n"
        f"ip daddr {address} {refuse}\nip daddr {address} drop\n"
        f'iifname "{wan}" drop\n}}\n'
        "chain through {\ntype filter hook forward priority filter; policy drop;\n"
        "ct state invalid drop\nct state established,related accept\n"
        f'iifname "{lan}" oifname "{wan}" accept\n'
        f'iifname "{wan}" oifname "{lan}" ct status dnat accept\n}}\n'
    )
