"""NATs that forget soon: unanswered SYNs after two seconds, quiet connections after fifteen."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.habits import QUIET_S, shorten_memory
from tests.lab.nat import KINDS
from tests.lab.topology import Lab
from tests.scene import Scene, events_of, first_path, random_file

MINUTE_S = 60
"""What carriers' NATs that forget soonest allow, seconds."""


def short_lived(lab_factory: LabFactory, kind: str) -> Lab:
    """Two homes with such a NAT."""
    lab = lab_factory(KINDS[kind], KINDS[kind], rtt_ms=40)
    for router in ("nat_a", "nat_b"):
        shorten_memory(lab, router)
    return lab


@pytest.mark.deadline(60)
@pytest.mark.parametrize("kind", ["port-restricted", "port-restricted/rst"])
def test_a_punch_does_not_need_long_memory(lab_factory: LabFactory, tmp_path: Path, kind: str) -> None:
    lab = short_lived(lab_factory, kind)
    with Scene(lab, tmp_path, loopback=False) as scene:
        assert first_path(scene.copy_directly(), "punched")


@pytest.mark.soak
@pytest.mark.deadline(180)
def test_a_receiver_that_waits_finds_out_how_often_it_must_be_heard(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Its first ping meets a NAT that has forgotten it; later ones come in time, so it can be asked for."""
    lab = short_lived(lab_factory, "port-restricted")
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        source = scene.folder / "small.bin"
        random_file(source, 1 << 20)
        bob = scene.receive("--once", "--no-code", "--path", "direct")
        bob.wait_for("registered", 60.0)
        # What is shown is what time does to a connection on which nobody says anything.
        time.sleep(1.5 * QUIET_S)
        alice = scene.send(source, "--path", "direct")
        alice.succeed(30)
        bob.succeed(30)
        assert first_path(events_of(bob), "punched")


@pytest.mark.soak
@pytest.mark.deadline(300)
def test_f34_a_nat_that_forgets_after_a_minute_is_kept_awake(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Who waits is heard often enough: the connection on which it is asked for is still the first one."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    for router in ("nat_a", "nat_b"):
        shorten_memory(lab, router, MINUTE_S)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        source = scene.folder / "small.bin"
        random_file(source, 1 << 20)
        bob = scene.receive("--once", "--no-code", "--path", "direct")
        # As above: what is shown is what time does.
        time.sleep(2.5 * MINUTE_S)
        alice = scene.send(source, "--path", "direct")
        alice.succeed(30)
        bob.succeed(30)
        said = events_of(bob)
        assert first_path(said, "punched")
        assert not any(event["event"] == "registered" for event in said), "it had to come back"
