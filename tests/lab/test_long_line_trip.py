"""What the kernel takes for the shortest round trip of a long line, between hosts that no NAT hides and behind NATs."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from p2pxfer.net.session.tuning import BEARS_LOSS
from scripts.product import Program, client
from tests.lab import late_program
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.topology import Lab
from tests.scene import Scene, events_of, file_hash, last, random_file

RTT_MS = 80
WINDOW = 400_000
"""What a kernel buffers for one connection, bytes: one is not enough."""
SIZE = 24 << 20
FAST_BPS = 200_000_000
LATE_S = 0.028
"""Of 40 ms one way: the round trip that is learned is the rest of them."""
LONG_SIZE = 200 << 20
"""Far more than one connection carries before the second one is known to be good."""
SOONER_MS = 500.0
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


@pytest.mark.deadline(120)
def test_a_first_connection_that_crossed_syns_hold_back_goes_when_the_second_one_carries(
    lab_factory: LabFactory, tmp_path: Path
) -> None:
    """Between two NATs SYNs have to cross; who began first knows a seventh of the round trip, and so does ``bbr``."""
    if BEARS_LOSS not in Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split():
        pytest.skip(f"this kernel has no {BEARS_LOSS}")
    nat = KINDS["port-restricted"]
    lab = lab_factory(nat, nat, rtt_ms=RTT_MS, rate_bps=FAST_BPS, long_line=True)
    route = lab.run("alice", ["ip", "route", "show", "default"], check=True).stdout.split()
    lab.run("alice", ["ip", "route", "replace", *route, "congctl", BEARS_LOSS], check=True)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        digest = random_file(scene.folder / "big.bin", LONG_SIZE)
        words = ("receive", "--as", "bob", "--to", scene.inbox, "--once", "--no-code", "--path", "direct")
        late = [sys.executable, late_program.__file__, str(LATE_S)]
        bob = Program(lab, "bob", [*late, *client(scene.address, scene.bob, *words)[1:]], scene.folder / "bob.log")
        scene.callback(bob.stop)
        bob.wait_for("registered")
        said = events_of(scene.send(scene.folder / "big.bin", "--path", "direct"))
        bob.succeed(60)
        assert file_hash(scene.inbox / "big.bin") == digest
    paths = [(event["state"], event["local"], event["after_ms"]) for event in said if event["event"] == "path"]
    done = last(said, "done")
    print(paths, f"{done['seconds']:.1f} s")
    first = next(local for state, local, _ in paths if state == "up")
    ended = {local: after for state, local, after in paths if state == "down"}
    assert len(ended) > 1, "one connection carried all"
    assert ended[first] < min(after for local, after in ended.items() if local != first) - SOONER_MS
