"""Counting the SYNs of a host where they leave it.

Only bare SYNs count: a SYN-ACK, which a simultaneous open sends too, opens nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

TABLE = "lab_syns"
LIST = ["nft", "-j", "list", "counters", "table", "inet", TABLE]
"""The command whose output `parse` reads."""


@dataclass(frozen=True, slots=True)
class Syns:
    """Bare SYNs, repeated ones included: those to an address of the server, and all others."""

    server: int
    elsewhere: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.server + self.elsewhere


def ruleset(device: str, servers: Iterable[str]) -> str:
    """Return the text for `nft -f` that counts what leaves a host by the interface `device`."""
    syn = f'oifname "{device}" tcp flags & (fin | syn | rst | ack) == syn'
    families: dict[str, list[str]] = {"ip": [], "ip6": []}
    for server in servers:
        families["ip6" if ":" in server else "ip"].append(server)
    rules = "".join(
        f"{syn} {family} daddr {sign}{{ {', '.join(known)} }} counter name {counter}\n"
        for family, known in families.items()
        for sign, counter in (("", "server"), ("!= ", "elsewhere"))
        if known
    )
    return (
        f"table inet {TABLE} {{\ncounter server {{ }}\ncounter elsewhere {{ }}\n"
        f"chain count {{\ntype filter hook postrouting priority srcnat + 10;\n{rules}}}\n}}\n"
    )


def parse(listing: str) -> Syns:
    """Return the counts in the output of `LIST`."""
    counters = [entry["counter"] for entry in json.loads(listing)["nftables"] if "counter" in entry]
    packets = {counter["name"]: counter["packets"] for counter in counters}
    return Syns(packets["server"], packets["elsewhere"])
