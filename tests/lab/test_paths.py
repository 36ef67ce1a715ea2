"""Which path a transfer takes between two NATs: real programs, kernel NATs, the server's link counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS, PAIRS
from tests.lab.topology import Lab
from tests.scene import Scene, events_of, file_hash, first_path, last, random_file

MIB = 1 << 20
GIB = 1 << 30
SOON_S = 15.0
"""Within what time of the introduction a sender without any path says so, seconds."""
SOAK = pytest.mark.soak
MET = [
    pytest.param(one, other, marks=() if one == other or place % 2 else SOAK, id=f"{one}+{other}")
    for place, (one, other) in enumerate(PAIRS)
]
"""Each kind with itself and with about half of the others; the rest in long runs."""


def scene_in(lab: Lab, folder: Path) -> Scene:
    scene = Scene(lab, folder, loopback=False)
    scene.start_server()
    scene.make_contacts()
    return scene


def transfer(scene: Scene, size: int, *words: str, timeout: float = 120.0) -> tuple[list, list]:  # type: ignore[type-arg]  # lists of JSON events
    """Send a file of ``size`` bytes from alice to bob; both must end well and the hashes be equal."""
    source = scene.folder / "big.bin"
    digest = random_file(source, size)
    bob = scene.receive("--once", "--no-code", *words)
    alice = scene.send(source, *words)
    alice.succeed(timeout)
    bob.succeed(timeout)
    assert file_hash(scene.inbox / "big.bin") == digest
    assert [path.name for path in scene.inbox.iterdir()] == ["big.bin"]
    return events_of(alice), events_of(bob)


@pytest.mark.deadline(240)
@pytest.mark.parametrize(
    ("kind", "size"),
    [("port-restricted", GIB), ("port-restricted/rst", GIB // 4), pytest.param("port-restricted/rst", GIB, marks=SOAK)],
)
def test_a_large_file_goes_directly_between_two_port_restricted_nats(
    lab_factory: LabFactory, tmp_path: Path, kind: str, size: int
) -> None:
    """All but the first moments directly: the events and the server's own link agree."""
    lab = lab_factory(KINDS[kind], KINDS[kind], rtt_ms=40)
    with scene_in(lab, tmp_path) as scene:
        before = lab.server_bytes()
        sent, received = transfer(scene, size, timeout=200)
        through_server = lab.server_bytes() - before
    done = last(received, "done")
    relayed = done["bytes_by_path"].get("relay", 0)
    print(f"{kind}: {done['bytes_by_path']}, server's link {through_server} bytes, {last(sent, 'done')['seconds']} s")
    assert done["bytes"] == size
    assert sum(done["bytes_by_path"].values()) >= size
    assert relayed < 64 * MIB
    # The relay's bytes enter and leave the server; TLS, TCP and the control connections add a little.
    assert through_server < 2.3 * relayed + 2 * MIB


@pytest.mark.deadline(240)
@pytest.mark.parametrize("size", [GIB // 4, pytest.param(GIB, marks=SOAK)])
def test_a_large_file_goes_directly_without_any_relay(lab_factory: LabFactory, tmp_path: Path, size: int) -> None:
    """``--path direct`` with a server that could not carry it: its link lets through one mebibyte and no more."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    lab.block("srv", "quota over 1 mbytes")
    with scene_in(lab, tmp_path) as scene:
        before = lab.server_bytes()
        sent, received = transfer(scene, size, "--path", "direct", timeout=200)
        assert lab.server_bytes() - before < 2 * MIB
    assert set(last(received, "done")["bytes_by_path"]) == {"punched"}
    print(f"direct only: {last(sent, 'done')['seconds']} s")


@pytest.mark.deadline(90)
def test_two_symmetric_nats_use_the_relay_and_say_so(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = lab_factory(KINDS["symmetric"], KINDS["symmetric"], rtt_ms=40)
    with scene_in(lab, tmp_path) as scene:
        before = lab.server_bytes()
        sent, received = transfer(scene, 64 * MIB)
        assert lab.server_bytes() - before > 2 * 64 * MIB
    for events in (sent, received):
        assert set(last(events, "done")["bytes_by_path"]) == {"relay"}
        assert first_path(events, "relay")["path"] == "relay"


@pytest.mark.deadline(90)
def test_two_symmetric_nats_without_the_relay_fail_with_a_reason(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = lab_factory(KINDS["symmetric"], KINDS["symmetric"], rtt_ms=40)
    with scene_in(lab, tmp_path) as scene:
        source = scene.folder / "big.bin"
        random_file(source, MIB)
        bob = scene.receive("--no-code", "--path", "direct")
        before = lab.server_bytes()
        alice = scene.send(source, "--path", "direct")
        ended = alice.wait(40)
        error = last(events := events_of(alice), "error")
        assert ended.status == 7
        assert error["t"] - next(event["t"] for event in events if event["event"] == "introduced") < SOON_S
        assert "NAT" in error["message"]
        assert lab.server_bytes() - before < MIB / 2
        assert bob.poll() is None
        assert not list(scene.inbox.iterdir())


@pytest.mark.deadline(60)
@pytest.mark.parametrize(("one", "other"), MET)
def test_every_pair_of_cones_connects_directly(lab_factory: LabFactory, tmp_path: Path, one: str, other: str) -> None:
    """With the relay forbidden, since with it "connected" would prove nothing."""
    lab = lab_factory(KINDS[one], KINDS[other], rtt_ms=40)
    with scene_in(lab, tmp_path) as scene:
        _, received = transfer(scene, 2 * MIB, "--path", "direct", timeout=30)
    done = last(received, "done")
    path = first_path(received, "punched", "direct")
    print(f"{one} + {other}: TCP after {path['tcp_ms']} ms, direct after {path['after_ms']} ms")
    assert set(done["bytes_by_path"]) <= {"punched", "direct"}
