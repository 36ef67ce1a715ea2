"""The relay beside a young direct path stays warm, and carries when that dies."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.habits import keep_to_the_relay
from tests.lab.nat import KINDS
from tests.lab.sending import MIB, Sending, path_is
from tests.lab.topology import Lab
from tests.scene import last

SIZE = 32 * MIB
RATE = "4M"
"""What holds the transfer up: when the path is cut, most of the file is still to come."""
WAITING = 4 * MIB
"""Less than is left after the longest youth."""
KIND = "port-restricted/random-port"
YOUNG_S = 5.0
"""How old a direct path is at most that counts as young, seconds."""
SOON_S = 10.0
"""Within how many seconds the data must go on."""


def admit_nobody(lab: Lab) -> None:
    """Nobody reaches the server but by a connection that stands: there will be no other introduction, and no leg."""
    for router in ("nat_a", "nat_b"):
        lab.block(router, "tcp flags & (syn | ack) == syn ip daddr { " + ", ".join(lab.server_addresses) + " }")


@pytest.mark.deadline(90)
def test_the_relay_leg_of_before_carries_when_a_young_direct_path_dies(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Nothing but that leg is left: the two NATs do not reach each other, and the server is out of reach otherwise."""
    lab = lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=40)
    with Sending(lab, tmp_path, SIZE, "--limit", RATE) as sending:
        for watch in (sending.sender, sending.receiver):
            watch.until(path_is("relay", "up"))
            watch.until(path_is("punched", "up"))
        sending.receiver.until(path_is("punched", "active"))
        stood = sending.sender.until(path_is("punched", "up"))
        admit_nobody(lab)
        keep_to_the_relay(lab)
        moment = time.monotonic()
        said, heard = sending.arrives()
        relayed = lab.server_bytes() - sending.relayed_before
    again = sending.receiver.carried_after(moment, "relay")
    carried = last(heard, "done")["bytes_by_path"]
    print(f"cut {moment - stood:.2f} s after the direct path stood, by the relay {again} s later: {carried}")
    assert moment - stood < YOUNG_S
    assert again is not None
    assert again < SOON_S
    assert carried["relay"] > WAITING
    assert relayed > 2 * carried["relay"]
    assert [event["event"] for event in said].count("introduced") == 1
