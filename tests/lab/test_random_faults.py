"""Many faults, drawn at random, in one transfer between two homes: the file is right, and no fault costs much.

The receiver's disk is slow, so that every fault falls into the transfer, at a fraction of the file that is drawn too.
Nobody does anything but start a program again that was killed.  A seed that failed is replayed with the same seed; what
the network does in between is not drawn.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.product import Program, client
from tests.e2e import faulty_program
from tests.e2e.conftest import MIB, Watch, end_of, staging_of
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.test_new_network import move
from tests.lab.topology import Lab
from tests.scene import Scene, events_of, last, random_file

KIND = "port-restricted/random-port"
NAME = "big.bin"
REFETCHED = 16 * MIB
"""Most bytes that a fault may cost to fetch again."""


class World(Scene):
    """A scene in the lab with programs that can be killed, and a count of what arrived."""

    def __init__(self, lab: Lab, folder: Path, size: int, seed: int, chunk_ms: int, longest: float) -> None:
        super().__init__(lab, folder, loopback=False)
        self.lab = lab
        self.draw = random.Random(seed)
        self.size = size
        self._chunk_ms = chunk_ms
        self._longest = longest
        self.server = self.start_server()
        self.make_contacts()
        self.source = folder / NAME
        self.digest = random_file(self.source, size)
        self.receiving = self.start_receiver()
        self.sending = self.start_sender()

    def start_sender(self) -> Program:
        """Whoever starts a program sees that it reaches the server; from then on it is left alone."""
        program = self.send(self.source, "--wait")
        program.wait_for("registered")
        return program

    def start_receiver(self) -> Program:
        self._count += 1
        words = ("receive", "--as", "bob", "--to", self.inbox, "--once", "--no-code")
        argv = [sys.executable, faulty_program.__file__, "disk is slow, chunks are counted", str(self._chunk_ms)]
        argv += map(str, client(self.address, self.bob, *words)[1:])
        program = Program(self.place, "bob", argv, self.folder / f"bob-{self._count}.log")
        self.callback(program.stop)
        program.wait_for("registered")
        return program

    @property
    def arrived(self) -> int:
        """Bytes of chunks that came to any run of the receiver."""
        return sum(map(int, (self.folder / "arrived").read_text().split()))

    def until_written(self, wanted: float) -> bool:
        """Wait until so many bytes of the file are on the receiver's disk; False if the transfer is through before.

        It goes on while a server is away.
        """
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for program in (self.sending, self.receiving):
                ended = program.poll()
                if ended is not None and ended.status == 0:
                    return False
                assert ended is None, (program.role, ended, events_of(program)[-3:])
            blocks = [path.stat().st_blocks for path in self.inbox.glob(f".p2pxfer-*/tree/{NAME}")]
            if sum(blocks) * 512 >= wanted:
                return True
            time.sleep(0.02)
        pytest.fail(f"{wanted} bytes were not there after 120 s")

    # -- the faults ----------------------------------------------------------------------------------------------

    def pause(self) -> float:
        """Seconds that something stays away."""
        return self.draw.uniform(0.5, 1.0) * self._longest

    def sender_killed(self) -> None:
        kill(self.sending)
        self.sending = self.start_sender()

    def receiver_killed(self) -> None:
        kill(self.receiving)
        self.receiving = self.start_receiver()

    def server_killed(self) -> None:
        """And with it the relay; it comes back where it was."""
        kill(self.server)
        time.sleep(self.pause() / 3)
        self.server = self.start_server()

    def connections_reset(self) -> None:
        self.lab.run(self.draw.choice(["alice", "bob"]), ["ss", "-K", "-t", "state", "established"], check=True)

    def line_cut(self) -> None:
        role = self.draw.choice(["alice", "bob"])
        self.lab.cut(role, hard=self.draw.random() < 0.5)
        time.sleep(self.pause())
        self.lab.restore(role)

    def nat_forgets(self) -> None:
        self.lab.flush_nat(self.draw.choice(["nat_a", "nat_b"]))

    def nat_moves(self) -> None:
        self.lab.reboot_nat(self.draw.choice(["nat_a", "nat_b"]), new_address=True)

    def host_moves(self) -> None:
        move(self.lab, self.draw.choice(["alice", "bob"]))

    def program_stopped(self) -> None:
        pid = self.draw.choice([self.sending, self.receiving]).pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.pause() * 2)
        os.kill(pid, signal.SIGCONT)


FAULTS: list[Callable[[World], None]] = [
    World.sender_killed, World.receiver_killed, World.server_killed, World.connections_reset, World.line_cut,
    World.nat_forgets, World.nat_moves, World.host_moves, World.program_stopped,
]  # fmt: skip


def kill(program: Program) -> None:
    os.kill(program.pid, signal.SIGKILL)
    program.wait(10)


def check(lab: Lab, folder: Path, size: int, faults: int, seed: int, chunk_ms: int, longest: float) -> None:
    """One transfer with so many faults."""
    with World(lab, folder, size, seed, chunk_ms, longest) as world:
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
