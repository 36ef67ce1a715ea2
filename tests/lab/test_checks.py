"""``netcheck`` with a peer, between kernel NATs: which path the two get, and what is said of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from scripts.product import JsonEvent, Program
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.topology import Lab
from tests.scene import Scene, events_of, last

CASES = {
    ("port-restricted", "port-restricted"): ("punched", "kept", "", "none", ""),
    ("port-restricted", "port-restricted/random-port"): ("punched", "kept", "", "none", ""),
    ("none", "port-restricted"): ("direct", "open", "here", "none", ""),
    ("symmetric", "none"): ("direct", "open", "there", "none", ""),
    ("sequential", "sequential"): ("punched", "predicted", "", "none", ""),
    ("port-restricted/no-simo", "port-restricted/random-port/no-simo"): (
        "relay",
        "no-crossing",
        "both",
        "map",
        "either",
    ),
    ("symmetric", "symmetric"): ("relay", "both-random", "both", "map", "either"),
    ("sequential", "symmetric"): ("relay", "counted-and-random", "there", "map", "either"),
}
"""The NATs of alice and bob: path, reason, where, change, at."""
MAPPING = {"none": "none", "symmetric": "port-dependent", "sequential": "port-dependent"}
"""The others keep one port for every destination."""


def start(lab: Lab, folder: Path, *words: str) -> tuple[Scene, Program]:
    """Bob waits, and knows alice."""
    scene = Scene(lab, folder, loopback=False)
    scene.start_server()
    scene.make_contacts()
    return scene, scene.receive("--once", *words)


def check(scene: Scene, *words: str) -> list[JsonEvent]:
    alice = scene.program("alice", scene.alice, "netcheck", "bob", *words)
    alice.succeed(60)
    return events_of(alice)


@pytest.mark.deadline(90)
@pytest.mark.parametrize(("one", "other"), CASES, ids=["+".join(pair) for pair in CASES])
def test_the_verdict_on_a_pair(lab_factory: LabFactory, tmp_path: Path, one: str, other: str) -> None:
    lab = lab_factory(KINDS[one], KINDS[other], rtt_ms=40)
    scene, bob = start(lab, tmp_path)
    with scene:
        events = check(scene)
        verdict = last(events, "verdict")
        print(f"{one} + {other}: {verdict['message']}")
        found = tuple(verdict[name] for name in ("path", "reason", "where", "change", "at"))
        assert found == CASES[one, other]
        here, there = (event for event in events if event["event"] == "nat")
        for nat, kind, router in ((here, one, "nat_a"), (there, other, "nat_b")):
            assert nat["mapping"] == MAPPING.get(kind, "endpoint-independent")
            assert nat["addresses"] == [lab.public_addr(router)]
            assert nat["filtering"] == ("endpoint-independent" if kind == "none" else "port-dependent")
        assert verdict["after_ms"] > 0
        assert 30 < verdict["rtt_ms"] < 2000
        assert bob.poll() is None, "it was not used up"


@pytest.mark.deadline(90)
def test_two_behind_one_nat(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = lab_factory(KINDS["port-restricted"], one_nat=True, rtt_ms=40)
    scene, _ = start(lab, tmp_path)
    with scene:
        verdict = last(check(scene), "verdict")
    assert (verdict["path"], verdict["reason"], verdict["change"]) == ("lan", "same-network", "none")


@pytest.mark.deadline(90)
def test_dials_that_are_withheld_are_named(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Both are gentle: the dials of one side alone might find a way."""
    lab = lab_factory(KINDS["symmetric"], KINDS["port-restricted"], rtt_ms=40)
    scene, _ = start(lab, tmp_path, "--gentle")
    with scene:
        verdict = last(check(scene, "--gentle"), "verdict")
    assert (verdict["path"], verdict["reason"], verdict["where"]) == ("relay", "withheld", "both")
    assert "bob says: --gentle forbids" in verdict["message"]


@pytest.mark.deadline(90)
def test_without_any_path_that_is_allowed(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = lab_factory(KINDS["symmetric"], KINDS["symmetric"], rtt_ms=40)
    scene, _ = start(lab, tmp_path)
    with scene:
        alice = scene.program("alice", scene.alice, "netcheck", "bob", "--path", "direct")
        assert alice.wait(60).status == 7
        events = events_of(alice)
    verdict = last(events, "verdict")
    assert (verdict["path"], verdict["reason"], verdict["after_ms"]) == ("none", "both-random", None)
    there = [event for event in events if event["event"] == "nat"][1]
    assert (there["filtering"], there["why"]["filtering"]) == ("unknown", "the peer did not say")
    assert events[-1]["code"] == "E_PATH_NONE"


@pytest.mark.deadline(90)
def test_a_peer_that_is_lost_in_the_middle(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Two random NATs are punched in vain for ten seconds, during which the relay stands."""
    lab = lab_factory(KINDS["symmetric"], KINDS["symmetric"], rtt_ms=40)
    scene, bob = start(lab, tmp_path)
    with scene:
        alice = scene.program("alice", scene.alice, "netcheck", "bob")
        alice.wait_for("path")
        os.kill(bob.pid, signal.SIGKILL)
        assert alice.wait(40).status == 3
        error = events_of(alice)[-1]
    assert (error["event"], error["code"]) == ("error", "E_PEER_GONE")
    assert "bob was lost in the middle of the check" in error["message"]
