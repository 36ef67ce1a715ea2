"""A line on which one chunk of a large file takes most of a minute: it flows, and it goes on where it was cut."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from p2pxfer.cli.watching import GONE_S
from p2pxfer.core.transfer.geometry import chunk_size
from p2pxfer.net.connection.liveness import PATH
from p2pxfer.net.session.patience import SLOW_FAREWELL_S
from scripts.product import JsonEvent, Program
from tests.lab.conftest import LabFactory
from tests.lab.topology import Lab
from tests.scene import Scene

MIB = 1 << 20
LINE_BPS = 200_000
SIZE = 256 * MIB
CHUNK = MIB
CHUNK_S = CHUNK * 8 / LINE_BPS
"""A chunk takes 42 seconds, more than the other side may be silent."""
LIFE_S = 18.0
"""Time from one cut to the next, in less than half of a chunk's."""
TWICE = 0.5
"""What may come twice, as a part of a chunk, with all headers; it was a tenth."""
HEARD_S = 3.0
"""How soon a receiver has to hear that its sender was stopped, seconds."""
LONGEST_S = 150.0
"""More than it takes, for a machine that is busy with other work."""


class Slow(Scene):
    """A large file on its way from one public host to the other; what both said until now."""

    def __init__(self, lab: Lab, folder: Path, *words: str) -> None:
        super().__init__(lab, folder, loopback=False)
        self.lab = lab
        self.start_server()
        self.make_contacts()
        source = folder / "large.bin"
        self.callback(source.unlink)
        block = os.urandom(CHUNK - 8)
        with source.open("wb") as file:
            for number in range(SIZE // CHUNK):
                file.write(number.to_bytes(8, "big") + block)
        self.said: dict[str, list[JsonEvent]] = {"alice": [], "bob": []}
        self.receiver = self.receive("--once", "--no-code", *words)
        self.began = self.lab.link_bytes("bob")
        self.sender = self.send(source, "--wait", *words)
        for program in (self.sender, self.receiver):
            threading.Thread(target=self._hear, args=(program,), daemon=True).start()

    def _hear(self, program: Program) -> None:
        """In a thread: note what it says until it ends."""
        for event in program.events(LONGEST_S):
            self.said[program.role].append(event)

    def go_on(self, seconds: float, until: int = SIZE) -> None:
        """Let time pass, as long as both programs run, and so much is not acknowledged."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self.acknowledged < until:
            for program in (self.sender, self.receiver):
                assert program.poll() is None, (program.role, program.last_words())
            time.sleep(min(left, 0.5))

    def paths(self, role: str, state: str) -> list[JsonEvent]:
        return [event for event in self.said[role] if event["event"] == "path" and event["state"] == state]

    def notes(self, role: str) -> list[str]:
        return [event["message"] for event in self.said[role] if event["event"] == "note"]

    @property
    def acknowledged(self) -> int:
        """Bytes that the sender knows to be there."""
        return max((event["bytes"] for event in self.said["alice"] if event["event"] == "progress"), default=0)

    @property
    def carried(self) -> int:
        """Bytes that came to the receiver's host."""
        return self.lab.link_bytes("bob") - self.began


@pytest.mark.deadline(600)
@pytest.mark.parametrize("bps", [LINE_BPS, pytest.param(64_000, marks=pytest.mark.soak)])
def test_a_chunk_of_more_than_a_minute_flows_and_no_path_is_given_up(
    lab_factory: LabFactory, tmp_path: Path, bps: int
) -> None:
    """Pings and acknowledgements wait behind it, on one side for longer than a silent path is believed in.

    A relay would be tried, and share the line.
    """
    assert chunk_size(SIZE) == CHUNK
    assert PATH.dead < CHUNK_S
    with Slow(lab_factory(None, None, rate_bps=bps), tmp_path, "--path", "direct") as slow:
        begun = time.monotonic()
        slow.go_on(LONGEST_S * LINE_BPS / bps, CHUNK)
        taken = time.monotonic() - begun
        print(f"{slow.acknowledged} bytes after {taken:.0f} s, {slow.carried} came to the receiver's host")
        assert slow.acknowledged >= CHUNK
        slow.go_on(5)
        for role in ("alice", "bob"):
            assert slow.paths(role, "down") == []
            # Neither is another path looked for, nor do connections beside the first one share the line.
            assert sorted(event["path"] for event in slow.paths(role, "up")) == ["direct"]


@pytest.mark.deadline(300)
def test_a_chunk_that_no_path_lives_long_enough_for_comes_in_parts(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Every connection is reset twice in the time that a chunk takes; a relay would share the line."""
    with Slow(lab_factory(None, None, rate_bps=LINE_BPS), tmp_path, "--path", "direct") as slow:
        begun, cuts = time.monotonic(), 0
        while slow.acknowledged < CHUNK and time.monotonic() < begun + LONGEST_S:
            slow.go_on(LIFE_S, CHUNK)
            slow.lab.run("alice", ["ss", "-K", "-t", "state", "established"], check=True)
            cuts += 1
        taken = time.monotonic() - begun
        print(f"{slow.acknowledged} bytes after {taken:.0f} s and {cuts} cuts, {slow.carried} came")
        assert slow.acknowledged >= CHUNK
        assert slow.carried < (1 + TWICE) * CHUNK
        assert LIFE_S < CHUNK_S / 2
        assert len(slow.paths("bob", "up")) >= 3  # and none of them had the time that a chunk takes


@pytest.mark.deadline(120)
@pytest.mark.parametrize("path", ["direct", "relay"])
def test_the_farewell_of_a_sender_overtakes_the_chunk_on_its_only_path(
    lab_factory: LabFactory, tmp_path: Path, path: str
) -> None:
    """The rest of the chunk, half a minute of it, is not waited for, only what the kernel has, and a record or two."""
    with Slow(lab_factory(None, None, rate_bps=LINE_BPS, rtt_ms=40), tmp_path, "--path", path) as slow:
        slow.go_on(12)
        assert [event["path"] for event in slow.paths("alice", "up")] == [path]
        os.kill(slow.sender.pid, signal.SIGINT)
        stopped_at = time.monotonic()
        status = slow.sender.wait(20).status
        ended = time.monotonic() - stopped_at
        while not slow.notes("bob") and time.monotonic() < stopped_at + CHUNK_S:
            time.sleep(0.05)
        heard = time.monotonic() - stopped_at
        print(f"the sender ended after {ended:.1f} s, the receiver heard after {heard:.1f} s: {slow.notes('bob')}")
        (said,) = slow.notes("bob")
        assert said.startswith("alice was stopped there")
        assert status == 130
        assert max(ended, heard) < SLOW_FAREWELL_S + 1


@pytest.mark.deadline(120)
def test_the_farewell_of_a_sender_overtakes_what_fills_the_line(lab_factory: LabFactory, tmp_path: Path) -> None:
    """On the path that carries the data it would lie behind most of a chunk; it goes on the relay in reserve, too.

    It is the only thing that the receiver says of it, although the other path ends later.
    """
    with Slow(lab_factory(None, None, rate_bps=LINE_BPS, rtt_ms=40), tmp_path) as slow:
        slow.go_on(12)
        assert {event["path"] for event in slow.paths("alice", "up")} == {"direct", "relay"}
        assert [event["path"] for event in slow.paths("alice", "active")] == ["direct"]
        os.kill(slow.sender.pid, signal.SIGINT)
        stopped_at = time.monotonic()
        assert slow.sender.wait(10).status == 130
        ended = time.monotonic() - stopped_at
        while not slow.notes("bob") and time.monotonic() < stopped_at + HEARD_S:
            time.sleep(0.05)
        heard = time.monotonic() - stopped_at
        time.sleep(GONE_S + 3)  # a second sentence would come by then
        print(f"the sender ended after {ended:.1f} s, the receiver heard after {heard:.1f} s: {slow.notes('bob')}")
        assert [event["path"] for event in slow.paths("bob", "down")] == ["relay", "direct"]
        (said,) = slow.notes("bob")
        assert said.startswith("alice was stopped there")
