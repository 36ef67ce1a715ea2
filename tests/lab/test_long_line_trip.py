"""What the kernel takes for the shortest round trip of a long line between two hosts that no NAT hides."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.topology import Lab
from tests.scene import Scene, file_hash, random_file

RTT_MS = 80
WINDOW = 400_000
"""What a kernel buffers for one connection, bytes: one is not enough."""
SIZE = 24 << 20
CARRIED = 128 << 10
"""Bytes that a connection for data has moved, and the one to the server never does."""


def shortest_trips(lab: Lab, role: str) -> dict[str, float]:
    """Of the connections that carried data, by local and remote end, milliseconds."""
    said = lab.run(role, ["ss", "-tinH"], check=True).stdout
    found = re.findall(r"ESTAB\s+\d+\s+\d+\s+(\S+\s+\S+)\s(.*?minrtt:[\d.]+)", said, re.DOTALL)
    trips: dict[str, float] = {}
    for ends, facts in found:
        acked, trip = re.search(r"bytes_acked:(\d+)", facts), re.search(r"minrtt:([\d.]+)", facts)
        if acked and trip and int(acked[1]) > CARRIED:
            trips[ends] = float(trip[1])
    return trips


@pytest.mark.deadline(120)
def test_the_kernel_knows_the_round_trip_of_every_connection(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Of SYNs that cross it learns a part of it, by which ``bbr`` sets its window."""
    lab = lab_factory(None, None, rtt_ms=RTT_MS, tcp_window=WINDOW)
    seen: dict[str, float] = {}
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        digest = random_file(scene.folder / "big.bin", SIZE)
        bob = scene.receive("--once", "--no-code", "--path", "direct")
        alice = scene.send(scene.folder / "big.bin", "--path", "direct")
        while alice.poll() is None:
            seen |= shortest_trips(lab, "alice")
            time.sleep(0.1)
        alice.succeed(60)
        bob.succeed(60)
        assert file_hash(scene.inbox / "big.bin") == digest
    print(seen)
    assert len(seen) > 1, "one connection carried all"
    assert all(trip > 0.9 * RTT_MS for trip in seen.values()), seen
