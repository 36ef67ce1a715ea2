"""What a check of two machines came to, in words: a table of both NATs, which path, why, and what would change it."""

from __future__ import annotations

from typing import Final

from p2pxfer.core.session.verdict import Verdict
from p2pxfer.reasons import Change, Reason, Where
from p2pxfer.status import Nat, PathKind

_ROWS: Final = (
    ("mapping", "mapping"),
    ("outside ports", "ports"),
    ("outside address", "addresses"),
    ("filtering", "filtering"),
    ("unasked", "unsolicited"),
    ("simultaneous", "simultaneous"),
    ("hairpin", "hairpin"),
)


_UNASKED: Final = {"drop": "ignored (drop)", "rst": "refused (rst)", "icmp": "refused (icmp)"}


def pair_table(here: Nat, there: Nat, peer: str) -> str:
    """Both NATs beside each other; below it why something is unknown."""
    rows = [("", "here", peer)]
    rows += [(title, _cell(here, name), _cell(there, name)) for title, name in _ROWS]
    width = max(len(row[1]) for row in rows)
    lines = [f"  {title:<16} {mine:<{width}}  {theirs}".rstrip() for title, mine, theirs in rows]
    for who, nat in (("here", here), (peer, there)):
        lines += [f"  {who}: {name} is unknown: {why}" for name, why in nat.why.items() if _is_unknown(nat, name)]
    return "\n".join(lines)


def _is_unknown(nat: Nat, name: str) -> bool:
    return str(getattr(nat, name, "")) == "unknown"


def _cell(nat: Nat, name: str) -> str:
    if name == "addresses":
        return ", ".join(nat.addresses) or "unknown"
    value = str(getattr(nat, name))
    if name == "unsolicited":
        return _UNASKED.get(value, value)
    if name == "ports" and nat.step:
        return f"{value}, {nat.step:+d}"
    if name == "ports" and nat.high:
        return f"{value}, {nat.low} to {nat.high}"
    return value


def path_sentence(path: PathKind | None, after: float | None, round_trip: float | None, peer: str) -> str:
    """Which path, and how long it took; seconds."""
    if path is None or after is None:
        return f"There is no path to {peer}."
    trip = "" if round_trip is None else f", with a round trip of {round_trip * 1000:.0f} ms"
    return f"The path to {peer}: {_PATHS[path]}, {after:.2f} s after the introduction{trip}."


def reason_sentence(verdict: Verdict, peer: str, tried: str) -> str:
    """Why; ``tried`` is what was done beyond single dials, or why it was not."""
    nat = _nat(verdict.where, peer)
    sentence = _REASONS[verdict.reason]
    text = sentence.format(nat=nat, who=_who(verdict.where, peer))
    text = text if sentence.startswith("{who}") else _capital(text)
    return f"{text} {_capital(tried)}." if tried else text


def change_sentence(verdict: Verdict, peer: str) -> str:
    """The one change that would make the path direct, empty where it is."""
    text = _CHANGES[verdict.change]
    return text.format(side=_side(verdict.at, peer)) if text else ""


def _nat(where: Where, peer: str) -> str:
    return {"here": "the NAT here", "there": f"the NAT of {peer}", "": "a NAT"}.get(where, "each NAT")


def _who(where: Where, peer: str) -> str:
    return {"here": "This machine", "there": peer}.get(where, "Each side")


def _side(where: Where, peer: str) -> str:
    return {"here": "here", "there": f"of {peer}", "both": "of both sides"}.get(where, "of either side")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_PATHS: Final[dict[PathKind, str]] = {
    "relay": "only through the server (relay)",
    "lan": "in the local network (lan)",
    "ipv6": "direct by IPv6 (ipv6)",
    "direct": "direct, to an address of its own (direct)",
    "mapped": "direct through a mapped port (mapped)",
    "punched": "direct through a hole in the NATs (punched)",
}
_REASONS: Final[dict[Reason, str]] = {
    "same-network": "Both are in one local network.",
    "ipv6": "Both have IPv6, where nothing is translated.",
    "mapped": "A router maps a port to one of the two.",
    "open": "{who} has an address of its own, without a NAT.",
    "kept": "Both NATs keep one outside port for every destination, so connections from the two sides meet.",
    "let-in": "{nat} keeps its outside port and lets in ports that were not dialled.",
    "predicted": "The outside ports that come next could be foretold.",
    "searched": "Many dials found a port that was open for them.",
    "met": "Connections from the two sides met.",
    "forbidden": "{who} allows no direct path (--path relay).",
    "same-nat": "Both were seen at one outside address, and reached each other neither by it nor in a network of their"
    " own.",
    "pooled": "{nat} takes another outside address for every connection, so nobody can know where to dial.",
    "unmeasured": "The server could not see how {nat} maps, and no dial to what it saw came through.",
    "withheld": "Many dials might have found a way and were not made.",
    "closed": "{who} has no NAT, and yet no connection came through: a firewall on the way drops them.",
    "blocked": "Both NATs keep their outside ports, and yet connections that cross did not come through: one of the"
    " NATs or a firewall drops them.",
    "no-crossing": "Both NATs refuse simultaneous opens: a connection from outside comes in to neither, even while one"
    " to the same endpoint goes out.",
    "both-random": "Both NATs choose random outside ports for every destination: no TCP punch can work.",
    "both-change": "Both NATs choose other outside ports for every destination, without a rule on either side: no TCP"
    " punch can know where to dial.",
    "counted-and-random": "{nat} chooses outside ports for every destination without a rule, and those of the other NAT"
    " move on with every dial: no TCP punch can hit both.",
    "not-found": "{nat} chooses outside ports for every destination without a rule, and no dial found an open one.",
    "overtaken": "{nat} gives out other ports for every destination, one after the other, and no dial hit one in time.",
}
_CHANGES: Final[dict[Change, str]] = {
    "none": "",
    "allow": "To make it direct: leave out --path relay on the side {side}.",
    "join": "To make it direct: put both into one local network whose machines may reach each other.",
    "permit": "To make it direct: allow the many dials on the side {side}, without --gentle and not twice in ten"
    " minutes.",
    "unblock": "To make it direct: let TCP connections through the firewall {side}.",
    "map": "To make it direct: turn on UPnP, NAT-PMP or PCP on the router {side} (IPv6 on both sides would do, too).",
}
