"""The guards themselves: each case here must fail when it is run under them, or pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parent.parent

CASES = '''
import time
import pytest, pytest_twisted
from hypothesis import given, settings, strategies as st
from twisted.internet import defer, protocol, reactor, task
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.logger import Logger

short = pytest.mark.deadline(0.5)

class Knot:
    """A Deferred that only the garbage collector can find."""
    def __init__(self):
        self.me, self.deferred = self, defer.fail(KeyError("knotted"))

@short
@pytest_twisted.ensureDeferred
async def test_hangs():
    await defer.Deferred()

@short
@pytest_twisted.ensureDeferred
async def test_hangs_and_will_not_be_cancelled():
    while True:
        try:
            await defer.Deferred()
        except defer.CancelledError:
            pass

@short
def test_sleeps():
    time.sleep(30)

@short
@pytest_twisted.ensureDeferred
async def test_loops_in_the_reactor():
    await task.deferLater(reactor, 0, lambda: None)
    while True:
        pass

@pytest_twisted.async_fixture
async def hanging():
    await defer.Deferred()

@short
def test_hangs_in_a_fixture(hanging):
    pass

@pytest.fixture
def sleeping():
    time.sleep(30)

@short
def test_sleeps_in_a_fixture(sleeping):
    pass

@short
@given(st.integers())
@pytest_twisted.ensureDeferred
async def test_hangs_under_hypothesis(number):
    await defer.Deferred()

@pytest_twisted.ensureDeferred
async def test_loses_an_error():
    Knot()

def test_logs_a_failure():
    try:
        1 / 0
    except ZeroDivisionError:
        Logger().failure("while dividing")

@pytest_twisted.ensureDeferred
async def test_leaves_a_call():
    reactor.callLater(100, print)

@pytest_twisted.ensureDeferred
async def test_leaves_a_port():
    await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(protocol.Factory())

@pytest.mark.on_reactor
def test_leaves_a_call_synchronously():
    reactor.callLater(100, print)

async def nobody():
    pass

def test_forgets_to_await():
    nobody()

@pytest.mark.soak
def test_is_long():
    raise AssertionError

# From here on everything passes, although the tests above went wrong in every way.

@pytest_twisted.ensureDeferred
async def test_good():
    await task.deferLater(reactor, 0.05, lambda: None)

@pytest_twisted.ensureDeferred
async def test_good_expects_an_error(lost_errors):
    Knot()
    assert [str(error) for error in lost_errors.flush(KeyError)] == ["'knotted'"]

@pytest_twisted.ensureDeferred
async def test_good_closes_in_a_moment():
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(protocol.Factory())
    reactor.callLater(0.1, port.stopListening)

@pytest.mark.parametrize("factor", [1, 2])
@settings(max_examples=5)
@given(number=st.integers())
@pytest_twisted.ensureDeferred
async def test_good_under_hypothesis(number, factor):
    await task.deferLater(reactor, 0, lambda: None)

stood_still = []

@given(number=st.integers())
def test_good_on_a_machine_that_stands_still_once(number):
    if not stood_still:
        stood_still.append(number)
        time.sleep(0.4)

@given(number=st.integers())
def test_good_draws(number):
    with open("drawn", "a") as file:
        file.write(f"{number}\\n")

@pytest.mark.parametrize("factor", [1, 2])
@given(number=st.integers())
def test_good_synchronous_under_hypothesis(number, factor):
    assert number * factor == factor * number
'''

LATE = "did not end within its deadline"
EXPECTED = {
    "test_hangs": LATE,
    "test_hangs_and_will_not_be_cancelled": LATE,
    "test_sleeps": LATE,
    "test_loops_in_the_reactor": LATE,
    "test_hangs_in_a_fixture": LATE,
    "test_sleeps_in_a_fixture": LATE,
    "test_hangs_under_hypothesis": LATE,
    "test_loses_an_error": "knotted",
    "test_logs_a_failure": "division by zero",
    "test_leaves_a_call": "delayed call",
    "test_leaves_a_port": "open: ",
    "test_leaves_a_call_synchronously": "delayed call",
    "test_forgets_to_await": "never awaited",
}


def run(folder: Path, *options: str) -> dict[str, str]:
    """Run the cases in a process of their own: test name -> what it failed with, "" if it passed."""
    (folder / "conftest.py").write_text("from tests.conftest import *\nfrom tests.conftest import _started_reactor\n")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = soak\n")
    (folder / "test_cases.py").write_text(CASES)
    report = folder / "report.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    found: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        texts = ["".join(child.itertext()) + child.get("message", "") for child in case if child.tag != "skipped"]
        found[case.get("name", "")] = found.get(case.get("name", ""), "") + "".join(texts)
    return found


@pytest.mark.deadline(90)
def test_every_bad_case_fails_with_its_reason_and_every_good_one_passes(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert {name: reason in found.get(name, "") for name, reason in EXPECTED.items()} == dict.fromkeys(EXPECTED, True)
    rest = {name: text for name, text in found.items() if name not in EXPECTED}
    assert len(rest) == 9, rest
    assert all(name.startswith("test_good") and not text for name, text in rest.items()), rest


@pytest.mark.deadline(150)
def test_what_is_drawn_by_chance_is_the_same_in_every_run_but_long_ones(tmp_path: Path) -> None:
    drawn = []
    for options in ((), (), ("--soak",)):
        assert run(tmp_path, "-k", "test_good_draws", *options) == {"test_good_draws": ""}
        drawn.append((tmp_path / "drawn").read_text())
        (tmp_path / "drawn").unlink()
    assert drawn[0] == drawn[1] != drawn[2]


def test_long_runs_take_part_only_when_asked_for(tmp_path: Path) -> None:
    assert "test_is_long" not in run(tmp_path, "-k", "good or long")
    assert "AssertionError" in run(tmp_path, "--soak", "-k", "test_is_long")["test_is_long"]
