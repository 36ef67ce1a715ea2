"""A transfer between two homes in which everything can fail: programs, their server, lines, NATs."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from scripts.product import Program, client
from tests.e2e import faulty_program
from tests.e2e.conftest import MIB
from tests.lab.roaming import move
from tests.lab.topology import Lab
from tests.scene import Scene, events_of, random_file

NAME = "big.bin"
REFETCHED = 16 * MIB
"""Most bytes that a fault may cost to fetch again."""


class FaultScene(Scene):
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


def kill(program: Program) -> None:
    """End a program, which may have come to its own end meanwhile."""
    os.kill(program.pid, signal.SIGKILL)
    program.wait(10)
