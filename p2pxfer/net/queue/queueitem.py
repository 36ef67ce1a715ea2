"""An entry of the queue as its runner knows it, and what the end of a run means for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace
from twisted.internet.defer import Deferred

from p2pxfer.core.text import safe_text
from p2pxfer.errors import ConfigError, P2pxferError, ServerUntrusted
from p2pxfer.net.queue.joblist import where_and_what
from p2pxfer.net.queue.queuerun import Run
from p2pxfer.net.queue.queuestore import MAX_WHY, Queued

PASSES: Final = (ServerUntrusted, ConfigError)
"""What is no fault of the entry, and ends when a person has mended something or the network is another one."""


@dataclass(slots=True)
class Item:
    """An entry as its file was read last, with what became of it since.

    ``noted``: the file knows; ``best``: what had been confirmed before this run; ``through``: the peer has all of it,
    or, as ``short`` says, all but files that were left out; ``lies``: where its paths lie and what they are called
    there, which takes long for many and never changes.
    """

    entry: Queued
    run: Run | None = None
    running: Deferred[None] | None = None
    noted: bool = True
    best: int = 0
    through: bool = False
    short: P2pxferError | None = None
    lies: tuple[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        """Find out what never changes."""
        self.lies = where_and_what(self.entry.paths)

    def now(self) -> Queued:
        """With how far the run has come by now; of a peer that is away, what the last one knew."""
        run = self.run
        if run is None or not run.transfer:
            return self.entry
        return replace(self.entry, transfer=run.transfer, size=run.size, acked=run.acked)


def core_name(entry: Queued) -> str:
    """What the core calls it: another one of the same number, queued later, is another one."""
    return f"{entry.number}-{entry.added}"


def passes(error: object) -> bool:
    """Whether the same run may succeed later with nothing done for it."""
    return isinstance(error, PASSES) or (isinstance(error, P2pxferError) and error.retry)


def one_line(error: object) -> str:
    """Why, in one line for people."""
    if isinstance(error, P2pxferError):
        return safe_text(error.message, MAX_WHY)
    return f"a fault inside the program ({type(error).__name__})"
