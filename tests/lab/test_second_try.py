"""A punch between NATs that keep their ports may have bad luck; without the relay it is tried once more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.scene import Scene, random_file


@pytest.mark.deadline(90)
@pytest.mark.parametrize("clears", [True, False])
def test_a_punch_that_had_bad_luck_is_tried_once_more(clears: bool, lab_factory: LabFactory, tmp_path: Path) -> None:
    """Nothing of bob's gets to alice's NAT, until the second introduction or for good."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        source = scene.folder / "small.bin"
        random_file(source, 1 << 16)
        scene.receive("--no-code", "--path", "direct")
        lab.block("nat_b", f"ip daddr {lab.public_addr('nat_a')}")
        alice = scene.send(source, "--path", "direct")
        introduced = 0
        for event in alice.events(60):
            introduced += event["event"] == "introduced"
            if introduced == 2 and clears:
                lab.unblock("nat_b")
        status = alice.wait(30).status
    assert introduced == 2
    assert status == (0 if clears else 7)
