"""A network that lets nobody out but to the ports of the web."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import probe
from tests.lab.conftest import LabFactory
from tests.lab.habits import allow_web_only
from tests.lab.nat import KINDS
from tests.lab.probe import Answer
from tests.lab.topology import Lab
from tests.scene import Scene, events_of, file_hash, first_path, last, random_file

SIZE = 8 << 20
LISTEN = ("tcp6:8877", "tcp6:443")
SOON_MS = 5000
"""Ten times what is usual here, and less than any deadline of an observation."""


def restricted(lab_factory: LabFactory, home: str, other: str) -> Lab:
    """Alice is in such a network, bob in none."""
    lab = lab_factory(KINDS[home], KINDS[other], rtt_ms=40)
    allow_web_only(lab, "nat_a")
    return lab


def send(lab: Lab, folder: Path, *, restricted_sender: bool) -> tuple[list, list]:  # type: ignore[type-arg]  # lists of JSON events
    """A file between the two; alice is given the address with port 443. What sender and receiver said."""
    with Scene(lab, folder, loopback=False) as scene:
        scene.start_server(*LISTEN)
        scene.make_contacts()
        source = scene.folder / "small.bin"
        digest = random_file(source, SIZE)
        usual, web = scene.address, scene.address.replace(":8877#", ":443#")
        assert web != usual
        people = [("bob", scene.bob), ("alice", scene.alice)]
        (receiving, home), (sending, own) = people if restricted_sender else people[::-1]
        scene.address = usual if restricted_sender else web
        receiver = scene.program(
            receiving, home, "receive", "--as", receiving, "--to", scene.inbox, "--once", "--no-code"
        )
        receiver.wait_for("registered")
        scene.address = web if restricted_sender else usual
        sender = scene.program(sending, own, "send", source, receiving)
        sender.succeed(30)
        receiver.succeed(30)
        assert file_hash(scene.inbox / source.name) == digest
        return events_of(sender), events_of(receiver)


def test_only_the_ports_of_the_web_are_open(lab_factory: LabFactory) -> None:
    lab = restricted(lab_factory, "full-cone", "none")
    listener = probe.listen(lab, "srv", 443, lab.server_addresses[0])
    dials = [probe.dial(lab, "alice", (lab.server_addresses[0], port), 23456) for port in (443, 8877)]
    assert probe.settle(dials, 1.0) == [Answer.CONNECTED, Answer.SILENT]
    probe.accept(listener)


@pytest.mark.deadline(60)
@pytest.mark.parametrize("sender", [True, False], ids=["sends", "receives"])
def test_the_relay_at_443_carries_the_file_and_nothing_waits(
    lab_factory: LabFactory, tmp_path: Path, sender: bool
) -> None:
    """Alice cannot dial bob, so her NAT lets nothing of his in; her observations at the other port come to nothing."""
    lab = restricted(lab_factory, "port-restricted", "port-restricted")
    sent, received = send(lab, tmp_path, restricted_sender=sender)
    assert set(last(received, "done")["bytes_by_path"]) == {"relay"}
    path = first_path(sent, "relay")
    print(f"relay after {path['after_ms']} ms, done after {last(sent, 'done')['seconds']} s")
    assert path["after_ms"] < SOON_MS


@pytest.mark.deadline(60)
def test_who_can_be_dialled_is_dialled(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Alice's NAT lets anybody in, and answers may leave."""
    lab = restricted(lab_factory, "full-cone", "none")
    sent, _ = send(lab, tmp_path, restricted_sender=True)
    path = first_path(sent, "direct", "punched")
    assert path["after_ms"] < SOON_MS
