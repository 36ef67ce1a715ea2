"""Lines that lose two packets of a hundred and delay each by up to 20 ms more: they change hardly any verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.matrixlib.attempts import attempt, meetings, syns_of
from scripts.matrixlib.results import Attempt, Case
from tests.lab.conftest import LabFactory
from tests.lab.directly import connect
from tests.lab.nat import KINDS
from tests.lab.topology import Lab
from tests.scene import Scene

BAD: dict[str, Any] = {"loss": 0.02, "jitter_ms": 20}
"""Of each access line and direction."""
CONES = [
    ("port-restricted", "port-restricted"),
    ("port-restricted/rst", "port-restricted/rst"),
    ("port-restricted/icmp", "port-restricted"),
    ("port-restricted/random-port", "address-restricted"),
]
HARD = [
    ("symmetric", "port-restricted"),
    ("port-restricted/rst", "symmetric"),
    ("sequential", "port-restricted"),
    ("sequential", "sequential"),
]
PROMISED = {
    **dict.fromkeys(CONES, 50),
    ("port-restricted/rst-limited", "port-restricted/random-port"): 50,
    ("sequential", "port-restricted"): 50,
    ("sequential-2", "port-restricted/rst"): 50,
    ("block-64", "port-restricted"): 50,
    ("block-512", "port-restricted/rst"): 50,
    ("symmetric", "port-restricted"): 47,
    ("port-restricted/rst", "symmetric"): 47,
    ("port-restricted/no-simo", "port-restricted"): 50,
    ("port-restricted/no-simo", "port-restricted/rst"): 50,
    ("sequential", "sequential"): 48,
}
"""Two NATs -> how many of fifty runs connect on a good line at least."""
RUNS, FEWER = 50, 2
RTT_MS = 80


@pytest.mark.deadline(60)
@pytest.mark.parametrize(("one", "other"), CONES, ids=["+".join(pair) for pair in CONES])
def test_cones_connect_at_the_first_try(lab_factory: LabFactory, tmp_path: Path, one: str, other: str) -> None:
    found = connect(lab_factory, tmp_path, one, other, **BAD, seed=7)
    assert found is not None
    print(f"{one} + {other}: direct after {found:.0f} ms")


@pytest.mark.deadline(120)
@pytest.mark.parametrize(("one", "other"), HARD, ids=["+".join(pair) for pair in HARD])
def test_a_hard_pair_connects(lab_factory: LabFactory, tmp_path: Path, one: str, other: str) -> None:
    """A game of chance even on a good line: two lost ones may be played again."""
    tries = (connect(lab_factory, tmp_path / str(seed), one, other, **BAD, seed=seed) for seed in range(3))
    found = next((found for found in tries if found is not None), None)
    assert found is not None
    print(f"{one} + {other}: direct after {found:.0f} ms")


@pytest.mark.soak
@pytest.mark.deadline(1800)
@pytest.mark.parametrize("pair", PROMISED, ids=["+".join(pair) for pair in PROMISED])
def test_bad_lines_change_hardly_any_verdict(tmp_path: Path, pair: tuple[str, str]) -> None:
    """Meetings with what the product is made of, the relay forbidden; the NATs forget everything in between."""
    case = Case(*pair, "meetings", RTT_MS)
    done: list[Attempt] = []
    with (
        Lab(KINDS[pair[0]], KINDS[pair[1]], rtt_ms=RTT_MS, **BAD, seed=7) as lab,
        Scene(lab, tmp_path, loopback=False) as scene,
    ):
        scene.start_server()
        with meetings(scene) as run:
            counted = syns_of(lab)
            for number in range(RUNS):
                found, counted = attempt(case, lab, run, number, counted)
                done.append(found)
                lab.flush_nat(*lab.kinds)
    times = sorted(each.ms for each in done if each.ms is not None)
    print(f"{'+'.join(pair)}: {len(times)} of {RUNS}, milliseconds {[round(time) for time in times]}")
    print(*sorted({each.reason for each in done} - {""}), sep="\n")
    assert len(times) >= PROMISED[pair] - FEWER
