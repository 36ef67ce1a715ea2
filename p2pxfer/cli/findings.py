"""From what was measured of a NAT to the event that says so, with a reason for everything that is unknown."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from msgspec import structs
from msgspec.structs import replace

from p2pxfer.core.addresses import canonical_endpoint, parse_endpoint
from p2pxfer.core.messages import Introduction, NatSummary, PathPolicy
from p2pxfer.core.session.verdict import Side
from p2pxfer.core.session.wire import Checked
from p2pxfer.core.text import safe_text
from p2pxfer.core.traversal.discovery import DEPENDENT, Inbound
from p2pxfer.errors import AddressRefused
from p2pxfer.net.session.peercheck import Findings
from p2pxfer.net.traversal.announcing import Announcer
from p2pxfer.net.traversal.probing import NatDiscovery
from p2pxfer.status import Nat


def nat_found(found: NatDiscovery, inbound: Inbound, announcer: Announcer | None = None) -> Nat:
    """What was found here; ``announcer`` knows the router, if it was asked."""
    summary = found.summary
    hosts = [view.seen.host for view in found.views]
    if found.allocation is not None and summary.mapping in DEPENDENT:
        hosts += found.allocation.addresses
    addresses = tuple(dict.fromkeys(map(str, hosts)))
    asked_hosts = {view.at.host for view in found.views}
    why = _why(inbound)
    if not found.views:
        why["mapping"] = why["ports"] = "the connection to the server was lost"
    elif summary.mapping == "unknown":
        named = found.endpoints_asked
        why["mapping"] = "the server's other endpoints did not answer" if named else "the server has one endpoint only"
    elif len(asked_hosts) == 1 and summary.mapping == "endpoint-independent":
        # Good enough for a punch, which is tried with it, but nobody has seen whether it is so.
        summary = structs.replace(summary, mapping="unknown")
        why["mapping"] = "it is the same for every port of the server's one address, and may differ for other addresses"
    if summary.mapping in DEPENDENT and summary.ports in ("unknown", "changed"):
        pooled = found.allocation is not None and len(found.allocation.addresses) > 1
        why["ports"] = "several outside addresses" if pooled else "too few probes were answered, or they show no rule"
    mapped = announcer.endpoints if announcer is not None else ()
    if not mapped:
        why["mapped"] = announcer.why_not if announcer is not None else "it was not asked"
    spoken = announcer.mapping.speaks if announcer is not None else ()
    return replace(_nat(summary, inbound, addresses, why), router=spoken, mapped=tuple(map(str, mapped)))


def _why(found: Inbound) -> dict[str, str]:
    """Why something of it is unknown, where it is."""
    rows = (
        ("filtering", found.filtering, found.closed),
        ("unsolicited", found.unsolicited, found.unanswered),
        ("simultaneous", found.simultaneous, found.uncrossed),
        ("hairpin", found.hairpin, found.unturned),
    )
    return {name: why or "nobody says why" for name, value, why in rows if value == "unknown"}


def peer_found(findings: Findings) -> Nat:
    """What was found of the peer: mapping and ports as the server passed them on, the rest as the peer itself says."""
    summary = findings.nats[1]
    inbound = _SILENT if findings.answer is None else _told(findings.answer)
    why = _why(inbound)
    if summary.mapping == "unknown":
        why["mapping"] = "the server did not see enough of it"
    if summary.mapping in DEPENDENT and summary.ports in ("unknown", "changed"):
        why["ports"] = "the peer found no rule"
    return _nat(summary, inbound, _observed(findings.introduction), why, there=True)


def _observed(introduction: Introduction) -> tuple[str, ...]:
    """The addresses at which the server saw the peer; what is none is left out, as the punch does."""
    hosts: dict[str, None] = {}
    for text in introduction.observed:
        with suppress(AddressRefused):
            hosts[str(canonical_endpoint(parse_endpoint(text)).host)] = None
    return tuple(hosts)


def _told(answer: Checked) -> Inbound:
    """What the peer says of its side, its words made harmless."""
    return Inbound(
        answer.filtering,
        safe_text(answer.closed, 200),
        answer.hairpin,
        safe_text(answer.unturned, 200),
        answer.unsolicited,
        safe_text(answer.unanswered, 200),
        answer.simultaneous,
        safe_text(answer.uncrossed, 200),
    )


_NOTHING: Final = "the peer did not say"
_SILENT: Final = Inbound(closed=_NOTHING, unturned=_NOTHING, unanswered=_NOTHING, uncrossed=_NOTHING)


def sides(policy: PathPolicy, findings: Findings, here: Nat, there: Nat) -> tuple[Side, Side]:
    """Both sides for the verdict."""
    nats = [
        structs.replace(nat, simultaneous=found.simultaneous)
        for nat, found in zip(findings.nats, (here, there), strict=True)
    ]
    dials, mine = findings.introduction.dial, policy != "relay"
    answer = findings.answer
    return (
        Side(nats[0], _several(here.addresses), mine, findings.plan),
        Side(nats[1], _several(_observed(findings.introduction)), dials or not mine,
             "none" if answer is None else answer.plan),
    )  # fmt: skip


def _several(hosts: tuple[str, ...]) -> bool:
    """More than one address of IPv4: of IPv6 a machine has several in any case."""
    return sum(":" not in host for host in hosts) > 1


def _nat(
    summary: NatSummary, inbound: Inbound, addresses: tuple[str, ...], why: dict[str, str], *, there: bool = False
) -> Nat:
    return Nat(
        mapping=summary.mapping,
        filtering=inbound.filtering,
        ports="unknown" if "ports" in why else summary.ports,
        hairpin=inbound.hairpin,
        step=summary.step,
        low=summary.low,
        high=summary.high,
        addresses=addresses,
        why=why,
        side="there" if there else "here",
        unsolicited=inbound.unsolicited,
        simultaneous=inbound.simultaneous,
    )
