"""`p2pxfer chat` between two NATs while its paths change: every line once, and files beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chats import ChatEnd
from tests.e2e.conftest import wait_until
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.scene import Scene, file_hash, random_file

MIB = 1 << 20


def talk(alice: ChatEnd, bob: ChatEnd, turn: int) -> None:
    """Twenty lines each way."""
    alice.say(*[f"alice {turn} {number}" for number in range(20)])
    bob.say(*[f"bob {turn} {number}" for number in range(20)])


def said_by(name: str, turns: int) -> list[str]:
    return [f"{name} {turn} {number}" for turn in range(turns) for number in range(20)]


@pytest.mark.deadline(300)
def test_a_chat_goes_on_when_a_nat_moves(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Without the relay, and with a file: another hole is punched."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        before = lab.server_bytes()
        alice, bob = (
            ChatEnd(scene, role, "--path", "direct", "--commands", "--to", scene.inbox) for role in ("alice", "bob")
        )
        alice.wait_said("bob is here", 90)
        talk(alice, bob, 0)
        bob.wait_heard(20)
        alice.wait_heard(20)
        lab.reboot_nat("nat_a", new_address=True)
        talk(alice, bob, 1)
        bob.wait_heard(40, 120)
        alice.wait_heard(40, 120)
        assert alice.said().count("path: punched") >= 2, alice.said()
        source = tmp_path / "photo.bin"
        digest = random_file(source, 2 * MIB)
        alice.say(f"/send {source}")
        wait_until((scene.inbox / source.name).exists, 120)
        assert file_hash(scene.inbox / source.name) == digest
        talk(alice, bob, 2)
        bob.wait_heard(60)
        alice.wait_heard(60)
        assert bob.heard() == said_by("alice", 3)
        assert alice.heard() == said_by("bob", 3)
        # The file alone is larger than what server and clients had to say to each other.
        assert lab.server_bytes() - before < MIB


@pytest.mark.deadline(300)
def test_a_chat_over_the_relay_survives_the_server(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = lab_factory(KINDS["symmetric"], KINDS["symmetric"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        server = scene.start_server()
        scene.make_contacts()
        alice, bob = (ChatEnd(scene, role, "--path", "relay") for role in ("alice", "bob"))
        talk(alice, bob, 0)
        bob.wait_heard(20)
        alice.wait_heard(20)
        server.stop()
        talk(alice, bob, 1)
        scene.start_server()
        bob.wait_heard(40, 120)
        alice.wait_heard(40, 120)
        assert bob.heard() == said_by("alice", 2)
        assert alice.heard() == said_by("bob", 2)
        alice.finish()
        alice.ends(0)
