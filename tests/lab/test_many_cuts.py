"""Every TCP connection of both hosts is reset, at many random moments of one transfer: what each cut costs.

What is fetched again is counted on the receiver's line, so that what was under way or lay in the kernels counts too.
"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from scripts.product import Program
from tests.e2e.conftest import MIB, fast_folder, staging_of
from tests.lab.conftest import LabFactory
from tests.lab.faultscene import REFETCHED, FaultScene
from tests.lab.nat import KINDS
from tests.scene import file_hash, last

KIND = "port-restricted/random-port"
RATE = "48M"
"""What holds the transfer up, so that every cut falls into it."""
HEADERS = 0.01
"""Least that headers, acknowledgements and what else is said add to the data; they are not data that came twice."""
TRIES = 4
"""Most introductions a cut, of which the second and later ones follow pauses."""


class Cuts(FaultScene):
    """A transfer whose connections are reset, and what was on the receiver's line and disk at each cut."""

    def start_sender(self) -> Program:
        """One that a limit holds up."""
        program = self.send(self.source, "--wait", "--limit", RATE)
        program.wait_for("registered")
        return program

    @property
    def on_disk(self) -> int:
        """Bytes of the file that are written, at the cost of a look at its size."""
        staged = self.inbox.glob(f".p2pxfer-*/tree/{self.source.name}")
        return sum(path.stat().st_blocks * 512 for path in staged)

    def cut(self) -> tuple[int, int, int]:
        """Reset every connection of both hosts.

        Returns how many ends that were, what the receiver's line has carried until then, and what of it is written.
        """
        listing = ["ss", "-K", "-H", "-t", "state", "established"]
        ends = sum(len(self.lab.run(role, listing, check=True).stdout.splitlines()) for role in ("alice", "bob"))
        return ends, self.lab.link_bytes("bob"), self.written()

    def written(self) -> int:
        """What is on the disk when everything is there that the receiver had read; another path is not there yet."""
        seen, since = self.on_disk, time.monotonic()
        deadline = since + 3.0
        while time.monotonic() < min(since + 0.2, deadline):
            time.sleep(0.01)
            if (now := self.on_disk) != seen:
                seen, since = now, time.monotonic()
        return seen


def check(lab_factory: LabFactory, folder: Path, size: int, cuts: int, seed: int) -> None:
    """One transfer with so many cuts."""
    lab = lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=20)
    with Cuts(lab, folder, size, seed, 0, 0.0) as world:
        marks, ended = [(lab.link_bytes("bob"), 0)], []
        for point in sorted(world.draw.uniform(0.02, 0.95) for _ in range(cuts)):
            # A cut costs something only where data flows again since the last one.
            assert world.until_written(max(point * size, marks[-1][1] + 1)), f"it was through before {point:.2f}"
            ends, line, written = world.cut()
            ended.append(ends)
            marks.append((line, written))
        world.sending.succeed(120)
        world.receiving.succeed(20)
        marks.append((lab.link_bytes("bob"), size))
        said = list(world.sending.events(10))
        assert file_hash(world.inbox / world.source.name) == world.digest
        assert not staging_of(world.inbox)
    again = [
        (line - before - (1 + HEADERS) * (written - earlier)) / MIB
        for (before, earlier), (line, written) in pairwise(marks)
    ]
    introduced = [event["event"] for event in said].count("introduced")
    print(f"ends of connections that were reset: {ended}; {introduced} introductions")
    print("MiB that came twice for each cut:", *(f"{mib:.1f}" for mib in again))
    print(f"{sum(again):.1f} MiB in all; paths {last(said, 'done')['bytes_by_path']}")
    assert all(ended)
    assert max(again) <= REFETCHED / MIB
    assert world.arrived - size <= REFETCHED
    assert introduced <= TRIES * (cuts + 1)


@pytest.mark.deadline(120)
def test_f32_every_connection_is_reset_again_and_again(lab_factory: LabFactory) -> None:
    with fast_folder() as folder:
        check(lab_factory, folder, 128 * MIB, 5, 1)


@pytest.mark.soak
@pytest.mark.deadline(1500)
def test_f32_fifty_cuts_in_a_gibibyte(lab_factory: LabFactory) -> None:
    with fast_folder() as folder:
        check(lab_factory, folder, 1024 * MIB, 50, 2)
