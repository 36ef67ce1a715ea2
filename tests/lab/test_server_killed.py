"""The server, and with it the relay, is killed in the middle of a transfer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from scripts.product import JsonEvent, Program
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.test_lost_paths import Watch
from tests.lab.test_relay_in_reserve import path_is
from tests.lab.topology import Lab
from tests.scene import Scene, file_hash, last, random_file

MIB = 1 << 20
SIZE = 48 * MIB
RATE = "12M"
"""What holds the transfer up, so that it is under way when the server dies."""
TWICE = 16 * MIB
"""Most bytes that come twice: what was under way."""


def kill(server: Program) -> None:
    os.kill(server.pid, signal.SIGKILL)
    server.wait(10)


def is_under_way(event: JsonEvent) -> bool:
    return event["event"] == "progress" and int(event["bytes"]) > SIZE // 4


class Sending(Scene):
    """A large file that is held up on its way, with whoever sends and receives it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        super().__init__(lab, folder, loopback=False)
        self.server = self.start_server()
        self.make_contacts()
        self.source = folder / "big.bin"
        self.digest = random_file(self.source, SIZE)
        self.programs = [self.receive("--once", "--no-code"), self.send(self.source, "--limit", RATE)]
        self.receiver, self.sender = map(Watch, self.programs)

    def arrives(self) -> tuple[list[JsonEvent], list[JsonEvent]]:
        """Both end well, and the file is right; what the sender and the receiver said until then."""
        said = self.sender.rest(), self.receiver.rest()
        for program in reversed(self.programs):
            program.succeed(10)
        assert file_hash(self.inbox / self.source.name) == self.digest
        return said


@pytest.mark.deadline(90)
def test_a_direct_transfer_does_not_need_the_server_any_more(lab_factory: LabFactory, tmp_path: Path) -> None:
    """It never comes back."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted/random-port"], rtt_ms=40)
    with Sending(lab, tmp_path) as sending:
        sending.receiver.until(path_is("punched", "active"))
        sending.receiver.until(is_under_way)
        kill(sending.server)
        relayed = lab.server_bytes()
        said, heard = sending.arrives()
        assert lab.server_bytes() - relayed < MIB
    carried = last(heard, "done")["bytes_by_path"]
    print(carried)
    assert sum(carried.values()) < SIZE + TWICE
    assert [event["event"] for event in said].count("introduced") == 1


@pytest.mark.deadline(120)
def test_a_relayed_transfer_goes_on_when_the_server_is_back(lab_factory: LabFactory, tmp_path: Path) -> None:
    """What had arrived is not sent again, nor does anybody start anything but the server."""
    lab = lab_factory(KINDS["symmetric"], KINDS["symmetric"], rtt_ms=40)
    with Sending(lab, tmp_path) as sending:
        sending.receiver.until(is_under_way)
        kill(sending.server)
        sending.sender.until(lambda event: event["event"] == "path" and event["state"] == "down")
        sending.start_server()
        said, heard = sending.arrives()
        assert lab.server_bytes() > 2 * SIZE
    carried = last(said, "done")["bytes_by_path"]
    print(carried, last(heard, "done")["bytes_by_path"])
    assert set(carried) == {"relay"}
    assert carried["relay"] < SIZE + TWICE
    assert [event["event"] for event in said].count("introduced") >= 2
