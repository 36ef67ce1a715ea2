"""How soon a transfer between two NATs begins and goes directly, for every pair of kinds that TCP can cross.

Each pair is a lab of its own with 40 ms round trip, real programs in it, and as many transfers as runs.  Times count at
the receiver from the introduction.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.benchlib.table import Failed, Row, Setting, median_row
from scripts.product import JsonEvent, Program, ProgramError
from tests.lab.namespaces import LabError
from tests.lab.nat import KINDS, PAIRS
from tests.lab.topology import Lab
from tests.scene import Scene, random_file

RTT_MS = 40
SIZE = 32 << 20
"""Long enough that the relay cannot carry all of it before a direct path is up, bytes."""
FIRST_TARGET_MS = 4 * RTT_MS + 300
DIRECT_TARGET_MS = 1000
AT_ONCE = 2
"""Pairs measured side by side; two small transfers hardly disturb each other on two cores."""


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """Two rows a pair, then the worst of all."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(lambda pair: measure(setting, *pair), PAIRS))
    yield from (row for result in results for row in result)
    good = [row for result in results for row in result if isinstance(row, Row)]
    for what, target in (("first chunk", FIRST_TARGET_MS), ("direct", DIRECT_TARGET_MS)):
        medians = [row.value for row in good if row.name.endswith(what)]
        if medians:
            yield Row(f"{len(medians)} pairs, worst median, {what}", max(medians), "ms", target)
            yield Row(f"{len(medians)} pairs, median of medians, {what}", statistics.median(medians), "ms")


def measure(setting: Setting, one: str, other: str) -> list[Row | Failed]:
    """The rows of one pair."""
    name = f"{one} + {other}"
    folder = setting.folder / name.replace("/", "-").replace(" ", "")
    folder.mkdir()
    try:
        first, direct = zip(*times(folder, one, other, setting.runs), strict=True)
    except (ProgramError, LabError) as error:
        setting.say(f"{name}: {error}")
        return [Failed(name, str(error))]
    setting.say(f"{name}: first chunk {statistics.median(first):.0f} ms, direct {statistics.median(direct):.0f} ms")
    return [
        median_row(f"{name}, first chunk", first, "ms", target=FIRST_TARGET_MS),
        median_row(f"{name}, direct", direct, "ms", target=DIRECT_TARGET_MS),
    ]


@contextlib.contextmanager
def between(folder: Path, one: str, other: str) -> Iterator[tuple[Lab, Scene]]:
    """A lab with these two kinds, and in it a server and two peers who know each other; state is kept in `folder`."""
    with Lab(KINDS[one], KINDS[other], rtt_ms=RTT_MS) as lab, Scene(lab, folder, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        yield lab, scene


def times(folder: Path, one: str, other: str, runs: int) -> Iterator[tuple[float, float]]:
    """For each transfer: milliseconds to the first chunk on any path, and to the first one on a direct path."""
    with between(folder, one, other) as (_, scene):
        source = folder / "small.bin"
        random_file(source, SIZE)
        bob = scene.receive("--no-code")
        for _ in range(runs):
            alice = scene.send(source)
            yield _read(bob)
            alice.succeed(30)
            for path in scene.inbox.glob("small*"):
                path.unlink()


def _read(bob: Program) -> tuple[float, float]:
    active: list[JsonEvent] = []
    for event in bob.events(30):
        if event["event"] == "path" and event["state"] == "active":
            active.append(event)
        elif event["event"] == "done":
            direct = [path["after_ms"] for path in active if path["path"] != "relay"]
            if not direct:
                raise ProgramError("the transfer ended without a direct path")
            return active[0]["after_ms"], direct[0]
        elif event["event"] == "error":
            raise ProgramError(f"bob: {event['message']}")
    raise ProgramError("bob ended")
