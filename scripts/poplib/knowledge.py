"""What the two sides of a world know of their NATs: what good probes would show, and what ours show in fact."""

from __future__ import annotations

from ipaddress import ip_address

from msgspec.structs import replace

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.messages import NatSummary
from p2pxfer.core.traversal import discovery
from p2pxfer.core.traversal.discovery import PROBES, Probe, View
from scripts.poplib.nats import Address
from scripts.poplib.side import Side

SERVER: tuple[Address, ...] = tuple((host, port) for host in ("198.18.0.10", "198.18.0.11") for port in (8877, 8878))
"""Where the server observes: two addresses with two ports each."""
TWICE = 3
"""From how many ports the server is dialled twice, as in ``net/traversal/portprobes``."""


def summary(side: Side) -> NatSummary:
    """What good probes would find out."""
    kind = side.nat.kind
    if kind.mapping == "none":
        return NatSummary(mapping="none", ports="preserving")
    mapping = kind.mapping
    if mapping == "endpoint-independent":
        return NatSummary(mapping=mapping, ports="preserving" if kind.ports == "preserving" else "changed")
    if kind.ports == "sequential":
        return NatSummary(mapping=mapping, ports="sequential", step=kind.step, latest=side.nat.latest)
    if kind.ports == "first-preserved":
        return NatSummary(mapping=mapping, ports="preserving")
    narrow = kind.high - kind.low < 2048
    low, high = (kind.low, kind.high) if narrow else (0, 0)
    return NatSummary(mapping=mapping, ports="block" if narrow else "random", low=low, high=high)


def discovered(side: Side) -> NatSummary:
    """What the observations of the server and, where the mapping depends on them, probes show in fact."""

    def seen(local: int, at: Address) -> Endpoint | None:
        place = side.out(local, at, 0.0)
        return None if place is None else Endpoint(ip_address(place[0]), place[1])

    views = [
        View(place, Endpoint(ip_address(at[0]), at[1])) for at in SERVER if (place := seen(side.port, at)) is not None
    ]
    own = [ip_address(side.address)] if all(nat.kind.mapping == "none" for nat in side.nats) else []
    mapping = discovery.mapping_of(views, own)
    if mapping in discovery.DEPENDENT:
        row = [next(side.fresh) for _ in range(PROBES)]
        probes = [
            Probe(port, place)
            for port in (row[number] for number in discovery.ORDER)
            if (place := seen(port, SERVER[0])) is not None
        ]
        found = discovery.allocation_of(probes, [view.seen for view in views])
        twice = []
        for local in [next(side.fresh) for _ in range(TWICE)]:
            first = seen(local, SERVER[0])
            side.give_up(local, SERVER[0])
            twice.append(seen(local, SERVER[0]) != first)
        found = replace(found, renewed=discovery.renewed(twice))
        mapping = found.refined(mapping)
        if found.ports != "unknown":
            return found.summary(mapping)
    return NatSummary(mapping=mapping, ports=discovery.binding_ports(views, side.port))
