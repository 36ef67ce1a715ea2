"""Two peers behind one NAT, or one carrier, who reach each other only if it sends back what is meant for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import probe
from tests.lab.conftest import LabFactory
from tests.lab.namespaces import LabError
from tests.lab.nat import KINDS, NatKind
from tests.lab.probe import Answer
from tests.scene import Scene, events_of, first_path, last, random_file

PUNCH = 23456
TURNING = [
    "full-cone/hairpin",
    "full-cone/random-port/hairpin",
    "address-restricted/hairpin",
    "port-restricted/hairpin",
]
HOMES = ["port-restricted", "port-restricted/random-port/rst"]


@pytest.mark.parametrize("kind", TURNING)
def test_a_neighbour_is_reached_by_its_outside_endpoint_and_seen_by_one(lab_factory: LabFactory, kind: str) -> None:
    """A plain dial needs a full cone; two that cross pass every kind. Neither LAN address is of any use."""
    lab = lab_factory(KINDS[kind], one_nat=True, isolated=True, rtt_ms=0)
    server = probe.Server(lab)
    alice = server.observe("alice", PUNCH, server.endpoints[0]).seen
    bob = server.observe("bob", PUNCH + 1, server.endpoints[0]).seen
    listener = probe.listen(lab, "bob", PUNCH + 1)
    assert probe.settle([probe.dial(lab, "alice", (lab.addr("bob"), PUNCH + 1), PUNCH)]) != [Answer.CONNECTED]
    plain = probe.dial(lab, "alice", bob, PUNCH)
    if kind.startswith("full-cone"):
        assert probe.settle([plain]) == [Answer.CONNECTED]
        assert probe.accept(listener)[1] == alice
        return
    assert probe.settle([plain]) == [Answer.SILENT]
    assert probe.settle([plain, probe.dial(lab, "bob", alice, PUNCH + 1)], 5.0) == [Answer.CONNECTED] * 2


def test_a_hairpin_needs_ports_that_can_be_foreseen() -> None:
    with pytest.raises(ValueError, match="not written"):
        NatKind("port-restricted", False, hairpin=True)


def test_one_carrier_has_two_customers(lab_factory: LabFactory) -> None:
    """They share its address; their routers cannot reach each other but through it."""
    lab = lab_factory(carrier_a=KINDS["full-cone"], one_carrier=True, rtt_ms=0)
    server = probe.Server(lab)
    seen = [server.observe(role, PUNCH, server.endpoints[0]).seen for role in ("alice", "bob")]
    assert [address for address, _ in seen] == [lab.public_addr("carrier_a")] * 2
    assert seen[0] != seen[1]
    with pytest.raises(LabError, match="two customers"):
        lab_factory(one_carrier=True)


@pytest.mark.deadline(60)
@pytest.mark.parametrize("kind", TURNING)
def test_a_file_goes_through_the_hairpin_of_one_nat(lab_factory: LabFactory, tmp_path: Path, kind: str) -> None:
    """Real programs, the relay forbidden, and a LAN that keeps its hosts apart."""
    lab = lab_factory(KINDS[kind], one_nat=True, isolated=True, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        path = first_path(scene.copy_directly(), "punched", "direct", "lan")
    print(f"{kind}: {path['path']} after {path['after_ms']} ms")
    assert path["remote"].startswith(f"{lab.public_addr('nat_a')}:")


@pytest.mark.deadline(60)
@pytest.mark.parametrize("carrier", ["full-cone/hairpin", "full-cone/random-port/hairpin", "port-restricted/hairpin"])
@pytest.mark.parametrize("home", HOMES)
def test_a_file_goes_through_the_hairpin_of_a_carrier(
    lab_factory: LabFactory, tmp_path: Path, home: str, carrier: str
) -> None:
    """Both homes have a NAT of their own, and private networks that look alike."""
    lab = lab_factory(
        KINDS[home], KINDS["port-restricted"], carrier_a=KINDS[carrier], one_carrier=True, same_lan=True, rtt_ms=40
    )
    with Scene(lab, tmp_path, loopback=False) as scene:
        path = first_path(scene.copy_directly(), "punched", "direct", "lan")
    print(f"{home} behind {carrier}: {path['path']} after {path['after_ms']} ms")
    assert path["remote"].startswith(f"{lab.public_addr('carrier_a')}:")


@pytest.mark.deadline(150)
def test_without_a_hairpin_the_reason_is_said_and_the_relay_carries_it(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = lab_factory(carrier_a=KINDS["full-cone"], one_carrier=True, same_lan=True, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        source = scene.folder / "small.bin"
        random_file(source, 1 << 20)
        bob = scene.receive("--no-code", "--once")
        refused = scene.send(source, "--path", "direct")
        assert refused.wait(60).status == 7
        assert "behind one public address" in last(events_of(refused), "error")["message"]
        scene.send(source).succeed(30)
        bob.succeed(30)
        assert set(last(events_of(bob), "done")["bytes_by_path"]) == {"relay"}
