"""A machine that gets another address, as a laptop does that is carried to another network."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.roaming import move
from tests.lab.sending import MIB, Sending, has_come
from tests.scene import Scene, file_hash, first_path, last, random_file

KIND = "port-restricted/random-port"
SIZE = 128 * MIB
RATE = "24M"
"""What holds the transfer up, so that most of it is still to come when the address changes."""
TWICE = 16 * MIB
"""Most bytes that come twice: what was under way."""
NOTICED_S = 10.0
"""Before the next ping shows that the old connection is dead, 25 seconds after the last one."""


@pytest.mark.deadline(90)
def test_a_receiver_with_a_new_address_is_there_again_soon(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=20)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        bob = scene.receive("--once", "--no-code")
        move(lab, "bob")
        moment = time.monotonic()
        bob.wait_for("registered")
        print(f"registered again after {time.monotonic() - moment:.1f} s")
        assert time.monotonic() - moment < NOTICED_S
        source = scene.folder / "small.bin"
        digest = random_file(source, 1 << 20)
        alice = scene.send(source, "--path", "direct")
        alice.succeed(30)
        bob.succeed(30)
        assert file_hash(scene.inbox / source.name) == digest


@pytest.mark.deadline(120)
@pytest.mark.parametrize("role", ["alice", "bob"])
def test_a_transfer_goes_on_from_the_new_address(lab_factory: LabFactory, tmp_path: Path, role: str) -> None:
    lab = lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=20)
    with Sending(lab, tmp_path, SIZE, "--limit", RATE) as sending:
        sending.receiver.until(has_come(SIZE // 4))
        move(lab, role)
        said, heard = sending.arrives()
    again = [event for event in heard if event["event"] == "path" and event["state"] == "active"]
    print([(event["path"], event["after_ms"]) for event in again])
    assert first_path(again, "punched")
    assert last(heard, "done")["bytes_by_path"]["punched"] > SIZE // 4
    # It is the same transfer, of another session: what had come was not sent again.
    assert SIZE <= sum(last(said, "done")["bytes_by_path"].values()) < SIZE + TWICE
    assert [event["event"] for event in said].count("introduced") >= 2
