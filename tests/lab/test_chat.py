"""`p2pxfer chat` between two NATs while its paths change: every line once, and files beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chats import ChatEnd
from tests.e2e.conftest import wait_until
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.topology import Lab
from tests.scene import Scene, file_hash, random_file

MIB = 1 << 20
SIZE = 16 * MIB
LONG = "." * 2000
"""What makes lines so long that they are more than what else is said over the relay."""
SLOW_BPS = 16_000_000
"""A line on which that takes eight seconds."""


def sent_in_the_middle(lab: Lab, scene: Scene, alice: ChatEnd, change: Callable[[], None]) -> None:
    """Alice sends a file from the chat; the path changes when a part of it is there."""
    source = scene.folder / "film.bin"
    digest = random_file(source, SIZE)
    begun = lab.link_bytes("bob")
    alice.say(f"/send {source}")
    wait_until(lambda: lab.link_bytes("bob") - begun > SIZE // 4, 90)
    assert not (scene.inbox / source.name).exists()
    change()
    wait_until((scene.inbox / source.name).exists, 150)
    assert file_hash(scene.inbox / source.name) == digest


def talk(alice: ChatEnd, bob: ChatEnd, turn: int, more: str = "") -> None:
    """Twenty lines each way."""
    alice.say(*[f"alice {turn} {number}{more}" for number in range(20)])
    bob.say(*[f"bob {turn} {number}{more}" for number in range(20)])


def said_by(name: str, turns: int, more: str = "") -> list[str]:
    return [f"{name} {turn} {number}{more}" for turn in range(turns) for number in range(20)]


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
        alice.waits_for("bob is here", 90)
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
        before = lab.server_bytes()
        alice, bob = (ChatEnd(scene, role, "--path", "relay") for role in ("alice", "bob"))
        talk(alice, bob, 0, LONG)
        bob.wait_heard(20)
        alice.wait_heard(20)
        # In and out again at the server.
        relayed = 2 * 2 * 20 * len(LONG)
        assert lab.server_bytes() - before > relayed
        server.stop()
        before = lab.server_bytes()
        talk(alice, bob, 1, LONG)
        scene.start_server()
        bob.wait_heard(40, 120)
        alice.wait_heard(40, 120)
        assert bob.heard() == said_by("alice", 2, LONG)
        assert alice.heard() == said_by("bob", 2, LONG)
        assert lab.server_bytes() - before > relayed
        alice.finish()
        alice.ends(0)


@pytest.mark.deadline(300)
@pytest.mark.parametrize("router", ["nat_a", "nat_b"])
def test_a_file_from_a_chat_arrives_though_a_nat_moves(lab_factory: LabFactory, tmp_path: Path, router: str) -> None:
    """Without the relay, in the middle of the file; lines go on as well."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40, rate_bps=SLOW_BPS)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        before = lab.server_bytes()
        words = ("--path", "direct", "--commands", "--to", scene.inbox)
        alice, bob = (ChatEnd(scene, role, *words) for role in ("alice", "bob"))
        alice.waits_for("bob is here", 90)
        sent_in_the_middle(lab, scene, alice, lambda: lab.reboot_nat(router, new_address=True))
        talk(alice, bob, 0)
        bob.wait_heard(20, 120)
        alice.wait_heard(20, 120)
        assert bob.heard() == said_by("alice", 1)
        assert lab.server_bytes() - before < 2 * MIB


@pytest.mark.deadline(300)
def test_a_file_from_a_chat_over_the_relay_arrives_though_the_server_was_started_anew(
    lab_factory: LabFactory, tmp_path: Path
) -> None:
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40, rate_bps=SLOW_BPS)
    with Scene(lab, tmp_path, loopback=False) as scene:
        server = scene.start_server()
        scene.make_contacts()
        words = ("--path", "relay", "--commands", "--to", scene.inbox)
        alice, bob = (ChatEnd(scene, role, *words) for role in ("alice", "bob"))
        alice.waits_for("bob is here", 90)
        before = lab.server_bytes()

        def anew() -> None:
            server.stop()
            scene.start_server()

        sent_in_the_middle(lab, scene, alice, anew)
        assert lab.server_bytes() - before > 2 * SIZE
        talk(alice, bob, 0)
        bob.wait_heard(20, 120)
        alice.wait_heard(20, 120)
        assert bob.heard() == said_by("alice", 1)
