"""Introductions that are meant to make a machine dial what it must not: counted in SYNs that leave it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import product
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.syns import Syns
from tests.lab.topology import Lab
from tests.scene import WORDS, Scene, events_of, last, random_file

FORBIDDEN = [
    "127.0.0.1:30000", "0.0.0.0:30000", "169.254.169.254:30000", "255.255.255.255:30000", "224.0.0.1:30000",
    "240.0.0.1:30000", "[::1]:30000", "[::]:30000", "[::ffff:127.0.0.1]:30000", "[::127.0.0.1]:30000",
    "[64:ff9b::7f00:1]:30000", "[2002:7f00:1::1]:30000", "[64:ff9b::a9fe:a9fe]:30000", "[fe80::1]:30000",
    "[fec0::1]:30000", "[ff02::1]:30000", "[fd00::1]:30000", "10.1.2.3:30000", "198.18.9.9:22", "198.18.9.9:0",
    "198.18.9.9:65536", "127.1:30000", "0x7f000001:30000", "2130706433:30000", "localhost:30000", "10.0.0.1 :30000",
]  # fmt: skip
"""What no introduction may have dialled as observed of the peer."""
LOCAL = {"10.1.2.3:30000", "[fd00::1]:30000"}
"""What may be dialled as the peer's LAN, of which only the server can know whether it is this one, too."""
DOUBLE = """
import sys
from msgspec import structs
from p2pxfer.core.server import matchmaker
from twisted.application.twist._twist import Twist

LISTS = iter({lists!r})

def told(self, session, meeting, now, plain=matchmaker.Matchmaker._told):
    observed, lan = next(LISTS) if meeting.initiator else LAST[0]
    LAST[0] = (observed, lan)
    found = plain(self, session, meeting, now)
    return structs.replace(found, observed=observed, lan=lan, mapped=["198.18.9.9:30001", *observed[:1]])

LAST = [None]
matchmaker.Matchmaker._told = told
matchmaker.Matchmaker._observed = lambda *of_a_side: []
Twist.main(sys.argv)
"""
Lists = list[tuple[list[str], list[str]]]


@pytest.fixture
def lab(lab_factory: LabFactory) -> Lab:
    """Two homes whose NATs let a dial out."""
    return lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=20)


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    with Scene(lab, tmp_path, loopback=False) as scene:
        yield scene


def lying_server(scene: Scene, monkeypatch: pytest.MonkeyPatch, lists: Lists) -> None:
    """A server that says what it is told to: for each introduction in turn what was observed, and the LAN.

    It also says that the peer's router leads two ports to it: one at an address that was not observed, and one more.
    """
    folder = scene.folder / "bin"
    folder.mkdir()
    double = folder / "double.py"
    double.write_text(DOUBLE.replace("{lists!r}", repr(lists)))
    twist = folder / "twist"
    twist.write_text(f'#!/bin/sh\nexec {sys.executable} {double} "$@"\n')
    twist.chmod(0o755)
    (folder / "p2pxfer").symlink_to(product.BIN / "p2pxfer")
    monkeypatch.setattr(product, "BIN", folder)
    scene.start_server()


def elsewhere(lab: Lab) -> dict[str, int]:
    """SYNs that left for anything but the server."""
    counts: dict[str, Syns] = {side: lab.syns_sent(side) for side in ("alice", "bob")}
    return {side: count.elsewhere for side, count in counts.items()}


@pytest.mark.deadline(120)
def test_what_may_not_be_dialled_is_not_dialled(
    lab: Lab, scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One hostile list after the other, forbidden endpoints as observed, mapped and LAN; the relay carries the file."""
    lists: Lists = []
    for at in range(0, len(FORBIDDEN), 4):
        lists.append((FORBIDDEN[at : at + 8], [text for text in FORBIDDEN[at : at + 4] if text not in LOCAL]))
    lying_server(scene, monkeypatch, lists)
    scene.make_contacts()
    scene.receive("--no-code")
    for number in range(len(lists)):
        source = tmp_path / f"small-{number}.bin"
        random_file(source, 1 << 12, seed=number)
        alice = scene.send(source)
        shares = last(events_of(alice), "done")["bytes_by_path"]
        alice.succeed(30)
        assert set(shares) == {"relay"}
    assert elsewhere(lab) == {"alice": 0, "bob": 0}


@pytest.mark.deadline(60)
def test_ten_thousand_candidates_are_no_introduction(
    lab: Lab, scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The message is refused whole before anything in it is looked at."""
    many = [f"198.18.{number // 250}.{number % 250 + 1}:30000" for number in range(10_000)]
    lying_server(scene, monkeypatch, [(many, [])] * 20)
    scene.make_contacts()
    bob = scene.receive("--no-code")
    source = tmp_path / "small.bin"
    random_file(source, 1 << 12)
    alice = scene.send(source)
    ended = alice.wait(30)
    assert ended.status not in (0, None)
    assert bob.poll() is None
    assert elsewhere(lab) == {"alice": 0, "bob": 0}


@pytest.mark.deadline(60)
def test_a_stranger_who_asks_has_nobody_dial(lab: Lab, scene: Scene, tmp_path: Path) -> None:
    """A receiver that shows no code takes up introductions of its contacts only."""
    scene.start_server()
    bob = scene.receive("--no-code")
    source = tmp_path / "small.bin"
    random_file(source, 1 << 12)
    alice = scene.send(source, env={"P2PXFER_CODE": f"4-{WORDS}"})
    alice.wait_for("introduced")
    end = time.monotonic() + 20
    while not elsewhere(lab)["alice"]:
        assert time.monotonic() < end, "nobody dialled at all, so nothing is shown"
        time.sleep(0.1)
    time.sleep(2.0)  # as long as bob has had his introduction
    assert bob.poll() is None
    assert elsewhere(lab)["bob"] == 0
