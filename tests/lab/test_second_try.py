"""A punch between NATs that keep their ports may have bad luck; without the relay it is tried once more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.directly import direct_scene
from tests.lab.nat import KINDS


@pytest.mark.deadline(90)
@pytest.mark.parametrize("clears", [True, False])
def test_a_punch_that_had_bad_luck_is_tried_once_more(clears: bool, lab_factory: LabFactory, tmp_path: Path) -> None:
    """Nothing of bob's gets to alice's NAT, until the second introduction or for good."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with direct_scene(lab, tmp_path) as scene:
        lab.block("nat_b", f"ip daddr {lab.public_addr('nat_a')}")
        alice = scene.send_small()
        introduced = 0
        for event in alice.events(60):
            introduced += event["event"] == "introduced"
            if introduced == 2 and clears:
                lab.unblock("nat_b")
        status = alice.wait(30).status
    assert introduced == 2
    assert status == (0 if clears else 7)
