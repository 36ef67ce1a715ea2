"""What the search for a direct path costs a transfer that has to stay on the relay, for pairs that cannot be punched.

The same file goes through the relay of the same lab, in turn with a search beside it and without one.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

from scripts.benchlib.pairs import RTT_MS, between
from scripts.benchlib.table import Failed, Row, Setting, median_row
from scripts.product import ProgramError
from tests.lab.namespaces import LabError
from tests.scene import Scene, events_of, last, random_file

HOPELESS = (("symmetric", "symmetric"), ("port-restricted/no-simo", "port-restricted/no-simo"))
"""Two NATs that draw ports at random, and two that let no crossing SYN through."""
MOST = 1.05
"""The most that a transfer beside a search may take of the time of one without."""
SIZE = 512 << 20
MOST_SYNS = 4000


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """Three rows a pair: the seconds without a search, the share of them with one, the SYNs of the search."""
    for one, other in HOPELESS:
        folder = setting.folder / f"{one}+{other}".replace("/", "-")
        folder.mkdir()
        try:
            yield from measure(setting, folder, one, other)
        except (ProgramError, LabError) as error:
            yield Failed(f"relayed, {one} + {other}", str(error))


def measure(setting: Setting, folder: Path, one: str, other: str) -> Iterable[Row | Failed]:
    """The rows of one pair."""
    name = f"relayed {SIZE >> 20} MiB, {RTT_MS} ms, {one} + {other}"
    seconds: dict[str, list[float]] = {"relay": [], "auto": []}
    with between(folder, one, other) as (lab, scene):
        source = folder / "big.bin"
        random_file(source, SIZE)
        scene.receive("--no-code")
        before = lab.syns_sent("alice").elsewhere
        for number in range(setting.runs):
            for policy, times in seconds.items():
                times.append(copy(scene, source, policy))
                setting.say(f"run {number + 1} of {setting.runs}: {one} + {other}, {policy} {times[-1]:.2f} s")
        syns = (lab.syns_sent("alice").elsewhere - before) / setting.runs
    with_search, without = (statistics.median(seconds[policy]) for policy in ("auto", "relay"))
    yield median_row(f"{name}, no search", seconds["relay"], "s")
    yield Row(f"{name}, time with a search : without", with_search / without, "", MOST)
    yield Row(f"{name}, SYNs of one side's search", syns, "", MOST_SYNS)


def copy(scene: Scene, source: Path, policy: str) -> float:
    """Send the file with this policy; seconds from the introduction to the end. Raises `ProgramError`."""
    alice = scene.send(source, "--path", policy)
    events = events_of(alice)
    alice.succeed(60)
    done = last(events, "done")
    if set(done["bytes_by_path"]) != {"relay"}:
        raise ProgramError("it did not stay on the relay")
    for path in scene.inbox.glob("big*"):
        path.unlink()
    return float(done["t"]) - float(last(events, "introduced")["t"])
