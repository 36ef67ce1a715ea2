"""A transfer of this machine as people and programs are shown it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from p2pxfer.inventory import JobListed, JobState
from p2pxfer.net.queue.queuestore import Queued

UNDER_WAY: Final[frozenset[JobState]] = frozenset({"asking", "running", "waiting"})
"""Of a job that a process has in hand."""


def where_and_what(paths: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The directory in which all of these absolute paths lie, and what they are called there."""
    where = os.path.commonpath([os.path.dirname(path.rstrip("/")) or "/" for path in paths])  # noqa: PTH120  # text
    return where, tuple(os.path.relpath(path, where) for path in paths)


def moment(seconds: float) -> str:
    """A time since 1970 as text, UTC."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), 2**35), UTC).isoformat(timespec="seconds")


def queued(entry: Queued, peer: str, *, attended: bool, lies: tuple[str, tuple[str, ...]] | None = None) -> JobListed:
    """An entry of the queue; ``peer`` is what the contact is called, ``attended`` whether an agent is there.

    ``lies``: what :func:`where_and_what` says of its paths, for whoever has it.
    """
    where, names = lies or where_and_what(entry.paths)
    state: JobState = "queued"
    if entry.failed:
        state = "failed"
    elif entry.paused:
        state = "paused"
    elif entry.running and attended:
        state = "asking" if entry.asking else "running"
    return JobListed(
        entry.number, "send", peer, names, entry.acked, entry.size, where, moment(entry.changed), state,
        entry.priority, entry.why,
    )  # fmt: skip
