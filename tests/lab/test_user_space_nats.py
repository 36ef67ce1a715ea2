"""NATs that no kernel's imitates, against others: directly where it can be, with the relay forbidden, and named."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from p2pxfer.core.traversal.discovery import PROBES
from p2pxfer.net.traversal.portprobes import TWICE
from tests.lab import probe
from tests.lab.conftest import LabFactory
from tests.lab.directly import Ended, send_directly
from tests.lab.nat import KINDS, NatKind
from tests.lab.probe import Answer
from tests.lab.tunnat import TunKind
from tests.scene import Scene, events_of, last

PUNCH = 23456
HERE: dict[str, NatKind | TunKind | None] = {
    **KINDS,
    "by-connection": TunKind("by-connection"),
    "by-connection-256": TunKind("by-connection", 40960, 41215),
    "first-preserved": TunKind("first-preserved"),
}
MET = [
    ("by-connection", "port-restricted"),
    ("port-restricted", "by-connection-256"),
    ("by-connection-256", "port-restricted/rst"),
    ("first-preserved", "port-restricted"),
    ("port-restricted/random-port", "first-preserved"),
    ("first-preserved", "port-restricted/rst"),
    ("first-preserved", "first-preserved"),
]
"""The NAT of the sender, that of the receiver."""
MEASURED = 1 + 3 + PROBES + 2 * TWICE
"""SYNs of a client to a server with four endpoints: one to each, the row of probes, some connections made twice."""
SOAK = 20
ENOUGH = {"by-connection": 18, "first-preserved": 20}
"""How many of so many tries must connect: where ports are drawn from all, some fail by chance."""


def sent(lab_factory: LabFactory, folder: Path, one: str, other: str) -> Ended:
    lab = lab_factory(HERE[one], HERE[other], rtt_ms=40)
    ended = send_directly(lab, folder)
    lab.close()
    print(f"{one} + {other}: {ended}")
    return ended


@pytest.mark.deadline(90)
@pytest.mark.parametrize(("one", "other"), MET, ids=["+".join(pair) for pair in MET])
def test_a_pair_connects_directly(lab_factory: LabFactory, tmp_path: Path, one: str, other: str) -> None:
    """Where ports are drawn at random a try is a game of chance, so one that is lost is played again."""
    tries = 2 if "by-connection" in (one, other) else 1
    assert 0 in (sent(lab_factory, tmp_path / str(number), one, other).status for number in range(tries))


@pytest.mark.parametrize(("one", "other"), MET, ids=["+".join(pair) for pair in MET])
def test_a_plain_dial_fails_between_them(lab_factory: LabFactory, one: str, other: str) -> None:
    """Both dial what the server saw of the other, each from the port that it saw, at the same moment."""
    lab = lab_factory(HERE[one], HERE[other], rtt_ms=4)
    server = probe.Server(lab)
    seen = {role: server.observe(role, PUNCH, server.endpoints[0]) for role in ("alice", "bob")}
    for _ in range(3):
        dials = [
            probe.dial(lab, role, seen[other_role].seen, PUNCH)
            for role, other_role in (("alice", "bob"), ("bob", "alice"))
        ]
        assert Answer.CONNECTED not in probe.settle(dials, 0.5)
        for dial in dials:
            dial.sock.close()


@pytest.mark.soak
@pytest.mark.deadline(1200)
@pytest.mark.parametrize(("one", "other"), MET, ids=["+".join(pair) for pair in MET])
def test_a_pair_connects_again_and_again(lab_factory: LabFactory, tmp_path: Path, one: str, other: str) -> None:
    tries = [sent(lab_factory, tmp_path / str(number), one, other) for number in range(SOAK)]
    times = sorted(ended.after_ms for ended in tries if ended.status == 0)
    print(f"{one} + {other}: {len(times)} of {SOAK}, milliseconds {[round(time) for time in times]}")
    assert len(times) >= min(ENOUGH.get(kind, SOAK) for kind in (one, other))


@pytest.mark.deadline(60)
@pytest.mark.parametrize("other", ["symmetric", "by-connection"])
def test_what_cannot_be_done_is_named(lab_factory: LabFactory, tmp_path: Path, other: str) -> None:
    ended = sent(lab_factory, tmp_path, "by-connection", other)
    assert ended.status == 7
    assert "the NAT here chooses another port for every" in ended.message
    assert "the peer's chooses another port for every" in ended.message


@pytest.mark.deadline(90)
def test_a_check_names_both_sides(lab_factory: LabFactory, tmp_path: Path) -> None:
    """What one side found out of its NAT is what the other one is told."""
    lab = lab_factory(HERE["by-connection"], HERE["by-connection"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        scene.receive("--no-code")
        # While somebody meets him bob measures no more, and nothing but his SYNs says how far he is.
        deadline = time.monotonic() + 30
        while lab.syns_sent("bob").server < MEASURED:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        scene.program("alice", scene.alice, "netcheck").succeed(30)  # the answers to the last ones come meanwhile
        check = scene.program("alice", scene.alice, "netcheck", "bob")
        check.succeed(60)
        events = events_of(check)
    found = {event["side"]: event["mapping"] for event in events if event["event"] == "nat"}
    verdict = last(events, "verdict")
    assert found == {"here": "connection-dependent", "there": "connection-dependent"}
    assert (verdict["path"], verdict["reason"], verdict["where"]) == ("relay", "both-random", "both")
    assert "no TCP punch can work" in verdict["message"]
