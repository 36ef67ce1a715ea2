"""Shows a run: JSON events for programs on standard output, a display for people on standard error, and questions."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, assert_never

from twisted.internet.defer import DeferredLock

from p2pxfer.core.text import safe_text
from p2pxfer.net.pathset import OVER
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker
from p2pxfer.status import (
    Accepted,
    CodeShown,
    Done,
    Event,
    Failed,
    Introduced,
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
)

if TYPE_CHECKING:
    from p2pxfer.cli.display import ProgressDisplay

ANSWER_MAX: Final = 4096
"""Most bytes of one typed line; what is longer is no answer."""


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

    def _guarded(self, show: Callable[[], None]) -> None:
        if self._closed:
            return
        try:
            show()
        except BrokenPipeError:
            self._closed = True
            self.on_closed()

    def _write(self, event: Event, text: str | None) -> None:
        if self._json:
            fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
            line = {"event": event.event, "t": round(self.elapsed, 4), **fields}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
        elif text is None:
            self._show(event)
        elif text:
            self._say(text)

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
        case Offer(files, size, names):
            shown = ", ".join(safe_text(name, 60) for name in names[:3]) + (" ..." if len(names) > 3 else "")
            return f"offered: {shown} ({files} file{'s' if files != 1 else ''}, {human_size(size)})"
        case RefusedOffer(why):
            return f"refused: {safe_text(why)}"
        case Resumed(have):
            return f"going on: {human_size(have)} are here already"
        case Path() | Nat():
            return _network_text(event)
        case Done():
            return "\n".join([_done_text(event), *(f"saved {safe_text(name)}" for name in event.saved)])
        case Note(message) | Verdict(message=message):
            return safe_text(message)
        case Failed(_, message, _):
            return f"error: {safe_text(message)}"
        case Progress() | Accepted() | Introduced():
            # Progress has a display of its own; the others are for programs.
            return ""
        case _:
            assert_never(event)


def _network_text(event: Path | Nat) -> str:
    match event:
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
            # Merely up, or closed because the work is done: for programs.
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


class _Typed:
    """Lines of a descriptor, for one thread.

    Not ``sys.stdin``: the lock of its buffer, held by a thread that waits, makes the interpreter abort at exit.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def forget(self) -> bool:
        """Drop what was typed before anybody was asked; whether a terminal is there."""
        terminal = os.isatty(self._descriptor)
        if terminal:
            self._rest = b""
            with suppress(termios.error):
                termios.tcflush(self._descriptor, termios.TCIFLUSH)
        return terminal

    def line(self) -> bytes | None:
        """Wait for the next line; ``None`` when the input has ended."""
        while b"\n" not in self._rest and len(self._rest) < ANSWER_MAX:
            try:
                select.select([self._descriptor], [], [])
                data = os.read(self._descriptor, ANSWER_MAX)
            except BlockingIOError:
                continue  # somebody else who shares the terminal was faster
            except OSError:
                data = b""
            if not data:
                last, self._rest = self._rest, b""
                return last or None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


class Questions:
    """Asks whoever sits at standard input, one question at a time; where nobody can answer, the answer is no.

    The waiting is done in a daemon thread, so that an open question never keeps the process from ending.
    """

    def __init__(self, reactor: Reactor, report: Reporter, descriptor: int = 0) -> None:
        self._report = report
        self._lock = DeferredLock()
        self._worker = Worker(reactor, "questions")
        self._typed = _Typed(descriptor)

    async def ask(self, compose: Callable[[], str]) -> bool:
        """Whether the answer is yes; ``compose`` gives the question, in a thread, when its turn has come."""
        return await self._lock.run(self._ask, compose)

    async def _ask(self, compose: Callable[[], str]) -> bool:
        question = await self._worker.do(compose)
        terminal = await self._worker.do(self._typed.forget)
        self._report.ask(f"{question} [y/N] ")
        answer: bytes | None = None
        try:
            answer = await self._worker.do(self._typed.line)
        finally:
            self._report.answered(echoed=terminal and answer is not None)
        if answer is None:
            self._report.tell(Note("standard input has ended, so nobody can answer: the answer is no"))
            return False
        return answer.strip().lower() in (b"y", b"yes")

    def close(self) -> None:
        """Ask nothing any more; an open question stays without an answer."""
        self._worker.stop()
