"""A long line whose kernel paces by a model (``bbr``), with a send buffer that is smaller than what its beginning would
have under way: the pace comes down to what the line delivers."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from p2pxfer.net.session.tuning import BEARS_LOSS
from tests.lab.conftest import LabFactory
from tests.lab.topology import Lab
from tests.scene import Scene, file_hash, random_file

RATE_BPS, RTT_MS = 40_000_000, 80
BUFFER = "4096 16384 786432"
"""Bytes that a kernel takes to send: twice the line's, and less than 2.9 times it."""
SIZE = 48 << 20
BEGINNING = 2.0
"""``bbr`` begins at 2.9 times what is delivered; later it looks for a quarter more."""
WINDOWS = 8


def paces(lab: Lab) -> list[tuple[int, float]]:
    """Bytes acknowledged and pace, bits a second, of alice's connections that moved a MiB."""
    said = lab.run("alice", ["ss", "-tinH"], check=True).stdout
    found = re.findall(r"bytes_acked:(\d+).*?pacing_rate (\d+)bps", said)
    return [(int(acked), float(pace)) for acked, pace in found if int(acked) > 1 << 20]


@pytest.mark.deadline(300)
def test_the_pace_is_what_the_line_delivers(lab_factory: LabFactory, tmp_path: Path) -> None:
    if BEARS_LOSS not in Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split():
        pytest.skip(f"this kernel has no {BEARS_LOSS}")
    lab = lab_factory(None, None, rtt_ms=RTT_MS, rate_bps=RATE_BPS, long_line=True)
    route = lab.run("alice", ["ip", "route", "show", "default"], check=True).stdout.split()
    lab.run("alice", ["ip", "route", "replace", *route, "congctl", BEARS_LOSS], check=True)
    lab.sysctl("alice", "net/ipv4/tcp_wmem", BUFFER)
    source = tmp_path / "source.bin"
    digest = random_file(source, SIZE)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        bob = scene.receive("--once", "--no-code")
        alice = scene.send(source, "--path", "direct")
        fast = settled = 0
        while alice.poll() is None and settled < WINDOWS:
            for _, pace in paces(lab):
                fast += pace > BEGINNING * RATE_BPS
                settled = settled + 1 if pace <= BEGINNING * RATE_BPS else 0
            time.sleep(0.1)
        alice.succeed(120)
        bob.succeed(120)
        assert file_hash(scene.inbox / source.name) == digest
    print(f"{fast} times as in its beginning, then {settled} times as the line")
    assert settled == WINDOWS
