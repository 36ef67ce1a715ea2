"""A server that has no descriptors left: who is there stays, who comes is turned away, and it does not spin."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import MIB, Stage, computed_by, fast_folder, wait_until
from tests.scene import events_of, last

FEW = 48
WATCHED = 1.5
"""Seconds for which the full server is watched."""


@pytest.fixture
def stage() -> Iterator[Stage]:
    with fast_folder() as folder, Stage(folder) as made:
        yield made
        made.close()


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")
def test_f21_strangers_take_every_descriptor_of_the_server(stage: Stage) -> None:
    server = stage.start_server(prefix=["prlimit", f"--nofile={FEW}"])
    stage.make_contacts()
    bob = stage.receive("--no-code")
    with contextlib.ExitStack() as crowd:
        # From many addresses, since one of them alone is not given many places.
        for number in range(3 * FEW):
            stranger = crowd.enter_context(socket.socket())
            stranger.bind((f"127.0.{1 + number // 200}.{1 + number % 200}", 0))
            stranger.setblocking(False)
            stranger.connect_ex(("127.0.0.1", stage.ports[0]))
        wait_until(lambda: descriptors(server.pid) > FEW // 3)
        before, begun = computed_by(server.pid), time.monotonic()
        while time.monotonic() < begun + WATCHED:
            assert descriptors(server.pid) <= FEW
            assert server.poll() is None
            time.sleep(0.05)
        busy = (computed_by(server.pid) - before) / (time.monotonic() - begun)
        print(f"{descriptors(server.pid)} of {FEW} descriptors; it computed for {busy:.0%} of the time")
        assert busy < 0.2
        newcomer = stage.run("send", __file__, "bob", as_json=True)
        assert newcomer.status == 3, newcomer
        assert last(newcomer.events, "error")["retry"] is True
    stage.send_good("after.bin", MIB)
    bob.stop()
    names = [event["event"] for event in events_of(bob)]
    assert names.count("done") == 1
    assert "registered" not in names  # it was never turned out
