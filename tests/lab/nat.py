"""Kinds of NAT and the nftables rules that make the kernel behave like them.

The words are those of RFC 4787 and RFC 5382: *mapping* is how an outside port is chosen for an
inside endpoint, *filtering* is who may send to it from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Literal, get_args

Filtering = Literal["full-cone", "address-restricted", "port-restricted"]
Unsolicited = Literal["drop", "rst", "icmp", "rst-limited"]
Mapping = Literal["endpoint-independent", "symmetric", "by-address", "sequential", "offset"]

EIM: Mapping = "endpoint-independent"
TABLE = "lab_nat"
# Below the ports that programs here bind: Linux keeps an inside port that lies in the range.
RANDOM_PORTS = (2000, 19999)
SEQUENTIAL_PORTS = (40000, 41999)
# What a masquerade without a range draws from for inside ports from 1024 on: N is 64512.  A fully random
# one keeps no inside port on purpose, so this range may contain those that programs here bind.
SYMMETRIC_PORTS = (1024, 65535)
# What an offset kind adds to the inside port for even and for odd ports of the destination.
OFFSETS = (1000, 13000)
OFFSET_INSIDE = (20000, 32767)
# Where a block begins: a multiple of every size, as the blocks that carriers deal out are.
BLOCK_LOW = 40960
BLOCKS = (64, 256, 512)
INSIDE = "{ 10.0.0.0/8, 100.64.0.0/10, 192.168.0.0/16 }"
RST_RATE, RST_BURST = 25, 50
_KEPT = "10m"
_BARE_SYN = "tcp flags & (fin | syn | rst | ack) == syn"


@dataclass(frozen=True, slots=True)
class NatKind:
    """How one router translates and filters.

    `preserving`: the outside port equals the inside port. `unsolicited`: the answer to a packet
    that belongs to nothing; "rst-limited" sends 25 RST a second after a burst of 50 and drops the
    rest, as OpenWrt does. `mapping`: "symmetric" takes a random port for every connection,
    "by-address" one for every inside endpoint and destination address,
    "sequential" the one that is `step` above the last, "offset" the inside port and one of `OFFSETS`,
    which depends on the destination; inside ports beyond `OFFSET_INSIDE` are kept. `block`: the
    number of ports from which a kind of those two draws, 0 for all of `SYMMETRIC_PORTS`. Without
    `simultaneous_open` a bare SYN from an endpoint that was dialled from the same outside port is
    dropped; its SYN-ACK passes. With `hairpin` an inside host reaches another one by that one's
    outside endpoint, is seen there by its own, and is filtered as if it came from outside
    (RFC 5382, REQ-8).

    Raises `ValueError` for a preserving kind of those two mappings, for a step of another mapping
    than "sequential", for a block of another than those two, and for a hairpin of a kind whose
    outside ports its rules cannot foresee.
    """

    filtering: Filtering = "port-restricted"
    preserving: bool = True
    unsolicited: Unsolicited = "drop"
    mapping: Mapping = "endpoint-independent"
    step: int = 1
    block: int = 0
    simultaneous_open: bool = True
    hairpin: bool = False

    def __post_init__(self) -> None:
        if self.preserving and self.mapping != "endpoint-independent":
            raise ValueError(f"a {self.mapping} NAT does not preserve ports")
        if self.step != 1 and self.mapping != "sequential":
            raise ValueError(f"a {self.mapping} NAT has no step")
        if self.block and self.mapping not in ("symmetric", "by-address"):
            raise ValueError(f"a {self.mapping} NAT has no block")
        if self.hairpin and not self.preserving and (self.filtering, self.mapping) != ("full-cone", EIM):
            raise ValueError(f"the rules for a hairpin of {self.name} are not written")

    @property
    def name(self) -> str:
        """The short name, as in the table of kinds."""
        if self.mapping == "endpoint-independent":
            words: list[str] = [self.filtering]
            if not self.preserving:
                words.append("random-port")
        else:
            words = [self._chooser]
            if self.filtering != "port-restricted":
                words.append(self.filtering)
        if not self.simultaneous_open:
            words.append("no-simo")
        if self.hairpin:
            words.append("hairpin")
        if self.unsolicited != "drop":
            words.append(self.unsolicited)
        return "/".join(words)

    @property
    def _chooser(self) -> str:
        if self.block:
            return f"block-{self.block}" if self.mapping == "symmetric" else f"{self.mapping}-{self.block}"
        return self.mapping if self.step == 1 else f"{self.mapping}-{self.step}"

    @property
    def ports(self) -> tuple[int, int]:
        """The lowest and the highest port that a kind which chooses ports may choose."""
        if self.mapping == "sequential":
            return SEQUENTIAL_PORTS
        if self.mapping == "offset":
            return (OFFSET_INSIDE[0] + min(OFFSETS), OFFSET_INSIDE[1] + max(OFFSETS))
        if self.mapping in ("symmetric", "by-address"):
            return (BLOCK_LOW, BLOCK_LOW + self.block - 1) if self.block else SYMMETRIC_PORTS
        return RANDOM_PORTS


def _all_kinds() -> dict[str, NatKind | None]:
    kinds: list[NatKind] = []
    answers: tuple[Unsolicited, ...] = ("drop", "rst", "icmp")
    for answer in answers:
        for filtering in get_args(Filtering):
            kinds.append(NatKind(filtering, True, answer))
            kinds.append(NatKind(filtering, False, answer))
        kinds.append(NatKind("port-restricted", False, answer, "symmetric"))
        kinds += [NatKind("port-restricted", False, answer, "symmetric", block=size) for size in BLOCKS]
        kinds += [NatKind("port-restricted", False, answer, "sequential", step) for step in (1, 2)]
        kinds.append(NatKind("port-restricted", True, answer, simultaneous_open=False))
        kinds.append(NatKind("port-restricted", False, answer, simultaneous_open=False))
        kinds.append(NatKind("port-restricted", False, answer, "symmetric", simultaneous_open=False))
    kinds += [NatKind(filtering, hairpin=True) for filtering in get_args(Filtering)]
    kinds.append(NatKind("full-cone", False, hairpin=True))
    kinds.append(NatKind("port-restricted", True, "rst-limited"))
    kinds.append(NatKind("port-restricted", False, "rst-limited"))
    kinds.append(NatKind("port-restricted", False, "rst-limited", "symmetric"))
    return {"none": None, **{kind.name: kind for kind in sorted(kinds, key=lambda k: k.name)}}


OFFSET = NatKind(preserving=False, mapping="offset")
BY_ADDRESS = {size: NatKind(preserving=False, mapping="by-address", block=size) for size in BLOCKS}
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
        + _early(kind, wan, address)
        + _inbound(kind, wan, address)
        + _outbound(kind, wan, address)
        + _learn(kind, wan, address)
        + _guard(kind, wan, lan, address)
    )
    return f"table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n{chains}}}\n"


def forget() -> str:
    """Return the text for `nft -f` that empties the mappings and permissions of the router."""
    stores = ("map inbound", "map mapping", "map by_address", "set permitted", "set dialled", "set turned")
    lines = (f"flush {kind} ip {TABLE} {name}\n" for kind, name in map(str.split, stores))
    return "".join(lines)


def _state() -> str:
    lasting = f"flags dynamic,timeout; timeout {_KEPT}; size 65535;"
    return (
        f"map inbound {{ type inet_service : ipv4_addr . inet_service; {lasting} }}\n"
        "map mapping { type ipv4_addr . inet_service : ipv4_addr . inet_service;"
        f" {lasting} }}\n"
        "map by_address { type ipv4_addr . inet_service . ipv4_addr : ipv4_addr . inet_service;"
        f" {lasting} }}\n"
        f"set permitted {{ type inet_service . ipv4_addr; {lasting} }}\n"
        f"set dialled {{ type inet_service . ipv4_addr . inet_service; {lasting} }}\n"
        f"set turned {{ type inet_service . inet_service; {lasting} }}\n"
    )


def _early(kind: NatKind, wan: str, address: str) -> str:
    """Before conntrack sees it: the SYN that crosses an outbound one vanishes without simultaneous open.

    And what an inside host dials by way of a hairpin may answer it. Its outside port is its inside one here.
    """
    rules = ""
    if not kind.simultaneous_open:
        crossing = f'iifname "{wan}" ip daddr {address} {_BARE_SYN} tcp dport . ip saddr . tcp sport @dialled'
        rules += f"{crossing} drop\n"
    if kind.hairpin:
        turning = f'iifname != "{wan}" ip daddr {address} {_BARE_SYN}'
        rules += f"{turning} update @turned {{ tcp sport . tcp dport }}\n"
        rules += f"{turning} update @permitted {{ tcp sport . ip daddr }}\n"
    return f"chain early {{\ntype filter hook prerouting priority raw;\n{rules}}}\n"


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
    if kind.hairpin:
        turning = f'iifname != "{wan}" ip daddr {address}'
        allowed = {
            "port-restricted": "tcp dport . tcp sport @turned",
            "address-restricted": "tcp dport . ip daddr @permitted",
            "full-cone": "",
        }
        rule += f"{turning} {allowed[kind.filtering]} dnat ip to tcp dport map @inbound\n"
    return f"chain inbound {{\ntype nat hook prerouting priority dstnat;\n{rule}}}\n"


def _outbound(kind: NatKind, wan: str, address: str) -> str:
    out = f'oifname "{wan}"'
    low, high = kind.ports
    if kind.mapping == "symmetric" and kind.block:
        rules = f"{out} meta l4proto {{ tcp, udp }} snat ip to {address}:{low}-{high} random,fully-random\n"
        rules += f"{out} snat ip to {address}\n"
    elif kind.mapping == "symmetric":
        rules = f"{out} masquerade random,fully-random\n"
    elif kind.mapping == "by-address":
        rules = (
            f"{out} snat ip to ip saddr . tcp sport . ip daddr map @by_address\n"
            f"{out} meta l4proto {{ tcp, udp }} snat ip to {address}:{low}-{high} random,fully-random\n"
            f"{out} snat ip to {address}\n"
        )
    elif kind.mapping == "sequential":
        # A bare counter would be taken for a port in the wrong byte order.
        choices = range(low, high + 1, kind.step)
        ports = ", ".join(f"{number} : {port}" for number, port in enumerate(choices))
        count = f"numgen inc mod {len(choices)} map {{ {ports} }}"
        rules = f"{out} meta l4proto tcp snat ip to {address} : {count}\n{out} snat ip to {address}\n"
    elif kind.mapping == "offset":
        inside = range(OFFSET_INSIDE[0], OFFSET_INSIDE[1] + 1)
        rules = "".join(
            f"{out} tcp sport {inside[0]}-{inside[-1]} tcp dport & 1 == {odd} snat ip to {address} : tcp sport map {{ "
            f"{', '.join(f'{port} : {port + offset}' for port in inside)} }}\n"
            for odd, offset in enumerate(OFFSETS)
        )
        rules += f"{out} snat ip to {address}\n"
    elif kind.preserving:
        rules = f"{out} snat ip to {address}\n"
    else:
        target = f"snat ip to {address}:{low}-{high}"
        rules = (
            f"{out} snat ip to ip saddr . tcp sport map @mapping\n"
            f"{out} tcp sport {low}-{high} {target} random,fully-random\n"
            f"{out} meta l4proto {{ tcp, udp }} {target}\n"
            f"{out} snat ip to {address}\n"
        )
    if kind.hairpin:
        turned = f'oifname != "{wan}" ct status dnat ct original ip saddr {INSIDE}'
        rules += f"{turned} snat ip to ip saddr . tcp sport map @mapping\n{turned} snat ip to {address}\n"
    return f"chain outbound {{\ntype nat hook postrouting priority srcnat;\n{rules}}}\n"


def _learn(kind: NatKind, wan: str, address: str) -> str:
    """After translation the packet bears the outside port and conntrack still knows the inside.

    Only the SYN of a connection from inside teaches, so nothing can be opened from outside.
    """
    match = f'oifname "{wan}" ip saddr {address} ct direction original tcp flags & (syn | ack) == syn'
    inside = "ct original ip saddr . ct original proto-src"
    dialled = "" if kind.simultaneous_open else f"{match} update @dialled {{ tcp sport . ip daddr . tcp dport }}\n"
    return (
        "chain learn {\ntype filter hook postrouting priority srcnat + 10;\n"
        f"{match} update @inbound {{ tcp sport : {inside} }}\n"
        f"{match} update @mapping {{ {inside} : ip saddr . tcp sport }}\n"
        f"{match} update @by_address {{ {inside} . ip daddr : ip saddr . tcp sport }}\n"
        f"{match} update @permitted {{ tcp sport . ip daddr }}\n{dialled}}}\n"
    )


def _guard(kind: NatKind, wan: str, lan: str, address: str) -> str:
    """Refuse what is unsolicited.

    A SYN to the public address that was not translated ends in `input`; a packet to a private
    address straight from outside ends in `forward`. The inside host's own SYN to the public
    address is refused like everybody's where there is no hairpin.
    """
    if kind.unsolicited == "drop":
        refuse = "drop"
    elif kind.unsolicited == "icmp":
        refuse = "reject with icmp port-unreachable"
    else:
        limit = f"limit rate {RST_RATE}/second burst {RST_BURST} packets " if kind.unsolicited == "rst-limited" else ""
        refuse = f"meta l4proto tcp {limit}reject with tcp reset"
    source = "" if kind.hairpin else f'iifname "{wan}" '
    return (
        "chain local {\ntype filter hook input priority filter; policy accept;\n"
        "ct state invalid drop\nct state established,related accept\n"
        f"ip daddr {address} {refuse}\nip daddr {address} drop\n"
        f'iifname "{wan}" drop\n}}\n'
        "chain through {\ntype filter hook forward priority filter; policy drop;\n"
        "ct state invalid drop\nct state established,related accept\n"
        f'iifname "{lan}" oifname "{wan}" accept\n'
        f'{source}oifname "{lan}" ct status dnat accept\n}}\n'
    )
