"""A long line and kernels with small buffers: one connection is not enough, so more are punched beside it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from scripts.product import JsonEvent, Program
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.topology import Lab
from tests.scene import Scene, events_of, file_hash, random_file

MIB = 1 << 20
SIZE = 24 * MIB
WINDOW = 400_000
"""What a kernel buffers for one connection, bytes: some 2.5 MB/s at a round trip of 80 ms."""
FEW_SYNS = 60
"""More than two attempts to open a connection take, and far less than a walk, SYNs."""
IN_VAIN = "no further connection came about"
"""What the sender logs of an attempt."""
FOREIGN = 400_000
"""Most bytes on the server's link of two registrations and an introduction, and far less than one chunk's share."""


def send(lab: Lab, folder: Path) -> tuple[Scene, Program, Program, str]:
    """Start a transfer with the relay forbidden; returns the two programs and the file's hash."""
    scene = Scene(lab, folder, loopback=False)
    scene.start_server()
    scene.make_contacts()
    digest = random_file(scene.folder / "big.bin", SIZE)
    bob = scene.receive("--once", "--no-code", "--path", "direct")
    words = ("-vv", "send", scene.folder / "big.bin", "bob", "--path", "direct")
    return scene, scene.program("alice", scene.alice, *words), bob, digest


def ups(events: list[JsonEvent]) -> list[JsonEvent]:
    """The direct paths that came up."""
    return [event for event in events if event["event"] == "path" and event["state"] == "up"]


@pytest.mark.deadline(120)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("port-restricted", "port-restricted"),
        ("port-restricted/random-port", "port-restricted/rst"),
        ("symmetric", "full-cone"),
    ],
)
def test_more_connections_are_punched_beside_the_first(
    lab_factory: LabFactory, tmp_path: Path, one: str, other: str
) -> None:
    lab = lab_factory(KINDS[one], KINDS[other], rtt_ms=80, tcp_window=WINDOW)
    scene, alice, bob, digest = send(lab, tmp_path)
    with scene:
        heard: list[JsonEvent] = []
        listening = threading.Thread(target=lambda: heard.extend(events_of(bob)))
        listening.start()
        said = events_of(alice)
        alice.succeed(30)
        listening.join(30)
        bob.succeed(30)
        assert file_hash(scene.inbox / "big.bin") == digest
    paths = ups(said)
    print(f"{one} + {other}: {[(path['local'], path['remote'], path['after_ms']) for path in paths]}")
    assert len(paths) > 1
    assert {path["path"] for path in paths} == {"punched"}
    assert len({(path["local"], path["remote"]) for path in paths}) == len(paths)
    assert len(ups(heard)) == len(paths)
    assert lab.server_bytes() < FOREIGN
    assert [event["event"] for event in said].count("introduced") == 1


@pytest.mark.deadline(120)
@pytest.mark.parametrize(("one", "other"), [("symmetric", "port-restricted"), ("port-restricted", "symmetric")])
def test_where_none_can_be_opened_one_connection_carries_all_and_few_syns_are_spent(
    lab_factory: LabFactory, tmp_path: Path, one: str, other: str
) -> None:
    """A drawn port would have to be found by a walk like that of the first meeting, which is not made again.

    That meeting is a game of chance: one that is lost is played again.
    """
    if not any(carries_alone(lab_factory, tmp_path / name, one, other) for name in ("first", "second")):
        pytest.fail("they did not meet twice")


def carries_alone(lab_factory: LabFactory, folder: Path, one: str, other: str) -> bool:
    """Whether the two met; then one connection carried all."""
    folder.mkdir()
    lab = lab_factory(KINDS[one], KINDS[other], rtt_ms=80, tcp_window=WINDOW)
    scene, alice, bob, digest = send(lab, folder)
    with scene:
        said: list[JsonEvent] = []
        before: int | None = None
        for event in alice.events(60):
            said.append(event)
            if before is None and event["event"] == "progress" and event["bytes"] > 0:
                before = syns_elsewhere(lab)
        if before is None:
            assert alice.wait(30).status == 7
            return False
        alice.succeed(30)
        events_of(bob)
        bob.succeed(30)
        assert file_hash(scene.inbox / "big.bin") == digest
    spent = syns_elsewhere(lab) - before
    tried = "".join(log.read_text() for log in folder.glob("alice-*.log")).count(IN_VAIN)
    print(f"{one} + {other}: {before} SYNs until data came, {spent} later for {tried} attempts")
    assert tried > 0, "no further connection was tried"
    assert 0 < spent < FEW_SYNS
    assert len(ups(said)) == 1
    assert lab.server_bytes() < FOREIGN
    return True


def syns_elsewhere(lab: Lab) -> int:
    """SYNs of both hosts to each other."""
    return sum(lab.syns_sent(role).elsewhere for role in ("alice", "bob"))


@pytest.mark.deadline(120)
def test_what_was_under_way_on_a_connection_that_is_cut_goes_over_the_others(
    lab_factory: LabFactory, tmp_path: Path
) -> None:
    """The NAT forgets one of two connections: no other introduction is needed, and the file is right."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=80, tcp_window=WINDOW)
    scene, alice, bob, digest = send(lab, tmp_path)
    with scene:
        said: list[JsonEvent] = []
        cut: str | None = None
        for event in alice.events(60):
            said.append(event)
            carried = event["bytes"] if event["event"] == "progress" else 0
            if cut is None and len(ups(said)) > 1 and carried > 0:
                cut = ups(said)[0]["local"]
                forget = ["conntrack", "-D", "-p", "tcp", "--sport", cut.removeprefix("port "), "-d"]
                lab.run("nat_a", [*forget, lab.public_addr("nat_b")], check=True)
        alice.succeed(30)
        events_of(bob)
        bob.succeed(30)
        assert file_hash(scene.inbox / "big.bin") == digest
    downs = {event["local"]: event["why"] for event in said if event["event"] == "path" and event["state"] == "down"}
    print(downs)
    assert cut is not None
    assert "does not arrive" in downs[cut]
    assert [event["event"] for event in said].count("introduced") == 1
    assert not any(event["event"] == "note" for event in said), "the transfer was never without a path"
    assert lab.server_bytes() < FOREIGN
