"""A long line whose kernel paces by a model (``bbr``), with a send buffer that is smaller than what its beginning would
have under way: the pace comes down to what the line delivers."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from p2pxfer.net.session.tuning import BEARS_LOSS
from scripts.product import Program
from tests.e2e.conftest import wait_until
from tests.lab.conftest import LabFactory
from tests.lab.topology import Lab
from tests.scene import Scene, file_hash, random_file

RATE_BPS, RTT_MS = 40_000_000, 80
BUFFER = "4096 16384 786432"
"""Bytes that a kernel takes to send: twice the line's, and less than 2.9 times it."""
SIZE = 64 << 20
SHUT_S = 2.5
"""A cap takes two windows of half a second."""
CAPS = (0.25, 2.0)
"""Between these, times the line's rate: the cap is a quarter more than ever came, and ``bbr`` begins at 2.9 times."""


class Pace(NamedTuple):
    """Of one connection, bits a second; ``cap`` is 0 if there is none."""

    pace: float
    cap: float


def paces(lab: Lab) -> list[Pace]:
    """Of alice's connections that moved a MiB."""
    said = lab.run("alice", ["ss", "-tinH"], check=True).stdout
    found = re.findall(r"bytes_acked:(\d+).*?pacing_rate (\d+)bps(?:/(\d+)bps)?", said)
    return [Pace(float(pace), float(cap or 0)) for acked, pace, cap in found if int(acked) > 1 << 20]


@contextlib.contextmanager
def long_line(lab_factory: LabFactory, folder: Path, size: int) -> Iterator[tuple[Lab, Program, Program]]:
    """Alice, who sends a file of ``size``, and bob; the file arrives as it is."""
    if BEARS_LOSS not in Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split():
        pytest.skip(f"this kernel has no {BEARS_LOSS}")
    lab = lab_factory(None, None, rtt_ms=RTT_MS, rate_bps=RATE_BPS, long_line=True)
    route = lab.run("alice", ["ip", "route", "show", "default"], check=True).stdout.split()
    lab.run("alice", ["ip", "route", "replace", *route, "congctl", BEARS_LOSS], check=True)
    lab.sysctl("alice", "net/ipv4/tcp_wmem", BUFFER)
    source = folder / "source.bin"
    digest = random_file(source, size)
    with Scene(lab, folder, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        bob = scene.receive("--once", "--no-code")
        alice = scene.send(source, "--path", "direct")
        yield lab, alice, bob
        alice.succeed(120)
        bob.succeed(120)
        assert file_hash(scene.inbox / source.name) == digest


def watch(lab: Lab, alice: Program) -> list[Pace]:
    """What the kernel says until she has sent all."""
    seen: list[Pace] = []
    while alice.poll() is None:
        seen += paces(lab)
        time.sleep(0.1)
    return seen


@pytest.mark.deadline(300)
def test_the_pace_is_what_the_line_delivers(lab_factory: LabFactory, tmp_path: Path) -> None:
    with long_line(lab_factory, tmp_path, SIZE) as (lab, alice, _):
        seen = watch(lab, alice)
    free = [pace for pace, cap in seen if not cap]
    capped = [one for one in seen if one.cap]
    print(f"{len(free)} times without a cap, at most {max(free, default=0):.3g}; then {capped[:1]} to {capped[-1:]}")
    assert capped, "the pace has no cap"
    assert max(free, default=0) > max(cap for _, cap in capped), "the cap holds up nothing"
    assert all(CAPS[0] * RATE_BPS < cap < CAPS[1] * RATE_BPS for _, cap in capped), capped
    assert all(pace <= cap for pace, cap in capped), capped


@pytest.mark.deadline(300)
def test_a_receiver_that_is_behind_at_the_beginning_has_no_line_capped(lab_factory: LabFactory, tmp_path: Path) -> None:
    """What trickled through a shut window is not what the line delivers."""
    with long_line(lab_factory, tmp_path, SIZE // 4) as (lab, alice, bob):
        assert any(event["event"] == "path" and event["state"] == "active" for event in alice.events(30))
        os.kill(bob.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: shut_for(lab) > SHUT_S, 30)
        finally:
            os.kill(bob.pid, signal.SIGCONT)
        seen = watch(lab, alice)
    assert [one for one in seen if 0 < one.cap < CAPS[0] * RATE_BPS] == []


def shut_for(lab: Lab) -> float:
    """How long a window was shut to alice, seconds."""
    said = lab.run("alice", ["ss", "-tinH"], check=True).stdout
    return max((int(each) for each in re.findall(r"rwnd_limited:(\d+)ms", said)), default=0) / 1000
