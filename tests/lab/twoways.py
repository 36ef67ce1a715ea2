"""Two hosts with a second network between them: each has one cable more than the one to its router."""

from __future__ import annotations

import json

from tests.lab.topology import Lab

SECOND = "eth1"
"""What the hosts call the cable that joins them."""
NET = "192.168.77"
ADDRESSES = {"alice": f"{NET}.10", "bob": f"{NET}.20"}


def join(lab: Lab) -> None:
    """Lay a cable from alice to bob, beside all that is there."""
    lab.ip("alice", f"link add name {SECOND} type veth peer name {SECOND} netns {lab.names['bob']}\n")
    for role, address in ADDRESSES.items():
        lab.ip(role, f"addr add {address}/24 dev {SECOND}\nlink set {SECOND} up\n")


def slow_down(lab: Lab, role: str, device: str, mbit: float) -> None:
    """Let a host send no more than so many Mbit/s by one of its cables; what it sends beyond that waits, or is lost."""
    shape = ["tbf", "rate", f"{mbit}mbit", "burst", "32k", "latency", "100ms"]
    lab.run(role, ["tc", "qdisc", "replace", "dev", device, "root", *shape], check=True)


def sent_bytes(lab: Lab, role: str, device: str) -> int:
    """What a host has sent by one of its cables, headers included."""
    shown = lab.run(role, ["ip", "-json", "-stats", "link", "show", "dev", device], check=True).stdout
    return int(json.loads(shown)[0]["stats64"]["tx"]["bytes"])
