"""NATs that forget soon: unanswered SYNs after two seconds, quiet connections after fifteen."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scripts.product import JsonEvent
from tests.lab.conftest import LabFactory
from tests.lab.habits import QUIET_S, shorten_memory
from tests.lab.nat import KINDS
from tests.lab.topology import Lab
from tests.scene import Scene, events_of, first_path, random_file

MINUTE_S = 60
"""What carriers' NATs that forget soonest allow, seconds."""


def short_lived(lab_factory: LabFactory, kind: str, quiet: int = QUIET_S) -> Lab:
    """Two homes with such a NAT; `quiet` as for `shorten_memory`."""
    lab = lab_factory(KINDS[kind], KINDS[kind], rtt_ms=40)
    for router in ("nat_a", "nat_b"):
        shorten_memory(lab, router, quiet)
    return lab


@pytest.mark.deadline(60)
@pytest.mark.parametrize("kind", ["port-restricted", "port-restricted/rst"])
def test_a_punch_does_not_need_long_memory(lab_factory: LabFactory, tmp_path: Path, kind: str) -> None:
    lab = short_lived(lab_factory, kind)
    with Scene(lab, tmp_path, loopback=False) as scene:
        assert first_path(scene.copy_directly(), "punched")


def asked_after(scene: Scene, seconds: float, *, comes_back: bool = False) -> list[JsonEvent]:
    """A receiver waits so long on a connection on which nobody says anything, and is sent a file; what it said.

    `comes_back`: its first connection is lost before that.
    """
    scene.start_server()
    scene.make_contacts()
    source = scene.folder / "small.bin"
    random_file(source, 1 << 20)
    bob = scene.receive("--once", "--no-code", "--path", "direct")
    if comes_back:
        bob.wait_for("registered", 60.0)
    # What is shown is what time does to a connection on which nobody says anything.
    time.sleep(seconds)
    alice = scene.send(source, "--path", "direct")
    alice.succeed(30)
    bob.succeed(30)
    return events_of(bob)


@pytest.mark.soak
@pytest.mark.deadline(180)
def test_a_receiver_that_waits_finds_out_how_often_it_must_be_heard(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Its first ping meets a NAT that has forgotten it; later ones come in time, so it can be asked for."""
    lab = short_lived(lab_factory, "port-restricted")
    with Scene(lab, tmp_path, loopback=False) as scene:
        assert first_path(asked_after(scene, 1.5 * QUIET_S, comes_back=True), "punched")


@pytest.mark.soak
@pytest.mark.deadline(300)
def test_f34_a_nat_that_forgets_after_a_minute_is_kept_awake(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Who waits is heard often enough: the connection on which it is asked for is still the first one."""
    lab = short_lived(lab_factory, "port-restricted", MINUTE_S)
    with Scene(lab, tmp_path, loopback=False) as scene:
        said = asked_after(scene, 2.5 * MINUTE_S)
        assert first_path(said, "punched")
        assert not any(event["event"] == "registered" for event in said), "it had to come back"
