"""`p2pxfer pair` between two NATs; the NAT moves, or the server is started anew, while the code is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from p2pxfer.net.private.home import Home
from tests.lab.conftest import LabFactory
from tests.lab.habits import keep_to_the_relay
from tests.lab.nat import KINDS
from tests.scene import Scene, events_of, last

MIB = 1 << 20


def pair(scene: Scene, path: str, meanwhile: Callable[[], None]) -> None:
    """Bob shows a code and alice enters it; something happens in between, which bob has noticed."""
    bob = scene.program("bob", scene.bob, "pair", "--as", "bob", "--path", path)
    code = bob.wait_for("code")["code"]
    meanwhile()
    # A code that was shown in between is the one that counts.
    for event in bob.events(90):
        if event["event"] == "code":
            code = event["code"]
        if event["event"] == "registered":
            break
    alice = scene.program("alice", scene.alice, "pair", "--as", "alice", "--path", path, str(code))
    made = last(events_of(alice), "contact")
    alice.succeed(30)
    bob.succeed(60)
    ids = {name: str(Home(home).identity().id) for name, home in (("alice", scene.alice), ("bob", scene.bob))}
    assert (made["name"], made["id"], made["verified"]) == ("bob", ids["bob"], "code")
    assert [(one.name, str(one.id)) for one in Home(scene.bob).contacts()] == [("alice", ids["alice"])]


@pytest.mark.deadline(240)
def test_a_code_pairs_two_behind_nats_of_which_one_moved(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Without the relay; the NAT of the one who shows the code."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        before = lab.server_bytes()
        pair(scene, "direct", lambda: lab.reboot_nat("nat_b", new_address=True))
        assert lab.server_bytes() - before < MIB


@pytest.mark.deadline(240)
def test_a_code_pairs_two_over_the_relay_of_a_server_that_was_started_anew(
    lab_factory: LabFactory, tmp_path: Path
) -> None:
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        server = scene.start_server()
        # What a pairing moves is too little to be seen beside what both say to the server.
        keep_to_the_relay(lab)

        def anew() -> None:
            server.stop()
            scene.start_server()

        pair(scene, "relay", anew)
