"""A laptop that is carried from the LAN of its peer to another network in the middle of a transfer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import roaming
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.scene import Scene, events_of, file_hash, first_path, last, random_file

MIB = 1 << 20
SIZE = 96 * MIB
RATE = "16M"
"""What holds the transfer up, so that it is under way when the laptop leaves."""


@pytest.mark.deadline(180)
@pytest.mark.parametrize("sender", ["alice", "bob"])
def test_a_transfer_goes_on_punched_when_the_laptop_leaves_the_lan(
    lab_factory: LabFactory, tmp_path: Path, sender: str
) -> None:
    """With the relay forbidden: what the LAN carried is not sent again, and the server sees none of it."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    roaming.visit(lab)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        before = lab.server_bytes()
        homes = {"alice": scene.alice, "bob": scene.bob}
        receiver = "bob" if sender == "alice" else "alice"
        source = scene.folder / "big.bin"
        digest = random_file(source, SIZE)
        words = ("receive", "--as", receiver, "--once", "--no-code", "--path", "direct", "--to", scene.inbox)
        taking = scene.program(receiver, homes[receiver], *words)
        taking.wait_for("registered")
        giving = scene.program(sender, homes[sender], "send", source, receiver, "--path", "direct", "--limit", RATE)
        heard = []
        for event in taking.events(60):
            heard.append(event)
            if event["event"] == "progress" and event["bytes"] > SIZE // 4:
                break
        assert first_path(heard, "lan", "punched")["path"] == "lan"
        assert not (scene.inbox / source.name).exists()
        # The LAN alone carried so much: the access line of alice's router saw the two programs' talk with the server.
        assert lab.link_bytes("nat_a") < MIB
        roaming.leave(lab)
        after = events_of(taking)
        giving.succeed(60)
        taking.succeed(10)
        assert file_hash(scene.inbox / source.name) == digest
        assert lab.server_bytes() - before < MIB
    assert {event["path"] for event in after if event["event"] == "path" and event["state"] == "up"} == {"punched"}
    carried = last(after, "done")["bytes_by_path"]
    print(carried)
    assert set(carried) == {"lan", "punched"}
    assert carried["lan"] > SIZE // 4
    # What was under way when the cable was pulled is all that may come twice.
    assert SIZE <= sum(carried.values()) < SIZE + 16 * MIB
