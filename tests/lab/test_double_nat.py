"""A carrier's NAT in front of the home's: which of the two decides what, and that a file crosses four of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import probe
from tests.lab.conftest import LabFactory
from tests.lab.namespaces import LabError
from tests.lab.nat import KINDS
from tests.lab.probe import Answer
from tests.scene import Scene, first_path

PUNCH = 23456


@pytest.mark.parametrize("home", ["port-restricted", "port-restricted/random-port", "symmetric", "sequential-2"])
@pytest.mark.parametrize("carrier", ["port-restricted", "block-256"])
def test_the_carrier_gives_the_address_and_the_worse_mapping_wins(
    home: str, carrier: str, lab_factory: LabFactory
) -> None:
    """An endpoint keeps its outside port only if both NATs keep it."""
    lab = lab_factory(KINDS[home], carrier_a=KINDS[carrier], rtt_ms=0)
    server = probe.Server(lab)
    seen = [server.observe("alice", PUNCH, endpoint).seen for endpoint in server.endpoints]
    assert {address for address, _ in seen} == {lab.public_addr("carrier_a")} == {lab.public_addr("nat_a")}
    ports = [port for _, port in seen]
    if carrier == "block-256":
        assert all(40960 <= port < 40960 + 256 for port in ports)
    assert (len(set(ports)) == 1) == (carrier == "port-restricted" and home.startswith("port-restricted"))
    if carrier == "port-restricted" and home == "sequential-2":
        assert ports == [ports[0], ports[0] + 2, ports[0] + 4, ports[0] + 6]


@pytest.mark.parametrize(
    ("home", "carrier", "answer"),
    [
        ("full-cone", "full-cone", Answer.CONNECTED),
        ("full-cone", "port-restricted", Answer.SILENT),
        ("full-cone", "port-restricted/rst", Answer.REFUSED),
        ("port-restricted", "full-cone", Answer.SILENT),
        ("port-restricted/rst", "full-cone", Answer.REFUSED),
    ],
)
def test_a_stranger_must_pass_both_filters(home: str, carrier: str, answer: Answer, lab_factory: LabFactory) -> None:
    """The carrier judges first; what it lets in the home's NAT judges again."""
    lab = lab_factory(KINDS[home], carrier_a=KINDS[carrier], rtt_ms=0)
    server = probe.Server(lab)
    listener = probe.listen(lab, "alice", PUNCH)
    public = server.observe("alice", PUNCH, server.endpoints[0]).seen
    assert probe.settle([probe.dial(lab, "srv", public, 6000)]) == [answer]
    assert probe.has_guest(listener) == (answer is Answer.CONNECTED)


def test_a_restarted_carrier_forgets_and_may_have_another_address(lab_factory: LabFactory) -> None:
    """Flows die with the carrier's memory; the home's router has no public address to change."""
    lab = lab_factory(carrier_a=KINDS["port-restricted"], rtt_ms=0)
    server = probe.Server(lab)
    old = lab.public_addr("nat_a")
    flow = server.observe("alice", PUNCH, server.endpoints[0])
    lab.flush_nat("carrier_a")
    flow.client.send(b"lost")
    assert probe.receive(flow.server) is None
    lab.reboot_nat("nat_a")
    assert server.observe("alice", PUNCH + 1, server.endpoints[0]).seen == (old, PUNCH + 1)
    with pytest.raises(LabError, match="carrier's"):
        lab.reboot_nat("nat_a", new_address=True)
    lab.reboot_nat("carrier_a", new_address=True)
    new = lab.public_addr("carrier_a")
    assert new != old
    assert server.observe("alice", PUNCH + 2, server.endpoints[0]).seen == (new, PUNCH + 2)


def test_a_carrier_needs_a_nat_behind_it(lab_factory: LabFactory) -> None:
    """Without one it would be the home's own."""
    with pytest.raises(LabError, match="carrier"):
        lab_factory(None, carrier_a=KINDS["symmetric"])


@pytest.mark.deadline(60)
def test_a_file_goes_directly_between_two_peers_behind_two_nats_each(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Real programs, 40 ms, and the relay forbidden."""
    carriers = {"carrier_a": KINDS["port-restricted/random-port"], "carrier_b": KINDS["address-restricted"]}
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted/random-port"], **carriers, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        assert first_path(scene.copy_directly(), "punched")["remote"].startswith(lab.public_addr("carrier_a"))
