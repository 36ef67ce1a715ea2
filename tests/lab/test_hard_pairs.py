"""NATs that choose another port for every destination, connected directly all the same, with the relay forbidden."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.directly import connect, direct_scene
from tests.lab.nat import KINDS
from tests.scene import Scene, events_of, file_hash, first_path, last, random_file

HARD = [
    ("symmetric", "port-restricted"),
    ("port-restricted", "symmetric"),
    ("symmetric", "port-restricted/rst"),
    ("port-restricted/rst", "symmetric"),
    ("symmetric", "port-restricted/random-port"),
    ("symmetric", "address-restricted"),
    ("address-restricted", "symmetric"),
    ("symmetric", "full-cone"),
    ("full-cone", "symmetric"),
    ("sequential", "port-restricted"),
    ("port-restricted", "sequential"),
    ("sequential", "sequential"),
]
"""The NAT of the sender, that of the receiver."""
SOAK = 20
SOON_S = 15.0
"""Within what time of the introduction a sender without any path says so, seconds."""
ENOUGH = 18
"""Of so many tries one may fail by chance."""


@pytest.mark.deadline(60)
@pytest.mark.parametrize(("one", "other"), HARD, ids=["+".join(pair) for pair in HARD])
def test_a_hard_pair_connects_directly(lab_factory: LabFactory, tmp_path: Path, one: str, other: str) -> None:
    """Where ports are drawn at random a try is a game of chance, so one that is lost is played again."""
    found = connect(lab_factory, tmp_path / "first", one, other) or connect(
        lab_factory, tmp_path / "second", one, other
    )
    assert found is not None
    print(f"{one} + {other}: direct after {found:.0f} ms")


@pytest.mark.deadline(120)
@pytest.mark.parametrize(("one", "other"), [("symmetric", "port-restricted"), ("sequential", "sequential")])
def test_a_line_with_a_long_round_trip_is_no_hindrance(
    lab_factory: LabFactory, tmp_path: Path, one: str, other: str
) -> None:
    """By satellite an answer takes longer than a dial on a short line would be kept."""
    found = connect(lab_factory, tmp_path / "first", one, other, rtt_ms=700) or connect(
        lab_factory, tmp_path / "second", one, other, rtt_ms=700
    )
    print(f"{one} + {other}: direct after {found} ms")
    assert found is not None


@pytest.mark.deadline(120)
def test_peers_that_have_just_come_to_know_each_other_may_try_more(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Before the code was proved nobody makes hundreds of dials; the relay carries the file meanwhile."""
    lab = lab_factory(KINDS["sequential"], KINDS["port-restricted"], rtt_ms=80)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        source = scene.folder / "big.bin"
        digest = random_file(source, 160 << 20)
        bob = scene.receive("--once")
        code = str(bob.wait_for("code")["code"])
        # Slowly: it is under way when a direct path is found.
        alice = scene.send(source, "--limit", "16M", env={"P2PXFER_CODE": code})
        events = events_of(alice)
        alice.succeed(30)
        bob.succeed(30)
        assert file_hash(scene.inbox / "big.bin") == digest
    assert next(event for event in events if event["event"] == "peer")["verified"] == "code"
    path = first_path(events, "punched")
    print(f"first the relay, directly after {path['after_ms']:.0f} ms")
    assert set(last(events, "done")["bytes_by_path"]) == {"relay", "punched"}


@pytest.mark.deadline(60)
@pytest.mark.parametrize(
    ("one", "other", "kinds", "way"),
    [
        ("symmetric", "port-restricted", ("cone", "random"), "walk"),
        ("sequential", "port-restricted", ("cone", "sequential"), "ahead"),
        ("sequential", "sequential", ("sequential", "sequential"), "meet"),
        ("port-restricted", "address-restricted", ("cone", "cone"), "single"),
    ],
    ids=["walk", "ahead", "meet", "single"],
)
def test_the_server_learns_which_way_led_to_the_path(
    lab_factory: LabFactory, tmp_path: Path, one: str, other: str, kinds: tuple[str, str], way: str
) -> None:
    """Read from its state when it has ended; both sides said so, and that single dials led nowhere if they did not."""
    folder = next(tmp_path / name for name in ("first", "second") if connect(lab_factory, tmp_path / name, one, other))
    with closing(sqlite3.connect(folder / "server" / "names.sqlite")) as kept:
        rows = kept.execute("SELECT one, other, way, result = 'lost', round(sum(count)) FROM experience GROUP BY 3, 4")
        found = {(*row[:3], bool(row[3])): row[4] for row in rows}
    assert found == {(*kinds, way, False): 2} | ({} if way == "single" else {(*kinds, "single", True): 2})


@pytest.mark.soak
@pytest.mark.deadline(1200)
@pytest.mark.parametrize(("one", "other"), HARD, ids=["+".join(pair) for pair in HARD])
def test_hard_pairs_connect_again_and_again(lab_factory: LabFactory, tmp_path: Path, one: str, other: str) -> None:
    tries = [connect(lab_factory, tmp_path / str(number), one, other) for number in range(SOAK)]
    times = sorted(found for found in tries if found is not None)
    print(f"{one} + {other}: {len(times)} of {SOAK}, milliseconds {[round(time) for time in times]}")
    assert len(times) >= ENOUGH


@pytest.mark.deadline(90)
@pytest.mark.parametrize("words", [(), ("--gentle",)], ids=["", "gentle"])
def test_what_cannot_be_done_fails_soon_and_says_why(
    lab_factory: LabFactory, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Two NATs that draw at random; and a pair that could be connected, if the user had allowed it."""
    lab = lab_factory(KINDS["symmetric"], KINDS["port-restricted" if words else "symmetric"], rtt_ms=80)
    # Both, since the walk of one side alone may find the other's single dial.
    with direct_scene(lab, tmp_path, *words) as scene:
        alice = scene.send_small()
        ended = alice.wait(40)
        error = last(events := events_of(alice), "error")
    message = error["message"]
    assert ended.status == 7
    assert error["t"] - next(event["t"] for event in events if event["event"] == "introduced") < SOON_S
    assert "the NAT here chooses another port for every destination" in message
    assert "the peer's " + ("keeps one port" if words else "chooses another port") in message
    assert ("--gentle" in message) == bool(words)
