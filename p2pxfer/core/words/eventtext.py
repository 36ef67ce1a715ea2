"""What a run tells, in words for people: one line for each event, empty where silence is better.

Everything that came from a peer or a server is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, assert_never

from p2pxfer.core.session.pathchoice import MEANT
from p2pxfer.core.text import few_of, safe_text
from p2pxfer.core.words.nattable import nat_text
from p2pxfer.inventory import Agent, ContactListed, Identity, JobListed, QueuedOne
from p2pxfer.status import (
    Accepted,
    ChatLine,
    CodeShown,
    Connection,
    Done,
    Event,
    Exposed,
    Failed,
    Introduced,
    Listening,
    Nat,
    Note,
    Offer,
    Path,
    Peer,
    Progress,
    RefusedOffer,
    Registered,
    Resumed,
    Verdict,
    Words,
)

MOST_NAMES: Final = 5
"""So many names stand in one line."""


def describe(event: Event) -> str:
    """One line for people about an event, empty where silence is better."""
    match event:
        case Registered(name, peer_id, observed):
            return f"registered as {name}, seen as {observed}\nthis machine: {peer_id}" if name else ""
        case CodeShown() | Words():
            return _secret_text(event)
        case Peer(name, peer_id, verified):
            return f"peer {safe_text(name)} {peer_id} (verified by {verified})"
        case Offer():
            return f"offered: {contents(event)}"
        case RefusedOffer(why):
            return f"refused: {safe_text(why)}"
        case Resumed(have):
            return f"going on: {human_size(have)} are here already"
        case Path() | Nat() | Exposed() | Listening() | Connection():
            return _network_text(event)
        case Done() | QueuedOne():
            return _end_text(event)
        case Note(message) | Verdict(message=message):
            return safe_text(message)
        case Failed(_, message, _):
            return f"error: {safe_text(message)}"
        case Progress() | Accepted() | Introduced() | Identity() | ContactListed() | JobListed() | Agent() | ChatLine():
            # Progress has a display of its own, and so have lists of contacts; the others are for programs.
            return ""
        case _:
            assert_never(event)


def _secret_text(event: CodeShown | Words) -> str:
    if isinstance(event, Words):
        return f"compare by voice with {safe_text(event.peer)}: {' '.join(event.words)}"
    minutes = event.expires_s // 60
    return f"one-time code for a sender that is not a contact: {event.code}   (valid {minutes} minutes)"


def _end_text(event: Done | QueuedOne) -> str:
    if isinstance(event, QueuedOne):
        return queued_text(event)
    return "\n".join([*_done_lines(event), *(f"saved {safe_text(name)}" for name in event.saved)])


def received_text(done: Done, peer: str, directory: str | None) -> str:
    """The end of a transfer from ``peer``: what was saved, and in which directory.

    That is empty where its path is not to be had, and ``None`` where the transfer was written on at once.
    """
    if directory is None:
        written = (f"written to {safe_text(name)} from {safe_text(peer)}" for name in done.saved)
        return "\n".join([*_done_lines(done), *written])
    where = f" in {safe_text(directory)}" if directory else ""
    saved = (f"saved {safe_text(name)} from {safe_text(peer)}{where}" for name in done.saved)
    return "\n".join([*_done_lines(done), *saved])


def queued_text(event: QueuedOne) -> str:
    """What was queued, and what happens now."""
    peer, names = safe_text(event.peer), ", ".join(safe_text(name, 60) for name in event.names[:3])
    more = " ..." if len(event.names) > 3 else ""
    if event.attended:
        then = f"the agent sends it as soon as {peer} is there"
    else:
        then = "no agent runs on this home, and without one nothing is sent"
    return f"queued as {event.job}: {names}{more} to {peer}; {then}"


def contents(offer: Offer) -> str:
    """What a transfer holds, in a few words."""
    names = ", ".join(safe_text(name, 60) for name in offer.names[:3]) + (" ..." if len(offer.names) > 3 else "")
    if offer.bytes is None:
        return f"{names} ({size_of(offer)})"
    least = "at least " if offer.counting else ""
    return f"{names} ({least}{offer.files} file{'s' if offer.files != 1 else ''}, {size_of(offer)})"


def size_of(offer: Offer) -> str:
    """How much an offer is."""
    return "a stream of unknown size" if offer.bytes is None else human_size(offer.bytes)


def _network_text(event: Path | Nat | Exposed | Listening | Connection) -> str:
    match event:
        case Exposed(service, target, to):
            return f"{target} is exposed as {service} to {', '.join(map(safe_text, to))}"
        case Listening(address, peer, service):
            return f"listening at {address} for {service} of {safe_text(peer)}"
        case Connection(peer=peer, service=service, state="refused", why=why):
            return f"no connection with {safe_text(peer)} for {service}: {safe_text(why)}"
        case Nat():
            # Beside a transfer it is for programs.
            return nat_text(event) if event.why else ""
        case Path(kind, "active", _, remote, rtt, after, _):
            where = f" to {remote}" if remote else ""
            trip = f", round trip {rtt:.0f} ms" if rtt is not None else ""
            return f"path: {kind}{where} after {after / 1000:.2f} s{trip}"
        case Path(kind, "down", _, _, _, _, why) if why not in MEANT:
            return f"path lost: {kind} ({safe_text(why, 200)})"
        case _:
            # Merely up, or ended by intent: for programs.
            return ""


def some_of(names: Sequence[str]) -> str:
    """The first few of some names, and how many more there are."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(safe_text(name, 200) for name in names[:MOST_NAMES]) + more


def superseded_text(have: int, names: Sequence[str], number: str = "") -> str:
    """What is said of ``have`` bytes of ``names`` when a later transfer of these has arrived; ``number`` of the job."""
    drops = f"p2pxfer jobs cancel{' ' + number if number else ''} drops them"
    return f"{human_size(have)} are kept of an earlier transfer of the same name, {few_of(names)}: {drops}"


def _done_lines(done: Done) -> Iterator[str]:
    yield _done_text(done)
    for name in done.left_out:
        yield f"left out {safe_text(name)}: it changed or could not be read while it was sent"


def _done_text(done: Done) -> str:
    moved = sum(done.bytes_by_path.values())
    shares = ", ".join(
        f"{path} {human_size(size)} ({100 * size / moved:.0f} %)" for path, size in done.bytes_by_path.items() if moved
    )
    files = f"{done.files} file{'s' if done.files != 1 else ''}"
    # The time is also that of comparing what was there: the rate of a part says nothing.
    is_rate = moved and (moved >= done.bytes or human_size(moved) == human_size(done.bytes))
    rate = f" ({human_size(moved / done.seconds if done.seconds > 0 else moved)}/s)" if is_rate else ""
    size = f"{human_size(done.bytes)}{_sent_of(human_size(done.bytes), done.bytes, moved)}"
    return f"done: {files}, {size} in {done.seconds:.1f} s{rate}" + (f"; {shares}" if shares else "")


def _sent_of(size: str, whole: int, moved: int) -> str:
    """What of ``whole`` bytes, which people read as ``size``, was sent, where it is not the same."""
    if human_size(moved) == size:
        return ""
    if not moved:
        return ", of which nothing had to be sent,"
    return f", {'of which' if moved < whole else 'with repeats'} {human_size(moved)} were sent,"


def human_size(size: float) -> str:
    """Bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        shown = f"{size:.0f}" if unit == "B" else f"{size:.1f}"
        if float(shown) < 1024:
            return f"{shown} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
