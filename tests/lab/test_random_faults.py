"""Many faults, drawn at random, in one transfer between two homes: the file is right, and no fault costs much.

The receiver's disk is slow, so that every fault falls into the transfer, at a fraction of the file that is drawn too.
Nobody does anything but start a program again that was killed.  A seed that failed is replayed with the same seed; what
the network does in between is not drawn.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import MIB, Watch, end_of, staging_of
from tests.lab.conftest import LabFactory
from tests.lab.faultscene import NAME, REFETCHED, FaultScene
from tests.lab.nat import KINDS
from tests.lab.topology import Lab
from tests.scene import last

KIND = "port-restricted/random-port"


FAULTS: list[Callable[[FaultScene], None]] = [
    FaultScene.sender_killed, FaultScene.receiver_killed, FaultScene.server_killed, FaultScene.connections_reset,
    FaultScene.line_cut, FaultScene.nat_forgets, FaultScene.nat_moves, FaultScene.host_moves,
    FaultScene.program_stopped,
]  # fmt: skip


def check(lab: Lab, folder: Path, size: int, faults: int, seed: int, chunk_ms: int, longest: float) -> None:
    """One transfer with so many faults."""
    with FaultScene(lab, folder, size, seed, chunk_ms, longest) as world:
        points = sorted(world.draw.uniform(0.02, 0.9) for _ in range(faults))
        with Watch(world.inbox, NAME, world.digest) as watch:
            for point in points:
                if not world.until_written(point * size):
                    print(f"through before {point:.2f}")
                    break
                fault = world.draw.choice(FAULTS)
                began = time.monotonic()
                fault(world)
                print(f"at {point:.2f} {fault.__name__} for {time.monotonic() - began:.1f} s")
            (status, received), (other, sent) = end_of(world.receiving, 120), end_of(world.sending, 120)
            assert (status, other) == (0, 0), (received[-5:], sent[-5:])
            watch.look()
            assert watch.seen
        again = world.arrived - size
        print(f"{again / MIB:.1f} MiB came twice; paths at last: {last(received, 'done')['bytes_by_path']}")
        assert again <= faults * REFETCHED
        assert [path.name for path in world.inbox.iterdir() if path not in staging_of(world.inbox)] == [NAME]
    shutil.rmtree(world.inbox)
    world.source.unlink()


@pytest.mark.deadline(300)
@pytest.mark.parametrize("seed", [3, 196])
def test_a_few_random_faults(lab_factory: LabFactory, tmp_path: Path, seed: int) -> None:
    check(lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=0), tmp_path, 96 * MIB, 4, seed, 10, 3.0)


@pytest.mark.soak
@pytest.mark.deadline(1200)
@pytest.mark.parametrize("seed", range(100, 120))
def test_ten_random_faults(lab_factory: LabFactory, tmp_path: Path, seed: int) -> None:
    check(lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=0), tmp_path, 1024 * MIB, 10, seed, 60, 30.0)
