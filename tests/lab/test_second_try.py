"""A punch between NATs that keep their ports may have bad luck; it is tried once more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.directly import direct_scene
from tests.lab.nat import KINDS
from tests.lab.sending import MIB, Sending, path_is


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


@pytest.mark.deadline(120)
def test_beside_the_relay_it_is_tried_once_more_before_long(lab_factory: LabFactory, tmp_path: Path) -> None:
    """A file of half a minute; nothing of bob's gets to alice's NAT until the second introduction."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    lab.block("nat_b", f"ip daddr {lab.public_addr('nat_a')}")
    with Sending(lab, tmp_path, 60 * MIB, "--limit", "2M") as sending:
        sending.receiver.until(path_is("relay", "active"))
        sending.sender.until(lambda event: len(sending.sender.times("introduced")) == 2)
        lab.unblock("nat_b")
        said, _ = sending.arrives()
    print(sending.sender.times("introduced"))
    assert any(path_is("punched", "active")(event) for event in said)
    assert sum(path_is("relay", "up")(event) for event in said) == 1
