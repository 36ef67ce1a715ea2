"""What ``netcheck`` says of each kind of NAT: the program itself, behind kernel NATs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from p2pxfer.core.traversal.discovery import PROBES
from scripts.product import JsonEvent
from tests.e2e.conftest import wait_until
from tests.lab.checking import PACE_S, SOAK_RUNS, netcheck
from tests.lab.conftest import LabFactory
from tests.lab.nat import BLOCK_LOW, BY_ADDRESS, KINDS, OFFSET, NatKind
from tests.lab.topology import Lab
from tests.lab.tunnat import TunKind
from tests.scene import Scene, events_of, last, random_file

EXPECTED = {
    "none": ("none", "preserving", "endpoint-independent"),
    "full-cone": ("endpoint-independent", "preserving", "endpoint-independent"),
    "address-restricted": ("endpoint-independent", "preserving", "address-dependent"),
    "port-restricted": ("endpoint-independent", "preserving", "port-dependent"),
    "port-restricted/rst": ("endpoint-independent", "preserving", "port-dependent"),
    "port-restricted/icmp": ("endpoint-independent", "preserving", "port-dependent"),
    "port-restricted/rst-limited": ("endpoint-independent", "preserving", "port-dependent"),
    "full-cone/rst": ("endpoint-independent", "preserving", "endpoint-independent"),
    "port-restricted/no-simo": ("endpoint-independent", "preserving", "port-dependent"),
    "port-restricted/no-simo/rst": ("endpoint-independent", "preserving", "port-dependent"),
    "port-restricted/random-port/no-simo": ("endpoint-independent", "changed", "port-dependent"),
    "symmetric/icmp": ("port-dependent", "random", "port-dependent"),
    "port-restricted/random-port": ("endpoint-independent", "changed", "port-dependent"),
    "port-restricted/random-port/rst": ("endpoint-independent", "changed", "port-dependent"),
    "sequential": ("port-dependent", "sequential", "port-dependent"),
    "sequential-2": ("port-dependent", "sequential", "port-dependent"),
    "block-64": ("port-dependent", "block", "port-dependent"),
    "block-256": ("port-dependent", "block", "port-dependent"),
    "block-512": ("port-dependent", "block", "port-dependent"),
    "symmetric": ("port-dependent", "random", "port-dependent"),
    "offset": ("port-dependent", "offset", "port-dependent"),
    "by-address-256": ("address-dependent", "block", "port-dependent"),
    "by-connection": ("connection-dependent", "random", "port-dependent"),
    "by-connection-256": ("connection-dependent", "block", "port-dependent"),
    "first-preserved": ("port-dependent", "preserving", "port-dependent"),
}
"""Kind of NAT -> its mapping, how it chooses ports, whom it lets in."""
UNSOLICITED = {"none": "rst", "rst": "rst", "rst-limited": "rst", "icmp": "icmp"}
"""The end of a kind's name -> its answer to a SYN that nobody asked for: without a NAT that of the machine itself."""
STEPS = {"sequential": 1, "sequential-2": 2}
ANY_PORT = ("port-dependent", "connection-dependent")
"""Mappings by which two dials to two ports of the server look like two machines."""
STILL = 30
"""After so many looks without another SYN there are no more; each takes some 20 milliseconds."""


BY_CONNECTION = {
    "by-connection": TunKind("by-connection"),
    "by-connection-256": TunKind("by-connection", BLOCK_LOW, BLOCK_LOW + 255),
}
HERE: dict[str, NatKind | TunKind | None] = {
    **KINDS,
    "offset": OFFSET,
    "by-address-256": BY_ADDRESS[256],
    "first-preserved": TunKind("first-preserved"),
    **BY_CONNECTION,
}


def check(lab: Lab, kind: str, nat: JsonEvent) -> None:
    """Everything that the event says must be true of the kind."""
    assert (nat["mapping"], nat["ports"], nat["filtering"]) == EXPECTED[kind], nat
    assert nat["addresses"] == [lab.public_addr("nat_a")]
    assert nat["step"] == STEPS.get(kind, 0)
    if nat["ports"] == "random":
        # Of ten draws all are in the upper or in the lower third once in 25,000 times.
        assert 1024 <= nat["low"] < 43_000
        assert 23_000 < nat["high"] <= 65_535
    elif nat["ports"] == "block":
        size = int(kind.rpartition("-")[2])
        assert BLOCK_LOW - size // 2 <= nat["low"] < nat["high"] <= BLOCK_LOW + size + size // 2
    else:
        assert (nat["low"], nat["high"]) == (0, 0)
    assert nat["unsolicited"] == UNSOLICITED.get(kind.rpartition("/")[2], "drop")
    asked = nat["mapping"] == "endpoint-independent"
    assert nat["hairpin"] == ("no" if asked else "unknown")
    assert nat["simultaneous"] == ("no" if "no-simo" in kind else "unknown" if nat["mapping"] in ANY_PORT else "yes")
    unknown = {name for name in ("hairpin", "simultaneous") if nat[name] == "unknown"}
    assert set(nat["why"]) == {"mapped"} | unknown


@pytest.mark.deadline(60)
@pytest.mark.parametrize("kind", EXPECTED)
def test_netcheck_names_the_nat(lab_factory: LabFactory, tmp_path: Path, kind: str) -> None:
    lab = lab_factory(HERE[kind], None, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        check(lab, kind, netcheck(scene))


ONE_ADDRESS = ["none", "full-cone", "symmetric", "by-address-256", "by-connection", "first-preserved"]


def listening(lab: Lab, ports: int) -> list[str]:
    """So many endpoints of one address of the server."""
    return [f"tcp:{8877 + number}:interface={lab.server_addresses[0]}" for number in range(ports)]


def check_with_one_address(kind: str, ports: int, nat: JsonEvent) -> None:
    """What the event says is true or "unknown", for so many ports of the server's one address.

    What is the same for its ports may differ for another address; what differs, differs, and who is seen at an own
    address has no NAT.
    """
    mapping, allocation, filtering = EXPECTED[kind]
    shows = ports > 1 and mapping in (*ANY_PORT, "none")
    # A small block gives two destinations one port by chance, 1 time of 64, which looks like what keeps it.
    by_chance = allocation == "block" and nat["mapping"] == "unknown"
    assert nat["mapping"] == (mapping if shows and not by_chance else "unknown"), nat
    assert ("mapping" in nat["why"]) == (nat["mapping"] == "unknown")
    # Of few draws from a small block all are close together once in a hundred times.
    assert nat["ports"] in ((allocation, "unknown") if shows and not by_chance else ("changed", "preserving")), nat
    assert nat["filtering"] in (filtering, "unknown")
    assert nat["unsolicited"] in (UNSOLICITED.get(kind.rpartition("/")[2], "drop"), "unknown")
    assert nat["simultaneous"] in ("no" if "no-simo" in kind else "yes", "unknown")


@pytest.mark.deadline(60)
@pytest.mark.parametrize("kind", ONE_ADDRESS)
def test_with_one_address_of_the_server_nothing_wrong_is_said(
    lab_factory: LabFactory, tmp_path: Path, kind: str
) -> None:
    lab = lab_factory(HERE[kind], None, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server(*listening(lab, 2))
        check_with_one_address(kind, 2, netcheck(scene))


@pytest.mark.soak
@pytest.mark.deadline(300)
@pytest.mark.parametrize(
    ("kind", "ports"), [*((kind, 2) for kind in EXPECTED), ("by-address-256", 1), ("by-connection", 1)]
)
def test_with_one_address_nothing_wrong_is_said_every_time(
    lab_factory: LabFactory, tmp_path: Path, kind: str, ports: int
) -> None:
    lab = lab_factory(HERE[kind], None, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server(*listening(lab, ports))
        for _ in range(SOAK_RUNS):
            began = time.monotonic()
            check_with_one_address(kind, ports, netcheck(scene))
            time.sleep(max(0.0, began + PACE_S - time.monotonic()))


@pytest.mark.deadline(60)
@pytest.mark.parametrize("kind", ["full-cone", "port-restricted"])
def test_a_hairpin_is_found_whatever_the_filtering(lab_factory: LabFactory, tmp_path: Path, kind: str) -> None:
    """One dial alone would not pass the second kind."""
    lab = lab_factory(KINDS[f"{kind}/hairpin"], None, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        nat = netcheck(scene)
    assert (nat["hairpin"], nat["filtering"]) == ("yes", EXPECTED[kind][2])
    assert set(nat["why"]) == {"mapped"}


@pytest.mark.soak
@pytest.mark.deadline(300)
@pytest.mark.parametrize("kind", ["full-cone", "port-restricted"])
def test_a_hairpin_is_found_every_time(lab_factory: LabFactory, tmp_path: Path, kind: str) -> None:
    lab = lab_factory(KINDS[f"{kind}/hairpin"], None, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        assert [netcheck(scene)["hairpin"] for _ in range(SOAK_RUNS)] == ["yes"] * SOAK_RUNS


@pytest.mark.soak
@pytest.mark.deadline(300)
@pytest.mark.parametrize("kind", EXPECTED)
def test_netcheck_names_the_nat_every_time(lab_factory: LabFactory, tmp_path: Path, kind: str) -> None:
    lab = lab_factory(HERE[kind], None, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        for _ in range(SOAK_RUNS):
            began = time.monotonic()
            check(lab, kind, netcheck(scene))
            time.sleep(max(0.0, began + PACE_S - time.monotonic()))


@pytest.mark.deadline(60)
def test_an_introduction_uses_what_was_found(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Bob waits behind a sequential NAT: when Alice comes, the server tells what his probes showed."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["sequential"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        random_file(tmp_path / "small.bin", 1 << 16)
        bob = scene.receive("--once", "--no-code")
        counts: list[int] = []

        def probes_are_over() -> bool:
            """Nothing says so but that there are no more SYNs than a while ago."""
            counts.append(lab.syns_sent("bob").server)
            return len(counts) > STILL and counts[-1] == counts[-STILL] > PROBES

        wait_until(probes_are_over)
        scene.send(tmp_path / "small.bin").succeed(30)
        bob.succeed(30)
        nat = last(events_of(bob), "nat")
    assert (nat["mapping"], nat["ports"], nat["step"]) == ("port-dependent", "sequential", 1)
