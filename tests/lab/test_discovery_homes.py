"""What ``netcheck`` says where more than one NAT stands around a machine: the other homes of the matrix."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scripts.matrixlib.homes import furnished, lab_of, served
from scripts.matrixlib.results import Case
from tests.lab.checking import PACE_S, SOAK_RUNS, netcheck
from tests.scene import Scene

CONE = ("endpoint-independent", "preserving")
EXPECTED = {
    "firewall": ("none", "preserving", "port-dependent", "drop"),
    "carrier": ("endpoint-independent", "changed", "port-dependent", "drop"),
    "sequential/busy": ("port-dependent", "sequential", "port-dependent", "drop"),
    "sequential-2/busy": ("port-dependent", "sequential", "port-dependent", "drop"),
    "short-lived": (*CONE, "port-dependent", "drop"),
    "v6-firewall": ("port-dependent", "random", "port-dependent", "drop"),
    "v6-open": ("port-dependent", "random", "port-dependent", "drop"),
    "mapped": ("port-dependent", "random", "port-dependent", "drop"),
    "web-only": (*CONE, "port-dependent", "drop"),
}
"""Home -> its mapping, how it chooses ports, whom it lets in, how it answers a SYN that nobody asked for."""
STEPS = {"sequential/busy": 1, "sequential-2/busy": 2}


def found(home: str, folder: Path, runs: int) -> list[tuple[object, ...]]:
    """What so many runs say of it, one after the other."""
    case = Case(home, "none")
    with lab_of(case) as lab, furnished(case.pair, lab, folder), Scene(lab, folder, loopback=False) as scene:
        served(case.pair, scene)
        said = []
        for number in range(runs):
            began = time.monotonic()
            nat = netcheck(scene)
            said.append(tuple(nat[name] for name in ("mapping", "ports", "filtering", "unsolicited", "step")))
            if number + 1 < runs:
                time.sleep(max(0.0, began + PACE_S - time.monotonic()))
    return said


@pytest.mark.deadline(60)
@pytest.mark.parametrize("home", ["firewall", "carrier", "sequential/busy", "mapped"])
def test_netcheck_names_the_nat_of_a_home(tmp_path: Path, home: str) -> None:
    (said,) = found(home, tmp_path, 1)
    assert said == (*EXPECTED[home], STEPS.get(home, 0))


@pytest.mark.soak
@pytest.mark.deadline(300)
@pytest.mark.parametrize("home", EXPECTED)
def test_netcheck_names_the_nat_of_a_home_every_time(tmp_path: Path, home: str) -> None:
    assert found(home, tmp_path, SOAK_RUNS) == [(*EXPECTED[home], STEPS.get(home, 0))] * SOAK_RUNS
