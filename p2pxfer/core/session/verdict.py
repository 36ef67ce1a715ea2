"""Why two NATs get the path that they got, and the one change that would make a relayed pair direct: pure functions.

Laws of this file:

1. Which path the pair gets is measured, never computed: the NATs only explain it.
2. A reason that names a property of a NAT is given only where that property was measured.
3. A direct path needs no change; without one there is exactly one piece of advice.
4. Nothing depends on which of the two asks: with the sides exchanged, ``here`` and ``there`` are exchanged.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from p2pxfer.core.messages import NatSummary
from p2pxfer.core.session.wire import PlanState
from p2pxfer.core.traversal.strategies import Kind, kind
from p2pxfer.reasons import Change, Reason, Where
from p2pxfer.status import PathKind


class Side(Struct, frozen=True):
    """One side: its NAT, whether its outside address changes (``pooled``), whether it allows direct paths, and what
    became of its plan of many dials."""

    nat: NatSummary
    pooled: bool = False
    dials: bool = True
    plan: PlanState = "none"


class Verdict(Struct, frozen=True):
    """``path``: the best path that stood, ``None`` if there was none; ``where`` belongs to the reason, ``at`` to the
    change, each empty where no side is meant."""

    path: PathKind | None
    reason: Reason
    where: Where
    change: Change
    at: Where


def judge(here: Side, there: Side, path: PathKind | None, same_address: bool) -> Verdict:
    """Explain ``path``; ``same_address``: the server saw both sides at one address."""
    if path not in (None, "relay"):
        return Verdict(path, *_why_direct(here, there, path), "none", "")
    return Verdict(path, *_why_not(here, there, same_address))


def _why_direct(here: Side, there: Side, path: PathKind) -> tuple[Reason, Where]:
    if path in _BY_PATH:
        return _BY_PATH[path], ""
    open_at = _which(here.nat.mapping == "none", there.nat.mapping == "none")
    if open_at:
        return "open", open_at
    kinds = frozenset((kind(here.nat), kind(there.nat)))
    if "unknown" in kinds:
        return "met", ""
    if "followed" in (here.plan, there.plan):
        return ("searched" if "random" in kinds else "predicted"), ""
    if kinds == {"cone"}:
        return "kept", ""
    # No plan was followed, so the side whose port was known let a port in that nobody had dialled.
    return ("let-in", _which(*(kind(side.nat) == "cone" for side in (here, there)))) if "cone" in kinds else ("met", "")


_BY_PATH: Final[dict[PathKind, Reason]] = {"lan": "same-network", "ipv6": "ipv6", "mapped": "mapped"}


def _why_not(here: Side, there: Side, same_address: bool) -> tuple[Reason, Where, Change, Where]:
    """What comes first hides what comes later: who may not dial has no other reason."""
    forbids = _which(not here.dials, not there.dials)
    if forbids:
        return "forbidden", forbids, "allow", forbids
    kinds = (kind(here.nat), kind(there.nat))
    reachable = _better_mapped(kinds)
    if same_address:
        return "same-nat", "", "join", ""
    pooled = _which(here.pooled, there.pooled)
    if pooled and kinds != ("cone", "cone"):
        return "pooled", pooled, "map", reachable
    unknown = _which(*(one == "unknown" for one in kinds))
    if unknown:
        return "unmeasured", unknown, "map", reachable
    withheld = _which(here.plan == "withheld", there.plan == "withheld")
    if withheld:
        return "withheld", withheld, "permit", withheld
    if kinds == ("cone", "cone"):
        if here.nat.simultaneous == there.nat.simultaneous == "no":
            return "no-crossing", "both", "map", "either"
        open_at = _which(here.nat.mapping == "none", there.nat.mapping == "none")
        return ("closed", open_at, "unblock", open_at) if open_at else ("blocked", "", "map", "either")
    drawing = _which(*(one == "random" for one in kinds))
    if drawing == "both" and "followed" in (here.plan, there.plan):
        return "not-found", "both", "map", "either"
    if drawing == "both":
        drawn = all(side.nat.ports in _DRAWN for side in (here, there))
        return ("both-random" if drawn else "both-change"), "both", "map", "either"
    if "sequential" in kinds and drawing:
        return "counted-and-random", drawing, "map", "either"
    counting = _which(*(one == "sequential" for one in kinds))
    return ("not-found", drawing, "map", reachable) if drawing else ("overtaken", counting, "map", reachable)


_DRAWN: Final = frozenset(("random", "block"))


def _better_mapped(kinds: tuple[Kind, Kind]) -> Where:
    """On which side a mapped port is to be had most likely.

    A NAT that keeps its port is most often a router at home; one that does not, a carrier's.
    """
    mapped: dict[tuple[bool, bool], Where] = {(True, False): "here", (False, True): "there"}
    return mapped.get((kinds[0] == "cone", kinds[1] == "cone"), "either")


def _which(here: bool, there: bool) -> Where:
    return _WHICH[here, there]


_WHICH: Final[dict[tuple[bool, bool], Where]] = {
    (False, False): "",
    (True, False): "here",
    (False, True): "there",
    (True, True): "both",
}


def should_meet(mine: NatSummary, theirs: NatSummary) -> bool:
    """Whether single dials between these NATs meet, so that a punch that failed had bad luck.

    A packet was lost, or a SYN came between an ICMP error and the next dial (``tests/lab/test_selfcheck_ports.py``).
    """
    kept = {"none", "endpoint-independent"}
    refused = mine.simultaneous == theirs.simultaneous == "no"
    return mine.mapping in kept and theirs.mapping in kept and not refused


def no_direct_path(peer: str, mine: NatSummary, theirs: NatSummary, tried: str) -> str:
    """The sentence for people about why there is no direct path; ``tried`` is what was done beyond single dials."""
    nats = f"the NAT here {_NATS[mine.mapping]}, the peer's {_NATS[theirs.mapping]}"
    if mine.simultaneous == theirs.simultaneous == "no":
        nats = "the NAT here and the peer's both refuse simultaneous opens, so no connection comes in to either"
    parts = [
        f"no direct path to {peer}: {nats}",
        tried or "no candidate of the peer answered",
        "nothing went through the relay. --path auto would use it",
    ]
    return "; ".join(parts)


_CHANGING: Final = "chooses another port for every destination"
_NATS: Final = {
    "unknown": "did not show how it maps",
    "none": "translates nothing",
    "endpoint-independent": "keeps one port but lets in only who was dialled",
    "address-dependent": _CHANGING,
    "port-dependent": _CHANGING,
    "connection-dependent": "chooses another port for every connection, even to the same destination",
}
