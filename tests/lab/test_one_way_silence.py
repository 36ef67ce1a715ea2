"""A line that lets packets through in one direction only, and tells nobody: for a while, for long, and for ever.

Both directions are tried, side by side: what each of them takes is mostly waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest

from p2pxfer.errors import Incomplete
from scripts.product import JsonEvent
from tests.e2e.conftest import staging_of, wait_until
from tests.lab.conftest import LabFactory
from tests.lab.faults import Way
from tests.lab.nat import KINDS
from tests.lab.sending import MIB, Sending, Watch, has_come, path_is
from tests.lab.topology import Lab
from tests.scene import file_hash, last

KIND = "port-restricted/random-port"
SIZE = 24 * MIB
RATE = "4M"
"""What holds the transfer up, so that it is under way when the line falls silent."""
TWICE = 16 * MIB
"""Most bytes that come twice: what was under way."""
NOTICED_S = 60.0
"""Within what time both ends must know, seconds; it is usually two or three."""
BACK_S = 60.0
"""Within what time data must come again when the line is whole: the longest pause, twice."""
GIVEN_UP_S = 8
"""`--timeout` of a sender whose line stays silent."""


def both_ways(lab_factory: LabFactory, folder: Path, shown: Callable[[Lab, Path, Way], None]) -> None:
    """Show the same of each direction, in a lab of its own."""
    ways: tuple[Way, ...] = get_args(Way)
    labs = {way: lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=20) for way in ways}
    with ThreadPoolExecutor(len(ways)) as pool:
        running = []
        for way, lab in labs.items():
            (folder / way).mkdir()
            running.append(pool.submit(shown, lab, folder / way, way))
        for each in running:
            each.result()


def is_down(event: JsonEvent) -> bool:
    """Whether an event says that a path is gone."""
    return bool(event["event"] == "path" and event["state"] == "down")


def fall_silent(lab: Lab, sending: Sending, way: Way) -> float:
    """Cut the sender's line in one direction when data flows on a punched path; returns when that was."""
    sending.receiver.until(path_is("punched", "active"))
    sending.receiver.until(has_come(SIZE // 4))
    assert sending.sender.program.poll() is None
    lab.cut("alice", way=way)
    return time.monotonic()


def after(watch: Watch, moment: float, wanted: Callable[[JsonEvent], bool]) -> list[float]:
    """Seconds from ``moment`` to each event that is wanted and came later."""
    return [at - moment for at, event in list(watch.seen) if at > moment and wanted(event)]


def silent_for(seconds: float, *words: str) -> Callable[[Lab, Path, Way], None]:
    """The line is silent for so long, and then whole again; ``words`` are for the sender."""

    def shown(lab: Lab, folder: Path, way: Way) -> None:
        with Sending(lab, folder, SIZE, "--limit", RATE, *words, silence=seconds + 2 * BACK_S) as sending:
            moment = fall_silent(lab, sending, way)
            for watch in (sending.sender, sending.receiver):
                wait_until(lambda: after(watch, moment, is_down), min(seconds, NOTICED_S))  # noqa: B023  # in this turn
            noticed = [min(after(watch, moment, is_down)) for watch in (sending.sender, sending.receiver)]
            # The time itself is what is shown.
            time.sleep(moment + seconds - time.monotonic())
            lab.restore("alice")
            whole = time.monotonic()
            said, heard = sending.arrives()
            again = after(sending.receiver, whole, lambda event: event["event"] == "progress")
            # What the sender counts: the receiver of a long silence lets the place go, and begins to count anew.
            carried = sum(last(said, "done")["bytes_by_path"].values())
            print(
                f"{way}: noticed after {noticed[0]:.1f} and {noticed[1]:.1f} s, data again {again[0]:.1f} s after"
                f" {seconds:g} s of silence, {(carried - SIZE) / MIB:.1f} MiB twice"
            )
            assert again[0] < BACK_S
            assert SIZE <= carried < SIZE + TWICE
            assert sum(last(heard, "done")["bytes_by_path"].values()) < SIZE + TWICE

    return shown


def silent_for_ever(lab: Lab, folder: Path, way: Way) -> None:
    """The sender gives up in time and says so; the receiver keeps what came, and the next run goes on with it."""
    with Sending(lab, folder, SIZE, "--limit", RATE, "--path", "direct", "--timeout", str(GIVEN_UP_S)) as sending:
        moment = fall_silent(lab, sending, way)
        said = sending.sender.rest()
        gave_up = time.monotonic() - moment
        error = last(said, "error")
        print(f"{way}: given up after {gave_up:.1f} s: {error['message']}")
        assert sending.sender.program.wait(10).status == Incomplete.exit_code
        assert (error["code"], error["retry"]) == (Incomplete.word, True)
        assert f"{GIVEN_UP_S} seconds" in error["message"]
        assert GIVEN_UP_S <= gave_up < GIVEN_UP_S + NOTICED_S
        assert sending.receiver.program.poll() is None
        assert staging_of(sending.inbox)
        kept = max(int(event["bytes"]) for _, event in list(sending.receiver.seen) if event["event"] == "progress")
        lab.restore("alice")
        rerun = sending.send(sending.source)
        said = list(rerun.events(60))
        rerun.succeed(10)
        sending.receiver.rest()
        assert file_hash(sending.inbox / sending.source.name) == sending.digest
        carried = sum(last(said, "done")["bytes_by_path"].values())
        print(f"{way}: {kept / MIB:.1f} MiB were kept, {carried / MIB:.1f} came with the next run")
        assert carried <= SIZE - kept + MIB


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        pytest.param(5, (), marks=pytest.mark.deadline(150)),
        pytest.param(30, (), marks=[pytest.mark.deadline(200), pytest.mark.soak]),
        pytest.param(300, ("--timeout", "600"), marks=[pytest.mark.deadline(600), pytest.mark.soak]),
    ],
)
def test_f33_a_line_that_is_silent_one_way_for_a_while(
    lab_factory: LabFactory, tmp_path: Path, seconds: int, words: tuple[str, ...]
) -> None:
    """Both ends notice, and the transfer goes on by itself; for longer than a minute the sender must be told to."""
    both_ways(lab_factory, tmp_path, silent_for(seconds, *words))


@pytest.mark.deadline(150)
def test_f33_a_line_that_is_silent_one_way_for_ever(lab_factory: LabFactory, tmp_path: Path) -> None:
    both_ways(lab_factory, tmp_path, silent_for_ever)
