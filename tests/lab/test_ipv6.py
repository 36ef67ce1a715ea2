"""IPv6 between homes whose routers filter it and whose IPv4 NATs no punch can cross."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import ipv6, probe
from tests.lab.conftest import LabFactory
from tests.lab.ipv6 import Filter
from tests.lab.namespaces import LabError
from tests.lab.nat import KINDS
from tests.lab.probe import Answer
from tests.scene import Scene, first_path

PUNCH = 23456
SOON_MS = 5000
"""Ten times what is usual here, and less than any deadline of an observation."""
ALICE, ALICE_2 = ipv6.addresses("alice")
BOB, _ = ipv6.addresses("bob")


@pytest.mark.parametrize(
    ("kind", "answer"), [("open", Answer.CONNECTED), ("drop", Answer.SILENT), ("rst", Answer.REFUSED)]
)
def test_a_firewall_lets_in_what_was_begun_inside(lab_factory: LabFactory, kind: Filter, answer: Answer) -> None:
    """A plain dial fails; SYNs that cross connect; nothing is translated."""
    lab = lab_factory(v6_a=kind, v6_b="drop", rtt_ms=40)
    listener = probe.listen(lab, "alice", PUNCH, ALICE)
    assert probe.settle([probe.dial(lab, "bob", (ALICE, PUNCH), address=BOB)], 1.0) == [answer]
    listener.close()
    port = PUNCH + 1
    crossing = [
        probe.dial(lab, "alice", (BOB, port), port, ALICE),
        probe.dial(lab, "bob", (ALICE, port), port, BOB),
    ]
    assert probe.settle(crossing, 5.0) == [Answer.CONNECTED] * 2


@pytest.mark.parametrize(("kind", "answer"), [("drop", Answer.SILENT), ("rst", Answer.REFUSED)])
def test_a_public_ipv4_address_may_have_a_firewall_too(lab_factory: LabFactory, kind: Filter, answer: Answer) -> None:
    lab = lab_factory(None, None, firewall_a=kind, rtt_ms=40)
    probe.listen(lab, "alice", PUNCH)
    assert probe.settle([probe.dial(lab, "bob", (lab.addr("alice"), PUNCH))], 1.0) == [answer]
    probe.listen(lab, "bob", PUNCH)
    assert probe.settle([probe.dial(lab, "alice", (lab.addr("bob"), PUNCH))], 1.0) == [Answer.CONNECTED]
    with pytest.raises(LabError, match="enough"):
        lab_factory(firewall_a=kind)


@pytest.mark.deadline(60)
@pytest.mark.parametrize(("one", "other"), [("drop", "drop"), ("rst", "rst")])
def test_a_file_goes_through_two_firewalls(lab_factory: LabFactory, tmp_path: Path, one: Filter, other: Filter) -> None:
    lab = lab_factory(None, None, firewall_a=one, firewall_b=other, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        assert first_path(scene.copy_directly(), "direct", "punched")


def test_the_kernel_takes_another_address_towards_the_peer_than_towards_the_server(lab_factory: LabFactory) -> None:
    """What makes it matter from which address one dials."""
    lab = lab_factory(v6_a="drop", v6_b="drop", rtt_ms=0)
    for peer, chosen in ((ipv6.SERVER, ALICE), (BOB, ALICE_2)):
        assert probe.dial(lab, "alice", (peer, PUNCH), address="::").sock.getsockname()[0] == chosen


def test_ipv6_is_for_plain_homes(lab_factory: LabFactory) -> None:
    with pytest.raises(LabError, match="plain"):
        lab_factory(carrier_a=KINDS["symmetric"], v6_a="drop")


@pytest.mark.deadline(60)
@pytest.mark.parametrize(("one", "other"), [("drop", "drop"), ("rst", "drop"), ("rst", "rst"), ("open", "drop")])
def test_a_file_goes_over_ipv6_where_no_nat_can_be_crossed(
    lab_factory: LabFactory, tmp_path: Path, one: Filter, other: Filter
) -> None:
    """Real programs, the relay forbidden, two NATs that draw ports at random: only through the firewalls.

    The connection uses the address that the server saw, though alice's kernel would take another one.
    """
    lab = lab_factory(KINDS["symmetric"], KINDS["symmetric"], v6_a=one, v6_b=other, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        path = first_path(scene.copy_directly(), "ipv6", "punched", "direct")
    print(f"{one} + {other}: {path['path']} after {path['after_ms']} ms")
    assert path["path"] == "ipv6"
    assert path["remote"].startswith(f"[{ALICE}]")


@pytest.mark.deadline(60)
def test_ipv6_that_leads_nowhere_does_not_delay_what_ipv4_takes(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Both have a way out, and nothing ever comes back; the plan for the sequential NAT begins in time."""
    lab = lab_factory(KINDS["sequential"], KINDS["port-restricted"], v6_a="drop", v6_b="drop", rtt_ms=40)
    lab.block("srv", "meta nfproto ipv6")
    with Scene(lab, tmp_path, loopback=False) as scene:
        path = first_path(scene.copy_directly(), "ipv6", "punched", "direct")
    print(f"{path['path']} after {path['after_ms']} ms")
    assert path["path"] == "punched"
    assert path["after_ms"] < SOON_MS


@pytest.mark.deadline(60)
@pytest.mark.parametrize("side", ["v6_a", "v6_b"])
def test_ipv6_on_one_side_does_not_disturb_the_punch(lab_factory: LabFactory, tmp_path: Path, side: str) -> None:
    lab = lab_factory(**{side: "drop"}, rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        path = first_path(scene.copy_directly(), "ipv6", "punched", "direct")
    assert path["path"] == "punched"
    assert path["after_ms"] < SOON_MS
