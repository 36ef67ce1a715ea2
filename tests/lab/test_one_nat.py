"""Both hosts in one LAN behind one NAT."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import probe
from tests.lab.conftest import LabFactory
from tests.lab.namespaces import LabError
from tests.lab.nat import KINDS
from tests.lab.probe import Answer
from tests.lab.syns import Syns
from tests.scene import Scene, first_path

PUNCH = 23456


def test_two_hosts_share_an_address_and_cannot_share_a_port(lab_factory: LabFactory) -> None:
    """Who comes second with an inside port gets another outside port, even where ports are preserved."""
    lab = lab_factory(KINDS["port-restricted"], one_nat=True, rtt_ms=0)
    server = probe.Server(lab)
    first = server.observe("alice", PUNCH, server.endpoints[0]).seen
    second = server.observe("bob", PUNCH, server.endpoints[0]).seen
    assert first == (lab.public_addr("nat_a"), PUNCH)
    assert second[0] == first[0]
    assert second[1] != PUNCH


def test_the_lan_connects_and_there_is_no_hairpin(lab_factory: LabFactory) -> None:
    """By its LAN address the neighbour is reached without the router's rules, by its public endpoint not at all."""
    lab = lab_factory(KINDS["full-cone"], one_nat=True, rtt_ms=0)
    server = probe.Server(lab)
    listener = probe.listen(lab, "bob", PUNCH)
    # Whatever is not held here is closed at once, and its last packets cross the line while it is being counted.
    pinned = server.observe("bob", PUNCH, server.endpoints[0])
    public = pinned.seen
    entering = probe.dial(lab, "srv", public)
    assert probe.settle([entering]) == [Answer.CONNECTED]
    entered = probe.accept(listener)
    line = lab.link_bytes("nat_a")
    assert probe.settle([probe.dial(lab, "alice", (lab.addr("bob"), PUNCH))]) == [Answer.CONNECTED]
    assert probe.accept(listener)[1][0] == lab.addr("alice")
    assert lab.link_bytes("nat_a") == line
    for sock in (pinned.client, pinned.server, entering.sock, entered[0]):
        sock.close()
    assert probe.settle([probe.dial(lab, "alice", public)]) == [Answer.SILENT]
    assert lab.syns_sent("alice") == Syns(server=0, elsewhere=2)
    assert lab.syns_sent("bob") == Syns(server=1, elsewhere=0)


@pytest.mark.parametrize("carrier", [None, KINDS["port-restricted"]])
def test_all_take_ports_from_one_counter(carrier: object, lab_factory: LabFactory) -> None:
    """Alice, bob and other people, behind a sequential NAT, which may have a carrier's before it."""
    lab = lab_factory(KINDS["sequential"], one_nat=True, carrier_a=carrier, rtt_ms=0)
    server = probe.Server(lab)
    ports = [server.observe(role, PUNCH, server.endpoints[0]).seen[1] for role in ("alice", "bob")]
    assert ports[1] == ports[0] + 1
    with lab.cross_traffic("bob", 100, seconds=0.1):
        pass
    assert server.observe("alice", PUNCH, server.endpoints[1]).seen[1] > ports[1] + 1


def test_one_nat_must_be_one(lab_factory: LabFactory) -> None:
    """Without translation there is nothing that two hosts could share."""
    with pytest.raises(LabError, match="needs a NAT"):
        lab_factory(None, one_nat=True)


@pytest.mark.deadline(60)
def test_a_file_goes_through_the_lan(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Real programs and the relay forbidden: neither the relay nor the router carries it."""
    lab = lab_factory(KINDS["symmetric"], one_nat=True, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        assert first_path(scene.copy_directly(), "lan")["path"] == "lan"
        assert lab.link_bytes("nat_a") < 1 << 19
