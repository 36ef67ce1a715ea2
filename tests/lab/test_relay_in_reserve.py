"""The relay beside a young direct path stays warm, and carries when that dies."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.product import JsonEvent
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.test_lost_paths import Watch
from tests.lab.test_video import keep_to_the_relay
from tests.lab.topology import Lab
from tests.scene import Scene, file_hash, last, random_file

MIB = 1 << 20
SIZE = 32 * MIB
RATE = "4M"
"""What holds the transfer up: when the path is cut, most of the file is still to come."""
WAITING = 4 * MIB
"""Less than is left after the longest youth."""
KIND = "port-restricted/random-port"
YOUNG_S = 5.0
"""How old a direct path is at most that counts as young, seconds."""
SOON_S = 10.0
"""Within how many seconds the data must go on."""


def admit_nobody(lab: Lab) -> None:
    """Nobody reaches the server but by a connection that stands: there will be no other introduction, and no leg."""
    for router in ("nat_a", "nat_b"):
        lab.block(router, "tcp flags & (syn | ack) == syn ip daddr { " + ", ".join(lab.server_addresses) + " }")


def path_is(kind: str, state: str) -> Callable[[JsonEvent], bool]:
    """Whether an event says that of a path."""
    return lambda event: event["event"] == "path" and (event["path"], event["state"]) == (kind, state)


@pytest.mark.deadline(90)
def test_the_relay_leg_of_before_carries_when_a_young_direct_path_dies(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Nothing but that leg is left: the two NATs do not reach each other, and the server is out of reach otherwise."""
    lab = lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        source = scene.folder / "big.bin"
        digest = random_file(source, SIZE)
        bob = scene.receive("--once", "--no-code")
        before = lab.server_bytes()
        alice = scene.send(source, "--limit", RATE)
        sender, receiver = Watch(alice), Watch(bob)
        for watch in (sender, receiver):
            watch.until(path_is("relay", "up"))
            watch.until(path_is("punched", "up"))
        receiver.until(path_is("punched", "active"))
        stood = next(at for at, event in sender.seen if path_is("punched", "up")(event))
        admit_nobody(lab)
        keep_to_the_relay(lab)
        moment = time.monotonic()
        said, heard = sender.rest(), receiver.rest()
        alice.succeed(10)
        bob.succeed(10)
        assert file_hash(scene.inbox / source.name) == digest
        relayed = lab.server_bytes() - before
    again = receiver.carried_after(moment, "relay")
    carried = last(heard, "done")["bytes_by_path"]
    print(f"cut {moment - stood:.2f} s after the direct path stood, by the relay {again} s later: {carried}")
    assert moment - stood < YOUNG_S
    assert again is not None
    assert again < SOON_S
    assert carried["relay"] > WAITING
    assert relayed > 2 * carried["relay"]
    assert [event["event"] for event in said].count("introduced") == 1
