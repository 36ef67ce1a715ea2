"""Two homes behind one carrier's NAT that sends nothing back: they meet in the carrier's network, at their routers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.lab import probe
from tests.lab.conftest import LabFactory
from tests.lab.homerouter import HomeRouter
from tests.lab.nat import KINDS, TABLE
from tests.lab.probe import Answer
from tests.lab.topology import Lab
from tests.scene import Scene, events_of, first_path, last, random_file

PUNCH = 23456
CARRIERS = ["full-cone", "port-restricted/random-port", "symmetric"]
OUTSIDE = {"nat_a": "100.64.1.2", "nat_b": "100.64.2.2"}
"""Where the homes' routers are in the carrier's network."""
SOAK = 20
LETS_THROUGH = f"""add rule ip {TABLE} through iifname "lan" oifname "lan" ip daddr 100.64.0.0/10 accept
"""


def carried(lab_factory: LabFactory, carrier: str, home: str = "port-restricted") -> Lab:
    """Two homes with equal private networks, and a carrier that lets its customers reach each other's routers."""
    lab = lab_factory(
        KINDS[home], KINDS["port-restricted"], carrier_a=KINDS[carrier], one_carrier=True, same_lan=True, rtt_ms=40
    )
    lab.nft("carrier_a", LETS_THROUGH)
    return lab


@contextmanager
def routers(lab: Lab, *, gives: bool = True, only: str = "") -> Iterator[list[HomeRouter]]:
    """The routers of both homes, or of one, answer to PCP."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(HomeRouter(lab, role, outside, gives=gives))
            for role, outside in OUTSIDE.items()
            if only in ("", role)
        ]


def test_the_routers_reach_each_other_and_nothing_else_does(lab_factory: LabFactory) -> None:
    """A plain dial from a home ends at the other router; the carrier sends nothing back that is for its own address."""
    lab = carried(lab_factory, "full-cone")
    server = probe.Server(lab)
    bob = server.observe("bob", PUNCH, server.endpoints[0]).seen
    listener = probe.listen(lab, "bob", PUNCH)
    inner = (OUTSIDE["nat_b"], PUNCH)
    dials = [probe.dial(lab, "alice", there, PUNCH) for there in (bob, inner, (lab.addr("bob"), PUNCH))]
    assert Answer.CONNECTED not in probe.settle(dials)
    back = probe.dial(lab, "bob", (OUTSIDE["nat_a"], PUNCH), PUNCH)
    assert probe.settle([dials[1], back], 5.0) == [Answer.CONNECTED] * 2
    assert not probe.has_guest(listener)


@pytest.mark.deadline(60)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_port_that_the_homes_router_gives_is_a_way_in(lab_factory: LabFactory, tmp_path: Path, carrier: str) -> None:
    lab = carried(lab_factory, carrier)
    with routers(lab) as given, Scene(lab, tmp_path, loopback=False) as scene:
        path = first_path(scene.copy_directly(), "mapped")
        print(f"{carrier}: {path['after_ms']:.0f} ms")
    assert path["remote"].startswith(OUTSIDE["nat_a"] + ":")
    assert [router.led for router in given] == [{}, {}], "the ports were given back"


@pytest.mark.deadline(60)
def test_one_such_router_will_do(lab_factory: LabFactory, tmp_path: Path) -> None:
    """The other home's NAT draws ports at random."""
    lab = carried(lab_factory, "symmetric", "symmetric")
    with routers(lab, only="nat_b"), Scene(lab, tmp_path, loopback=False) as scene:
        assert first_path(scene.copy_directly(), "mapped")


@pytest.mark.deadline(60)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_where_the_router_is_will_do_for_a_punch(lab_factory: LabFactory, tmp_path: Path, carrier: str) -> None:
    """It refuses the port and names its address: each side dials the other's router from its punch port."""
    lab = carried(lab_factory, carrier)
    with routers(lab, gives=False) as asked, Scene(lab, tmp_path, loopback=False) as scene:
        path = first_path(scene.copy_directly(), "punched")
        print(f"{carrier}: {path['after_ms']:.0f} ms")
    assert path["remote"].startswith(OUTSIDE["nat_a"] + ":")
    assert [router.led for router in asked] == [{}, {}]


@pytest.mark.deadline(120)
def test_without_the_routers_there_is_no_path(lab_factory: LabFactory, tmp_path: Path) -> None:
    """What the other tests show is due to what the routers said."""
    lab = carried(lab_factory, "full-cone")
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        random_file(tmp_path / "small.bin", 1 << 16)
        scene.receive("--no-code", "--path", "direct")
        alice = scene.send(tmp_path / "small.bin", "--path", "direct")
        assert alice.wait(60).status == 7
        assert "behind one public address" in last(events_of(alice), "error")["message"]


@pytest.mark.soak
@pytest.mark.deadline(900)
@pytest.mark.parametrize("gives", [True, False])
def test_they_meet_every_time(lab_factory: LabFactory, tmp_path: Path, gives: bool) -> None:
    lab = carried(lab_factory, "port-restricted/random-port")
    times = []
    with routers(lab, gives=gives):
        for number in range(SOAK):
            folder = tmp_path / str(number)
            folder.mkdir()
            with Scene(lab, folder, loopback=False) as scene:
                times.append(first_path(scene.copy_directly(), "mapped" if gives else "punched")["after_ms"])
    print(f"{len(times)} of {SOAK}, milliseconds {sorted(round(time) for time in times)}")
