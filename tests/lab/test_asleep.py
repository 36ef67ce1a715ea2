"""A machine that falls asleep in the middle of a transfer and wakes up when nobody in between knows it any more."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from p2pxfer.net.connection.liveness import PATH
from scripts.product import JsonEvent, Program
from tests.e2e.conftest import wait_until
from tests.lab.conftest import LabFactory
from tests.lab.habits import QUIET_S, shorten_memory
from tests.lab.nat import KINDS
from tests.lab.sending import MIB, Sending, path_is
from tests.lab.topology import Lab
from tests.scene import last

SIZE = 40 * MIB
RATE = "4M"
"""What holds the transfer up: it is under way when the machine falls asleep, and not over before they meet again."""
KIND = "port-restricted/random-port"
TWICE = 16 * MIB
"""Most bytes that come twice: what was under way."""
NAP_S = 22
"""Longer than a peer may be silent, and than the NATs here remember a connection, seconds."""
SHORT_S = 3
"""What a kernel that gets no answer repeats keeps a memory awake; soon it waits longer than this, seconds."""
WAIT_S = 60.0
"""For what takes a few seconds, on a machine that is busy with other work."""
NIGHT_S = 600


def known_flows(lab: Lab, router: str) -> int:
    """How many connections a NAT remembers in which data may still flow."""
    shown = lab.run(router, ["conntrack", "-L", "-p", "tcp"], check=True).stdout
    return shown.count("ESTABLISHED")


def sleep_and_wake(lab: Lab, role: str, program: Program, seconds: float) -> None:
    """The machine stands still and its packets stay away, until its NAT has forgotten it and the time is over."""
    router = {"alice": "nat_a", "bob": "nat_b"}[role]
    shorten_memory(lab, router, SHORT_S)
    os.kill(program.pid, signal.SIGSTOP)
    lab.cut(role)
    began = time.monotonic()
    wait_until(lambda: not known_flows(lab, router), seconds + 60)
    print(f"{router} has forgotten {role} after {time.monotonic() - began:.0f} s")
    # The time itself is what is shown.
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    shorten_memory(lab, router)
    lab.restore(role)
    os.kill(program.pid, signal.SIGCONT)


def ups(said: list[JsonEvent]) -> list[str]:
    """The kinds of the paths that came up."""
    return [event["path"] for event in list(said) if event["event"] == "path" and event["state"] == "up"]


def transfer(lab: Lab, folder: Path, sleeper: str, seconds: float) -> tuple[list[JsonEvent], list[JsonEvent]]:
    """What the sender and the receiver say of a transfer in which one of them sleeps."""
    for router in ("nat_a", "nat_b"):
        shorten_memory(lab, router)
    with Sending(lab, folder, SIZE, "--wait", "--limit", RATE, silence=seconds + 60) as sending:
        staged = f".p2pxfer-*/tree/{sending.source.name}"
        wait_until(lambda: sum(path.stat().st_blocks * 512 for path in sending.inbox.glob(staged)) > SIZE // 8, WAIT_S)
        sending.sender.until(path_is("punched", "up"), WAIT_S)
        watch = {"alice": sending.sender, "bob": sending.receiver}[sleeper]
        sleep_and_wake(lab, sleeper, watch.program, seconds)
        return sending.arrives()


def check(said: list[JsonEvent], heard: list[JsonEvent]) -> None:
    """It was punched again, and what had arrived was not sent again."""
    carried = last(said, "done")["bytes_by_path"]  # the receiver may have begun to count anew
    print(f"the paths were {ups(said)}, they carried {carried}")
    assert ups(said).count("punched") >= 2
    assert SIZE <= sum(carried.values()) < SIZE + TWICE
    assert sum(last(heard, "done")["bytes_by_path"].values()) < SIZE + TWICE


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(NAP_S, marks=pytest.mark.deadline(400)),
        pytest.param(NIGHT_S, marks=[pytest.mark.deadline(1000), pytest.mark.soak]),
    ],
)
def test_who_slept_goes_on_by_itself(lab_factory: LabFactory, tmp_path: Path, seconds: int) -> None:
    """The sender, and in another lab the receiver; side by side, as it is waiting."""
    assert max(QUIET_S, PATH.dead) < NAP_S
    sleepers = ("alice", "bob")
    labs = {sleeper: lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=40) for sleeper in sleepers}
    with ThreadPoolExecutor(len(sleepers)) as pool:
        running = []
        for sleeper, lab in labs.items():
            (tmp_path / sleeper).mkdir()
            running.append(pool.submit(transfer, lab, tmp_path / sleeper, sleeper, seconds))
        ends = [each.result() for each in running]
    for said, heard in ends:
        check(said, heard)
