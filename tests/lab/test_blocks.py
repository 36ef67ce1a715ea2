"""NATs that draw from a block of ports, against each other: directly where one of them maps by address."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import probe
from tests.lab.conftest import LabFactory
from tests.lab.directly import send_directly
from tests.lab.nat import BY_ADDRESS, KINDS, NatKind

PUNCH = 23456
BLOCKS: dict[str, NatKind | None] = {**KINDS, **{kind.name: kind for kind in BY_ADDRESS.values()}}
PAIRS = [
    ("by-address-64", "by-address-64"),
    ("by-address-256", "by-address-256"),
    ("by-address-64", "block-64"),
    ("block-64", "by-address-64"),
]
SOAK, ENOUGH = 20, 17


def connect(lab_factory: LabFactory, folder: Path, one: str, other: str) -> float | None:
    """Send a small file directly or not at all; milliseconds until the direct path carried data, if it came."""
    lab = lab_factory(BLOCKS[one], BLOCKS[other], rtt_ms=40)
    ended = send_directly(lab, folder)
    lab.close()
    if ended.status != 0:
        print(f"{one} + {other}: {ended.message}")
    return ended.connected


@pytest.mark.parametrize("size", BY_ADDRESS)
def test_a_port_for_each_destination_address(lab_factory: LabFactory, size: int) -> None:
    lab = lab_factory(BY_ADDRESS[size], None, rtt_ms=0)
    server = probe.Server(lab)
    seen = [server.observe("alice", PUNCH, endpoint).seen for endpoint in server.endpoints]
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    more = [server.observe("alice", PUNCH + number, endpoint).seen[1] for number in range(1, 9)
            for endpoint in server.endpoints[::2]]  # fmt: skip
    low, high = BY_ADDRESS[size].ports
    assert all(low <= port <= high for port in more)
    assert len(set(more)) > 8


@pytest.mark.deadline(120)
@pytest.mark.parametrize(("one", "other"), PAIRS, ids=["+".join(pair) for pair in PAIRS])
def test_two_blocks_connect_directly(lab_factory: LabFactory, tmp_path: Path, one: str, other: str) -> None:
    """It is a game of chance, so a try that is lost is played again."""
    tries = (connect(lab_factory, tmp_path / name, one, other) for name in ("first", "second", "third"))
    found = next(filter(None, tries), None)
    assert found is not None
    print(f"{one} + {other}: direct after {found:.0f} ms")


@pytest.mark.soak
@pytest.mark.deadline(900)
@pytest.mark.parametrize(("one", "other"), PAIRS, ids=["+".join(pair) for pair in PAIRS])
def test_two_blocks_connect_again_and_again(lab_factory: LabFactory, tmp_path: Path, one: str, other: str) -> None:
    tries = [connect(lab_factory, tmp_path / str(number), one, other) for number in range(SOAK)]
    times = sorted(found for found in tries if found is not None)
    print(f"{one} + {other}: {len(times)} of {SOAK}, milliseconds {[round(time) for time in times]}")
    assert len(times) >= ENOUGH


@pytest.mark.deadline(60)
def test_two_blocks_that_map_by_port_try_nothing(lab_factory: LabFactory, tmp_path: Path) -> None:
    """It would take more ports than may be taken from other programs."""
    assert connect(lab_factory, tmp_path / "only", "block-512", "block-512") is None
