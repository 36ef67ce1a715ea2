"""IPv6 in the lab, beside IPv4: global addresses for hosts, routed by home routers that may filter, never translated.

A home's firewall passes what its host began (RFC 6092); whatever comes unasked is dropped or answered with RST.

Every host has two global addresses, as with privacy extensions (RFC 8981), though of two prefixes: to the server the
kernel takes the first, and from alice to bob it would take the second (RFC 6724, rule 8, longest common prefix).  So a
program that lets the kernel choose dials from an address that nobody was told of.
"""

from __future__ import annotations

from typing import Literal

Filter = Literal["open", "drop", "rst"]
"""What the router does with a connection from outside; `open` lets it in."""

SERVER = "2001:2::10"
"""The server's address, of the range for benchmarks (RFC 5180), which the product takes for public."""
TABLE = "lab_firewall"

# In binary: server 000, alice 001 and 011, bob 010 and 100.
_PREFIXES = {"alice": ("2001:2:0:1::", "2001:2:0:3::"), "bob": ("2001:2:0:2::", "2001:2:0:4::")}
_HERE, _NEXT = "fe80::1", "fe80::2"


def addresses(host: str) -> tuple[str, str]:
    """The global addresses of alice or bob, first the one that the kernel takes towards the server."""
    one, other = _PREFIXES[host]
    return f"{one}10", f"{other}10"


def pub(ports: dict[str, str]) -> str:
    """Return the lines for the public network; `ports` are its devices by host, the server's too."""
    lines = ["route add blackhole ::/0"]
    for role, device in ports.items():
        lines.append(f"addr add {_HERE}/64 dev {device} nodad")
        lines += [f"route add {network} via {_NEXT} dev {device}" for network in _networks(role)]
    return _text(lines)


def router(host: str) -> str:
    """Return the lines for the router of alice or bob."""
    lines = [f"addr add {_NEXT}/64 dev wan nodad", f"addr add {_HERE}/64 dev lan nodad"]
    lines += [f"route add ::/0 via {_HERE} dev wan"]
    return _text([*lines, *(f"route add {network} dev lan" for network in _networks(host))])


def host(role: str) -> str:
    """Return the lines for alice, bob or the server."""
    own = [f"{SERVER}/128"] if role == "srv" else [f"{address}/64" for address in addresses(role)]
    lines = [f"addr add {address} dev eth0 nodad" for address in (f"{_NEXT}/64", *own)]
    return _text([*lines, f"route add ::/0 via {_HERE} dev eth0"])


def ruleset(kind: Filter, family: Literal["ip", "ip6"]) -> str:
    """Return the text for `nft -f` that makes a home router's firewall for one family."""
    if kind == "open":
        return ""
    refuse = "drop" if kind == "drop" else "meta l4proto tcp reject with tcp reset"
    return (
        f"table {family} {TABLE} {{\nchain through {{\ntype filter hook forward priority filter; policy drop;\n"
        "ct state invalid drop\nct state established,related accept\n"
        f'iifname "lan" oifname "wan" accept\n{refuse}\n}}\n}}\n'
    )


def _networks(role: str) -> list[str]:
    return [f"{SERVER}/128"] if role == "srv" else [f"{prefix}/64" for prefix in _PREFIXES[role]]


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
