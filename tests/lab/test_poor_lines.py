"""Lines that lose a fifth of all packets, that take no packet of more than 576 bytes, or carry 64 kbit/s."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.lab import plan
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.sending import MIB, Sending, Watch
from tests.lab.topology import Lab
from tests.scene import last

KIND = "port-restricted/random-port"
KIB = 1 << 10
SMALLEST_MTU = 576
"""What every host of the Internet must take, and some links take no more."""
SNMP = Path("/proc/thread-self/net/snmp")
SILENT_S = 120.0
"""Longest time in which a program may say nothing here, seconds."""


def lose(lab: Lab, percent: int) -> None:
    """In each direction between any two places of the network so many of a hundred packets vanish, drawn by chance."""
    lab.block("pub", f"numgen random mod 100 < {percent} counter")


def lost(lab: Lab) -> int:
    """How many packets vanished."""
    listed = lab.run("pub", ["nft", "list", "ruleset"], check=True).stdout
    return sum(map(int, re.findall(r"counter packets (\d+) .*drop", listed)))


def narrow(lab: Lab) -> None:
    """Alice's line takes small packets only, and says so to who sends larger ones."""
    lab.ip("nat_a", f"link set wan mtu {SMALLEST_MTU}\n")
    lab.ip("pub", f"link set {plan.PUB_PORT['nat_a']} mtu {SMALLEST_MTU}\n")


def too_large(lab: Lab) -> int:
    """How many packets were turned away at both ends of that line."""
    found = 0
    for role in ("nat_a", "pub"):
        with lab.entered(role):
            names, numbers = (line.split()[1:] for line in SNMP.read_text().splitlines() if line.startswith("Ip: "))
        found += int(dict(zip(names, numbers, strict=True))["FragFails"])
    return found


def is_monotone(watch: Watch) -> bool:
    """Whether what a program says of its progress never falls."""
    counts = [int(event["bytes"]) for _, event in watch.seen if event["event"] == "progress"]
    return all(one <= other for one, other in pairwise(counts))


@pytest.mark.deadline(300)
@pytest.mark.parametrize(
    ("size", "percent", "mtu", "rate"),
    [
        pytest.param(512 * KIB, 20, False, 8_000_000, id="a fifth is lost"),
        pytest.param(2 * MIB, 0, True, 0, id="small packets"),
        pytest.param(32 * KIB, 0, False, 64_000, marks=pytest.mark.soak, id="64 kbit"),
        pytest.param(16 * MIB, 20, False, 8_000_000, marks=pytest.mark.soak, id="a fifth is lost, longer"),
        pytest.param(16 * MIB, 5, False, 8_000_000, marks=pytest.mark.soak, id="a twentieth is lost"),
        pytest.param(256 * KIB, 5, True, 64_000, marks=pytest.mark.soak, id="all of it"),
    ],
)
def test_f40_it_completes(
    lab_factory: LabFactory, tmp_path: Path, size: int, percent: int, mtu: bool, rate: int
) -> None:
    lab = lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=40 if rate else 0, rate_bps=rate)
    if percent:
        lose(lab, percent)
    if mtu:
        narrow(lab)
    with Sending(lab, tmp_path, size, silence=SILENT_S) as sending:
        began = time.monotonic()
        said, _ = sending.arrives()
        taken = time.monotonic() - began
        downs = [event["why"] for event in said if event["event"] == "path" and event["state"] == "down"]
        print(f"{taken:.1f} s; {last(said, 'done')['bytes_by_path']}; paths that ended: {downs}")
        print(f"{lost(lab)} packets vanished, {too_large(lab)} were too large")
        assert is_monotone(sending.sender)
        assert is_monotone(sending.receiver)
        assert lost(lab) >= size * percent // 100 // 2000
        assert bool(lost(lab)) == bool(percent)
        assert bool(too_large(lab)) == mtu
        assert not rate or taken > size * 8 / rate
