"""The units in `scripts/systemd`: systemd understands every line, they are hardened, and what they start is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.product import BIN

UNITS = Path(__file__).parent.parent / "scripts" / "systemd"
INSTALLED = "/opt/p2pxfer/bin/"
NAMES = ["p2pxfer-agent.service", "p2pxfer-agent@.service", "p2pxfer-rendezvous.service"]
EXPOSURE = {"p2pxfer-agent.service": 4.5, "p2pxfer-agent@.service": 2.0, "p2pxfer-rendezvous.service": 2.0}
"""Worst mark that `systemd-analyze security` may give, of 10; a user's manager cannot forbid as much."""
HARDENING = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "RestrictNamespaces": "yes",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
    "Restart": "on-failure",
    "RestartPreventExitStatus": "2",
}


@pytest.fixture(scope="module")
def analyze() -> str:
    """The program; missing where it could be installed is an error, as it would hide that nothing was tested."""
    found = shutil.which("systemd-analyze")
    if found is None and sys.platform == "linux" and os.geteuid() == 0:
        pytest.fail("this test needs: apt-get install systemd", pytrace=False)
    if found is None:
        pytest.skip("there is no systemd-analyze here, and without root on Linux it cannot be installed")
    return found


def placed(folder: Path, name: str) -> Path:
    """A unit as it would be installed where the programs under test are."""
    text = (UNITS / name).read_text()
    assert INSTALLED in text
    unit = folder / name
    unit.write_text(text.replace(INSTALLED, f"{BIN}/"))
    return unit


def verified(analyze: str, unit: Path) -> str:
    """What systemd says about a unit; nothing is good."""
    manager = ["--user"] if unit.name == "p2pxfer-agent.service" else []
    runtime = unit.parent / "runtime"
    runtime.mkdir(exist_ok=True)
    done = subprocess.run(
        [analyze, *manager, "verify", "--man=no", unit], capture_output=True, text=True, timeout=50, check=False,
        env=os.environ | {"XDG_RUNTIME_DIR": str(runtime), "LC_ALL": "C"}, cwd=unit.parent,
    )  # fmt: skip
    said = (done.stdout + done.stderr).strip()
    return said if said or not done.returncode else f"status {done.returncode}"


def settings(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if match := re.fullmatch(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def test_every_unit_is_looked_at() -> None:
    assert sorted(path.name for path in UNITS.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_systemd_understands_the_unit(analyze: str, tmp_path: Path, name: str) -> None:
    unit = placed(tmp_path, name)
    assert verified(analyze, unit) == ""
    # And this test can fail.
    good = unit.read_text()
    unit.write_text(good.replace("NoNewPrivileges=yes", "NoNewPrivilege=yes"))
    assert "NoNewPrivilege" in verified(analyze, unit)
    unit.write_text(good.replace("/twist ", "/twisted-not-there "))
    assert "twisted-not-there" in verified(analyze, unit)


@pytest.mark.parametrize("name", NAMES)
def test_the_unit_is_hardened(analyze: str, tmp_path: Path, name: str) -> None:
    found = settings(name)
    assert {key: found[key][-1] for key in HARDENING} == HARDENING
    assert found["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert found["MemoryMax"]
    assert found["ReadWritePaths"]
    mark = str(EXPOSURE[name] * 10).partition(".")[0]
    unit = placed(tmp_path, name)
    argv: list[str | Path] = [analyze, "security", "--no-pager", "--offline=true", f"--threshold={mark}", unit]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze is older than 250 and gives no marks to files")
    assert done.returncode == 0, (done.stdout + done.stderr)[-500:]


@pytest.mark.parametrize("name", NAMES)
def test_what_the_unit_starts_is_there_and_takes_these_options(name: str) -> None:
    (start,) = settings(name)["ExecStart"]
    words = start.replace(INSTALLED, f"{BIN}/").split()
    done = subprocess.run([*words, "--help"], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert words[2] in ("p2pxfer-agent", "p2pxfer-rendezvous")
    assert "--server" in done.stdout or "--listen" in done.stdout
