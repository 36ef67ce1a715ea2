"""One run of one pair: a lab, a server, two programs, a small file, and no relay."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from scripts.benchlib.pairs import RTT_MS, between
from scripts.matrixlib.results import Attempt, Pair
from scripts.product import Program, ProgramError
from tests.lab.namespaces import LabError
from tests.lab.topology import Lab
from tests.scene import Scene, file_hash, random_file

SIZE = 256 << 10
"""Bytes of the file."""
LIMIT = 60.0
"""Seconds that the sender may take; it gives up by itself long before."""

__all__ = ["LIMIT", "RTT_MS", "SIZE", "attempt"]


def attempt(pair: Pair) -> Attempt:
    """Run it.  What goes wrong, in whatever part, is the reason of a failed attempt.

    Everything is made anew: keys, contacts, ports and the NATs' memory.  So runs do not depend on each other, and
    no limit on repeated attempts of one pair of peers applies.
    """
    syns: tuple[int, int] | None = None
    try:
        with (
            tempfile.TemporaryDirectory(prefix="p2pxfer-matrix-") as folder,
            between(Path(folder), *pair) as (lab, scene),
        ):
            try:
                ms = transfer(scene)
            finally:
                syns = syns_of(lab)
    except (ProgramError, LabError, OSError) as error:
        return Attempt(*pair, None, syns, reason(error))
    return Attempt(*pair, ms, syns)


def transfer(scene: Scene) -> float:
    """Move a file; milliseconds from the introduction to the nominated path.  Raises `ProgramError`."""
    source = scene.folder / "small.bin"
    digest = random_file(source, SIZE)
    bob = scene.receive("--no-code", "--once", "--path", "direct")
    ms = nominated(scene.send(source, "--path", "direct"))
    bob.succeed(LIMIT)
    if file_hash(scene.inbox / source.name) != digest:
        raise ProgramError("what arrived is not what was sent")
    return ms


def nominated(alice: Program) -> float:
    """When the sender's first direct path stood, read when she is done.  Raises `ProgramError`."""
    deadline = time.monotonic() + LIMIT
    first: float | None = None
    for event in alice.events(LIMIT):
        match event["event"]:
            case "path" if event["state"] == "up" and event["path"] != "relay" and first is None:
                first = float(event["after_ms"])
            case "error":
                raise ProgramError(str(event["message"]))
            case "done" if first is not None:
                return first
        if time.monotonic() > deadline:
            raise ProgramError(f"the sender did not end within {LIMIT:g} s")
    raise ProgramError("the sender ended without a direct path")


def syns_of(lab: Lab) -> tuple[int, int]:
    """SYNs of sender and receiver, without those to the server."""
    return lab.syns_sent("alice").elsewhere, lab.syns_sent("bob").elsewhere


def reason(error: Exception) -> str:
    """The first line of an error, without what differs from run to run."""
    lines = str(error).splitlines()
    return lines[0].strip() if lines and lines[0].strip() else type(error).__name__
