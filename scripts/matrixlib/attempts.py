"""Runs of one pair: a lab and a server for all of them; in each run two new programs, a small file, and no relay."""

from __future__ import annotations

import contextlib
import itertools
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.matrixlib.homes import RTT_MS, lab_of
from scripts.matrixlib.results import Attempt, Pair
from scripts.product import Program, ProgramError
from tests.lab.namespaces import LabError
from tests.lab.topology import Lab
from tests.scene import Scene, file_hash, random_file

SIZE = 256 << 10
"""Bytes of the file."""
LIMIT = 60.0
"""Seconds that the sender may take; it gives up by itself long before."""

__all__ = ["LIMIT", "RTT_MS", "SIZE", "attempts"]

FAULTS = (ProgramError, LabError, OSError)


def attempts(pair: Pair) -> Iterator[Attempt]:
    """Run the pair again and again, as often as asked.  What goes wrong, wherever, is the reason of a failed run.

    Between runs the NATs forget everything.  Both programs are started anew in each, on fresh ports: they would not
    make many dials for one peer twice in ten minutes.  So runs do not depend on each other.  A lab that cannot be
    built is a failed run, and the next one builds another.
    """
    while True:
        try:
            with built(pair) as (lab, scene):
                for number in itertools.count():
                    yield attempt(pair, lab, scene, f"small-{number}.bin")
                    for router in lab.kinds:
                        lab.flush_nat(router)
        except FAULTS as error:
            yield Attempt(*pair, None, None, reason(error))


@contextlib.contextmanager
def built(pair: Pair) -> Iterator[tuple[Lab, Scene]]:
    """A lab with the two homes, and in it a server and two peers who know each other."""
    with (
        tempfile.TemporaryDirectory(prefix="p2pxfer-matrix-") as folder,
        lab_of(pair) as lab,
        Scene(lab, Path(folder), loopback=False) as scene,
    ):
        scene.start_server()
        scene.make_contacts()
        yield lab, scene


def attempt(pair: Pair, lab: Lab, scene: Scene, name: str) -> Attempt:
    """One run, with a file of this name.  Raises `LabError` and `OSError` if the lab itself is at fault."""
    before = syns_of(lab)
    ms, why = None, ""
    # What this run starts ends with it.
    with contextlib.ExitStack() as programs:
        try:
            ms = transfer(scene, name, programs)
        except ProgramError as error:
            why = reason(error)
        after = syns_of(lab)
    return Attempt(*pair, ms, (after[0] - before[0], after[1] - before[1]), why)


def transfer(scene: Scene, name: str, programs: contextlib.ExitStack) -> float:
    """Move a file; milliseconds from the introduction to the nominated path.  Raises `ProgramError`."""
    source = scene.folder / name
    digest = random_file(source, SIZE)
    bob = scene.receive("--no-code", "--once", "--path", "direct")
    programs.callback(bob.stop)
    alice = scene.send(source, "--path", "direct")
    programs.callback(alice.stop)
    ms = nominated(alice)
    bob.succeed(LIMIT)
    if file_hash(scene.inbox / name) != digest:
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
    """SYNs of sender and receiver so far, without those to the server."""
    return lab.syns_sent("alice").elsewhere, lab.syns_sent("bob").elsewhere


def reason(error: Exception) -> str:
    """The first line of an error, without what differs from run to run."""
    lines = str(error).splitlines()
    text = re.sub(r" \(\d+ SYNs from here\)", "", lines[0].strip()) if lines else ""
    return text or type(error).__name__
