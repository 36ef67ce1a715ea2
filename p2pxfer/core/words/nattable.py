"""What was found of a NAT, as a table and one plain sentence for people."""

from __future__ import annotations

from typing import Final

from p2pxfer.core.traversal.discovery import DEPENDENT
from p2pxfer.status import Nat

_MAPPING: Final = {
    "none": "none: this machine has its address to itself",
    "endpoint-independent": "the same for every destination (endpoint-independent)",
    "address-dependent": "another for every address (address-dependent)",
    "port-dependent": "another for every endpoint (port-dependent, symmetric)",
    "connection-dependent": "another for every connection, even to the same endpoint (connection-dependent)",
}
_PORTS: Final = {
    "preserving": "as inside (preserving)",
    "offset": "as inside, with a constant added that depends on the destination (offset)",
    "changed": "another number than inside",
    "sequential": "in a row",
    "block": "at random from a block",
    "random": "at random",
}
_FILTERING: Final = {
    "endpoint-independent": "lets everybody in (endpoint-independent)",
    "address-dependent": "lets in addresses that were dialled (address-dependent)",
    "port-dependent": "lets in endpoints that were dialled (port-dependent)",
}
_UNSOLICITED: Final = {
    "drop": "ignores connections that nobody asked for (drop)",
    "rst": "refuses connections that nobody asked for (rst)",
    "icmp": "refuses connections that nobody asked for by a message (icmp)",
}
_SIMULTANEOUS: Final = {
    "yes": "lets a connection in that crosses its own (simultaneous open)",
    "no": "refuses a connection that crosses its own (no simultaneous open)",
}
_HAIRPIN: Final = {
    "yes": "turns connections to its own outside address back",
    "no": "does not turn connections to its own outside address back",
}
_PROTOCOLS: Final = {"pcp": "PCP", "nat-pmp": "NAT-PMP", "upnp": "UPnP"}
_MEANING: Final = {
    "none": "Others can reach this machine directly, unless a firewall on the way drops their connections.",
    "endpoint-independent": "Direct paths work with every peer whose NAT keeps its mapping, as this one does.",
    "address-dependent": "A peer cannot know in advance where this machine will be seen: direct paths are harder here,"
    " and where none is found the server relays.",
    "unknown": "Direct paths are tried in any case, and where none is found the server relays.",
}


def nat_text(nat: Nat) -> str:
    """The table and the sentence."""
    rows = [
        ("mapping", _with_reason(_MAPPING, nat, "mapping")),
        ("outside ports", _ports(nat)),
        ("outside address", ", ".join(nat.addresses) or "unknown"),
        ("filtering", _with_reason(_FILTERING, nat, "filtering")),
        ("unasked", _with_reason(_UNSOLICITED, nat, "unsolicited")),
        ("simultaneous", _with_reason(_SIMULTANEOUS, nat, "simultaneous")),
        ("hairpin", _with_reason(_HAIRPIN, nat, "hairpin")),
        ("port mapping", _router(nat)),
    ]
    table = "\n".join(f"  {name:<16} {value}" for name, value in rows)
    return f"{table}\n{meaning(nat)}"


def _with_reason(words: dict[str, str], nat: Nat, name: str) -> str:
    value = getattr(nat, name)
    reason = f": {nat.why[name]}" if name in nat.why else ""
    return f"{words.get(value, value)}{reason}"


def _ports(nat: Nat) -> str:
    text = _with_reason(_PORTS, nat, "ports")
    if nat.step:
        return f"{text}, {nat.step:+d} for every connection (sequential)"
    return f"{text}, {nat.low} to {nat.high} (estimated)" if nat.high else text


def _router(nat: Nat) -> str:
    spoken = " and ".join(_PROTOCOLS[one] for one in nat.router)
    if nat.mapped:
        return f"the router speaks {spoken}, and leads {', '.join(nat.mapped)} here"
    reason = nat.why.get("mapped", "unknown")
    return f"no use: the router speaks {spoken}, but {reason}" if spoken else f"none: {reason}"


def meaning(nat: Nat) -> str:
    """One sentence: what follows for direct paths."""
    if nat.mapped:
        return "Every peer can reach this machine directly, through the port that the router gives it."
    pooled = " Its outside address changes from connection to connection." if len(nat.addresses) > 1 else ""
    mapping = "address-dependent" if nat.mapping in DEPENDENT else nat.mapping
    return _MEANING[mapping] + pooled
