"""Lines that lose two packets of a hundred and delay each by up to 20 ms more: they change hardly any verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.test_hard_pairs import connect

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
SOAK, ENOUGH = 20, 18


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
@pytest.mark.deadline(1200)
@pytest.mark.parametrize(("one", "other"), CONES + HARD, ids=["+".join(pair) for pair in CONES + HARD])
def test_bad_lines_change_hardly_any_verdict(lab_factory: LabFactory, tmp_path: Path, one: str, other: str) -> None:
    tries = [connect(lab_factory, tmp_path / str(seed), one, other, **BAD, seed=seed) for seed in range(SOAK)]
    times = sorted(found for found in tries if found is not None)
    print(f"{one} + {other}: {len(times)} of {SOAK}, milliseconds {[round(time) for time in times]}")
    assert len(times) >= ENOUGH
