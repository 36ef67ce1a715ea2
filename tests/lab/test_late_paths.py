"""A direct path that comes late, when the relay carries, and one that stands and says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.habits import keep_to_the_relay
from tests.lab.nat import KINDS
from tests.lab.sending import MIB, Sending, has_come, path_is
from tests.lab.topology import Lab
from tests.scene import last

KIND = "port-restricted/random-port"
SIZE = 16 * MIB
RATE = "3M"
"""What holds the transfer up, so that half of it is still to come when the direct path does."""
TWICE = 2 * MIB
"""Most bytes that are sent twice where nothing was lost."""
HANDSHAKE = 100
"""Packets that open a connection, or acknowledge, are shorter; no greeting is, bytes."""


@pytest.mark.deadline(120)
def test_f42_a_punch_that_succeeds_late_takes_the_data_over(lab_factory: LabFactory, tmp_path: Path) -> None:
    """The two NATs reach each other when the relay has carried half of the file."""
    lab = lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=20)
    keep_to_the_relay(lab)
    with Sending(lab, tmp_path, SIZE, "--limit", RATE) as sending:
        sending.receiver.until(has_come(SIZE // 2))
        lab.unblock("pub")
        said, heard = sending.arrives()
    carried = last(said, "done")["bytes_by_path"]
    print(carried)
    assert carried["relay"] >= SIZE // 2
    assert carried["punched"] > SIZE // 8
    assert SIZE <= sum(carried.values()) < SIZE + TWICE
    active = [event["path"] for event in heard if event["event"] == "path" and event["state"] == "active"]
    assert active == ["relay", "punched"]


def silence_what_stands(lab: Lab) -> None:
    """Between the two homes connections open, and nothing that is said on them arrives."""
    outside = ", ".join(lab.public_addr(router) for router in ("nat_a", "nat_b"))
    lab.block("pub", f"ip saddr {{ {outside} }} ip daddr {{ {outside} }} meta length > {HANDSHAKE} counter")


@pytest.mark.deadline(120)
def test_f43_a_connection_that_stands_and_says_nothing_holds_nothing_up(
    lab_factory: LabFactory, tmp_path: Path
) -> None:
    lab = lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=20)
    silence_what_stands(lab)
    with Sending(lab, tmp_path, 4 * MIB) as sending:
        said, _ = sending.arrives()
        assert " packets 0 " not in lab.run("pub", ["nft", "list", "ruleset"], check=True).stdout
    assert set(last(said, "done")["bytes_by_path"]) == {"relay"}
    assert not any(path_is("punched", "up")(event) for event in said)
