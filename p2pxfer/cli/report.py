"""Shows a run: JSON events for programs on standard output, a display for people on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from p2pxfer.cli.eventline import event_line
from p2pxfer.core.text import safe_text
from p2pxfer.net.session.pathset import OVER
from p2pxfer.status import (
    Accepted,
    ChatLine,
    CodeShown,
    Connection,
    ContactListed,
    Done,
    Event,
    Exposed,
    Failed,
    Identity,
    Introduced,
    JobListed,
    Listening,
    Nat,
    Note,
    Offer,
    Path,
    Peer,
    Progress,
    QueuedOne,
    RefusedOffer,
    Registered,
    Resumed,
    Verdict,
)

if TYPE_CHECKING:
    from p2pxfer.cli.display import ProgressDisplay


def _nothing() -> None:
    """What a closed output means to whoever does not care."""


class Reporter:
    """Takes events; one instance a command.  ``on_closed`` is called once when nobody reads the output any more."""

    def __init__(self, as_json: bool) -> None:
        self.on_closed: Callable[[], None] = _nothing
        self._closed = False
        self._json = as_json
        self._start = time.monotonic()
        self._display: ProgressDisplay | None = None
        self._tty = sys.stderr.isatty()
        self._asking = False

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the command."""
        return time.monotonic() - self._start

    def tell(self, event: Event, text: str | None = None) -> None:
        """Show one event; after the output was closed by whoever read it, do nothing.

        ``text`` is what people see of it in place of the usual line; empty for nothing.
        """
        self._guarded(lambda: self._write(event, text))

    def told(self, event: Event) -> bool:
        """:meth:`tell` an event; returns whether it was written."""
        return self._guarded(lambda: self._write(event, None))

    def ask(self, question: str) -> None:
        """Show a question and, until :meth:`answered`, no progress, which would run over it."""
        self._asking = True
        self._drop_display()
        self._guarded(lambda: self._print(question))

    def answered(self, echoed: bool) -> None:
        """The question is over; ``echoed``: the terminal has ended its line."""
        asking, self._asking = self._asking, False
        if asking and not echoed:
            self._guarded(lambda: self._print("\n"))

    def _guarded(self, show: Callable[[], None]) -> bool:
        if self._closed:
            return False
        try:
            show()
        except BrokenPipeError:
            self._closed = True
            self.on_closed()
            return False
        return True

    def _write(self, event: Event, text: str | None) -> None:
        if self._json:
            sys.stdout.write(event_line(event, self.elapsed) + "\n")
            sys.stdout.flush()
        elif text is None:
            self._show(event)
        elif text:
            self._say(text)

    @property
    def can_ask(self) -> bool:
        """Whether a person sits at this terminal and sees what is written there."""
        return self._tty and not self._json and sys.stdin.isatty()

    def close(self) -> None:
        """Take the progress display away, and end the line of a question that stays open."""
        self._drop_display()
        self.answered(echoed=False)

    def _drop_display(self) -> None:
        if self._display is not None:
            self._display.close()
            self._display = None

    def _say(self, text: str) -> None:
        if self._display is not None:
            self._display.say(text)
        else:
            self._print(text + "\n")

    @staticmethod
    def _print(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    def _show(self, event: Event) -> None:
        match event:
            case Progress():
                self._progress(event)
            case Done() | Failed():
                self._drop_display()
                self._say(describe(event))
            case _:
                text = describe(event)
                if text:
                    self._say(text)

    def _progress(self, event: Progress) -> None:
        if not self._tty or self._asking:
            return
        if self._display is None:
            from p2pxfer.cli.display import ProgressDisplay

            self._display = ProgressDisplay(event.total)
        self._display.update(event)


def describe(event: Event) -> str:
    """One line for people about an event, empty where silence is better."""
    match event:
        case Registered(name, peer_id, observed):
            return f"registered as {name}, seen as {observed}\nthis machine: {peer_id}" if name else ""
        case CodeShown(code, expires):
            return f"one-time code for a sender that is not a contact: {code}   (valid {expires // 60} minutes)"
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
        case Progress() | Accepted() | Introduced() | Identity() | ContactListed() | JobListed() | ChatLine():
            # Progress has a display of its own, and so have lists of contacts; the others are for programs.
            return ""
        case _:
            assert_never(event)


def _end_text(event: Done | QueuedOne) -> str:
    if isinstance(event, QueuedOne):
        return queued_text(event)
    return "\n".join([_done_text(event), *(f"saved {safe_text(name)}" for name in event.saved)])


def queued_text(event: QueuedOne) -> str:
    """What was queued, and what happens now."""
    peer, names = safe_text(event.peer), ", ".join(safe_text(name, 60) for name in event.names[:3])
    more = " ..." if len(event.names) > 3 else ""
    if event.attended:
        then = f"the agent sends it as soon as {peer} is there"
    else:
        then = "no agent runs on this home, and without one nothing is sent; this starts one: twistd p2pxfer-agent"
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
            return f"connections to {address} go to {service} of {safe_text(peer)}"
        case Connection(peer=peer, state="refused", why=why):
            return f"no connection for {safe_text(peer)}: {safe_text(why)}"
        case Nat():
            from p2pxfer.cli.nattable import nat_text

            # Beside a transfer it is for programs.
            return nat_text(event) if event.why else ""
        case Path(kind, "active", _, remote, rtt, after, _):
            where = f" to {remote}" if remote else ""
            trip = f", round trip {rtt:.0f} ms" if rtt is not None else ""
            return f"path: {kind}{where} after {after / 1000:.2f} s{trip}"
        case Path(kind, "down", _, _, _, _, why) if why != OVER:
            return f"path lost: {kind} ({safe_text(why, 200)})"
        case _:
            # Merely up, or ended because the work is done: for programs.
            return ""


def _done_text(done: Done) -> str:
    moved = sum(done.bytes_by_path.values())
    shares = ", ".join(
        f"{path} {human_size(size)} ({100 * size / moved:.0f} %)" for path, size in done.bytes_by_path.items() if moved
    )
    files = f"{done.files} file{'s' if done.files != 1 else ''}"
    rate = human_size(moved / done.seconds) if done.seconds > 0 else human_size(moved)
    return f"done: {files}, {human_size(done.bytes)} in {done.seconds:.1f} s ({rate}/s)" + (
        f"; {shares}" if shares else ""
    )


def human_size(size: float) -> str:
    """Bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
