"""What observations say of a NAT: how it maps, and how it chooses outside ports.  Pure functions.

Laws of this file:

1. The mapping is judged from views of one local port at several endpoints of the server; how ports are chosen, from
   probes: a row of fresh local ports, dialled in :data:`ORDER` and in one flight towards one endpoint; whether the same
   two endpoints keep their port, from connections that are made a second time.
2. What the samples do not show is ``unknown``.  ``sequential`` is said only where chance would show the same picture in
   less than one of a thousand NATs that draw at random.
3. Every port that is said lies from 1024 to 65535 or was seen.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from p2pxfer.core.addresses import Address, Endpoint
from p2pxfer.core.messages import MAX_STEP, CrossOutcome, KnockOutcome, NatSummary

Mapping = Literal[
    "unknown", "none", "endpoint-independent", "address-dependent", "port-dependent", "connection-dependent"
]
Ports = Literal["unknown", "preserving", "offset", "changed", "sequential", "block", "random"]

Filtering = Literal["unknown", "endpoint-independent", "address-dependent", "port-dependent"]
Hairpin = Literal["unknown", "yes", "no"]
Unsolicited = Literal["unknown", "drop", "rst", "icmp"]
Simultaneous = Literal["unknown", "yes", "no"]

DEPENDENT: Final = frozenset(("address-dependent", "port-dependent", "connection-dependent"))
"""The mappings that differ with the destination: only for them the choice of ports matters to a peer."""
PROBES: Final = 8
"""Local ports of one probe."""
ORDER: Final = (0, 3, 6, 1, 4, 7, 2, 5)
"""In which order the ports of one row are dialled.  Were it ascending, a NAT that adds a constant to the inside port
would look like one that counts."""
MIN_SAMPLES: Final = 6
"""Fewer answers say nothing: six numbers in random order ascend or descend by chance once in 360."""
LOW, HIGH = 1024, 65535
"""The range that a NAT draws from at most (RFC 6056, section 3.2)."""
MIN_BLOCK: Final = 32
"""Ports closer together than a block of this size can be, and not in a row, come from something else."""
MAX_BLOCK: Final = 2048
"""A range up to this size is called a block; carriers hand out 128 to 2048 ports each (RFC 7422, RFC 6888)."""
MEETING_S: Final = 30.0
"""How long the two sides of an introduction may tell each other of their NATs, seconds."""
_CHANCE: Final = 0.05


class View(Struct, frozen=True):
    """One observation: the endpoint ``seen`` of a client on a connection to the server's endpoint ``at``."""

    seen: Endpoint
    at: Endpoint


class Probe(Struct, frozen=True):
    """One answer to a probe: dialled from the local ``port``, ``seen`` by the server."""

    port: int
    seen: Endpoint


class Inbound(Struct, frozen=True):
    """What a NAT does with connections that come in, and why something of it is unknown: ``closed`` for ``filtering``,
    ``unturned`` for ``hairpin``, ``unanswered`` for ``unsolicited``, ``uncrossed`` for ``simultaneous``."""

    filtering: Filtering = "unknown"
    closed: str = ""
    hairpin: Hairpin = "unknown"
    unturned: str = ""
    unsolicited: Unsolicited = "unknown"
    unanswered: str = ""
    simultaneous: Simultaneous = "unknown"
    uncrossed: str = ""


class Allocation(Struct, frozen=True):
    """How outside ports are chosen.

    ``step`` and ``latest`` belong to ``sequential``; ``low`` to ``high``, inclusive, to ``block`` and ``random``; they
    are 0 elsewhere.  ``addresses`` are the outside addresses that were seen: several mean that the NAT pools them.
    ``renewed``: a connection between the same two endpoints gets another port than the one before it; ``None`` where
    that was not tried or did not show.
    """

    ports: Ports = "unknown"
    step: int = 0
    latest: int = 0
    low: int = 0
    high: int = 0
    addresses: tuple[Address, ...] = ()
    renewed: bool | None = None

    def summary(self, mapping: Mapping) -> NatSummary:
        """The same for the wire, with a mapping that was found elsewhere."""
        return NatSummary(mapping, self.ports, self.step, self.latest, self.low, self.high)

    def refined(self, mapping: Mapping) -> Mapping:
        """``mapping`` as views of one port show it, and what only the same connection made twice can show.

        It adds nothing where views agree, or differ by the address alone.
        """
        return "connection-dependent" if self.renewed and mapping == "port-dependent" else mapping

    def after(self, probe: Probe) -> Allocation:
        """The same with one fresh probe: a sequential NAT has gone on to this port."""
        return replace(self, latest=probe.seen.port) if self.ports == "sequential" else self


# -- mapping -----------------------------------------------------------------------------------------------------------


def one_family(views: Sequence[View]) -> list[View]:
    """The views of one address family, IPv4 where there is any: what translates it is hardly ever in front of IPv6."""
    return [view for view in views if view.seen.host.version == 4] or list(views)


def mapping_of(views: Sequence[View], own: Collection[Address]) -> Mapping:
    """How the NAT maps one local port (RFC 4787, section 4.1), from ``views`` of one family.

    ``own`` are the client's own addresses: seen from one of them, it has no NAT.
    """
    if len(views) < 2:
        return "unknown"
    if len({view.seen for view in views}) == 1:
        return "none" if views[0].seen.host in own else "endpoint-independent"
    by_host: dict[Address, set[Endpoint]] = {}
    for view in views:
        by_host.setdefault(view.at.host, set()).add(view.seen)
    return "port-dependent" if any(len(seen) > 1 for seen in by_host.values()) else "address-dependent"


def renewed(at_once: Sequence[bool | None]) -> bool | None:
    """Whether a NAT gives another outside port to the next connection between the same two endpoints.

    The first one still stood when the second was dialled, and ``at_once`` says for each try whether that was answered
    without a repetition: only from another port it can be.  A SYN that was lost looks like a port that was kept, so two
    must agree, and for the contrary all.
    """
    shown = [one for one in at_once if one is not None]
    if sum(shown) >= 2:
        return True
    return False if len(shown) >= 2 and not any(shown) else None


def binding_ports(views: Sequence[View], port: int) -> Ports:
    """Whether the outside ports of one binding are its local ``port``."""
    if not views:
        return "unknown"
    return "preserving" if all(view.seen.port == port for view in views) else "changed"


def filtering_of(same: bool | None, other: bool | None) -> tuple[Filtering, str]:
    """Whom the NAT lets in (RFC 4787, section 5), and why that is not known if it is not.

    ``same`` and ``other`` say whether a connection came through from another port of the address that was dialled, and
    from an address that was not; ``None`` where nobody tried.
    """
    if other:
        return "endpoint-independent", ""
    if same is None:
        return "unknown", "the server did not dial back"
    if not same:
        return "port-dependent", ""
    if other is None:
        return "unknown", "another port of the server comes through, and it has no other address to dial from"
    return "address-dependent", ""


def unsolicited_of(knocked: KnockOutcome) -> tuple[Unsolicited, str]:
    """How a SYN to a port that nobody has opened is answered (RFC 5382, REQ-4), and why that is unknown if it is."""
    return _KNOCKED[knocked]


_KNOCKED: Final[dict[KnockOutcome, tuple[Unsolicited, str]]] = {
    "not-tried": ("unknown", "the server did not try"),
    "connected": ("unknown", "somebody has opened the port that the server tried"),
    "refused": ("rst", ""),
    "icmp": ("icmp", ""),
    "silent": ("drop", ""),
}


def simultaneous_of(crossed: CrossOutcome) -> tuple[Simultaneous, str]:
    """Whether a SYN comes in that crosses one to the same endpoint (RFC 5382, REQ-2), and why that is unknown if it is.

    That it does not is said only where the same two endpoints got a connection once the client's SYN was answered.  It
    is wrong where a firewall at the server lets no SYN out.
    """
    return _CROSSED[crossed]


_CROSSED: Final[dict[CrossOutcome, tuple[Simultaneous, str]]] = {
    "not-tried": ("unknown", "the server did not try"),
    "crossed": ("yes", ""),
    "answered": ("no", ""),
    "silent": ("unknown", "the dial that was to be crossed did not reach the server from the endpoint that it knew"),
}


# -- ports -------------------------------------------------------------------------------------------------------------


def allocation_of(probes: Sequence[Probe], earlier: Iterable[Endpoint] = ()) -> Allocation:
    """How the NAT chooses ports, from ``probes`` in the order in which they were dialled.

    ``earlier`` are other endpoints that the same NAT gave to this machine before: they widen the range, and tell of
    further addresses.  With several addresses the one that was seen most is judged, since each has ports of its own.
    """
    earlier = list(earlier)
    hosts = Counter(probe.seen.host for probe in probes)
    addresses = tuple(dict.fromkeys([*(one.host for one in earlier), *(probe.seen.host for probe in probes)]))
    found = Allocation(addresses=addresses)
    if not hosts:
        return found
    host, count = hosts.most_common(1)[0]
    if count < MIN_SAMPLES:
        return found
    judged = [probe for probe in probes if probe.seen.host == host]
    if sum(probe.seen.port == probe.port for probe in judged) * 4 >= count * 3:
        # The others were in use by somebody else.
        return replace(found, ports="preserving")
    drawn = [probe.seen.port for probe in judged]
    shifts = Counter(probe.seen.port - probe.port for probe in judged)
    if shifts.most_common(1)[0][1] * 4 >= count * 3:
        return replace(found, ports="offset")
    step = sequence_step(drawn)
    if step:
        return replace(found, ports="sequential", step=step, latest=drawn[-1])
    low, high = band(drawn + [one.port for one in earlier if one.host == host])
    if high - low + 1 < MIN_BLOCK:
        return found
    return replace(found, ports="block" if high - low < MAX_BLOCK else "random", low=low, high=high)


def sequence_step(ports: Sequence[int]) -> int:
    """The step of a counter that gave these ports in this order, 0 if there is none.

    Other traffic may have taken ports between, and the counter may have begun anew once.  All steps must have one
    direction: of ``n`` ports drawn at random that is chance once in ``n!/2`` times, 20,160 for eight.  They must be
    short, whole multiples of the commonest, and that one must be a third of them: ports in random order that ascend by
    chance have gaps of any size.
    """
    gaps = [after - before for before, after in itertools.pairwise(ports)]
    if 0 in gaps:
        return 0
    up = sum(gap > 0 for gap in gaps)
    sign = 1 if 2 * up >= len(gaps) else -1
    against = [gap for gap in gaps if gap * sign < 0]
    steps = [gap * sign for gap in gaps if gap * sign > 0]
    if len(against) > 1 or 2 / math.factorial(len(steps) + 1) >= _CHANCE:
        return 0
    if against and abs(against[0]) < MIN_BLOCK * len(ports):
        return 0  # too short a way back for a counter that reached its end
    step, often = min(Counter(steps).items(), key=lambda item: (-item[1], item[0]))
    short = sum(steps) <= MAX_STEP * len(steps) and step <= MAX_STEP
    return sign * step if short and 3 * often >= len(steps) and all(gap % step == 0 for gap in steps) else 0


def band(ports: Collection[int]) -> tuple[int, int]:
    """The range from which these ports were drawn, first and last, estimated.

    Of ``n`` draws the spread is on average (n-1)/(n+1) of the width, so the width is the spread times (n+1)/(n-1), set
    round what was seen.  Where the ports nearly fill a block whose size and place are powers of two, it is that block.
    """
    seen = set(ports)
    first, last = min(seen), max(seen)
    spread, count = last - first + 1, len(seen)
    size = 1 << max(0, (first ^ last).bit_length())
    start = first & ~(size - 1)
    if start >= LOW and size <= MAX_BLOCK and (size - spread) / size < _CHANCE:
        return start, start + size - 1
    margin = math.ceil(spread / (count - 1)) if count > 1 else 0
    return min(first, max(LOW, first - margin)), max(last, min(HIGH, last + margin))
