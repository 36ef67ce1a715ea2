"""What the command that runs all tests says of them: counts, ends, and who is tried a second time."""

from __future__ import annotations

import configparser
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts import suite

ROOT = Path(__file__).parent.parent
UNSTABLE = """\
from pathlib import Path

def test_only_at_the_second_try():
    again = Path(__file__).with_suffix(".again")
    seen = again.exists()
    again.touch()
    assert seen
"""
UNSTABLE_SITE = """\
import pytest
from pathlib import Path

AGAIN = Path(__file__).with_suffix(".again")
SEEN = AGAIN.exists()
AGAIN.touch()

@pytest.fixture
def site():
    assert SEEN or "set-up" not in __file__
    yield
    assert SEEN or "clean-up" not in __file__

def test_in_it(site):
    assert SEEN or "inside" not in __file__
"""
RIGHT = "def test_right():\n    pass\n"
WRONG = "def test_wrong():\n    assert False\n"
BROKEN = "import pytest\n\n@pytest.fixture\ndef site():\n    assert False\n\ndef test_broken(site):\n    pass\n"


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("12 passed in 0.31s", {"passed": 12}),
        ("=== 2 failed, 133 passed, 1 skipped in 61.20s (0:01:01) ===", {"failed": 2, "passed": 133, "skipped": 1}),
        ("1 passed, 2 errors in 3.00s", {"passed": 1, "failed": 2}),
        ("3 deselected in 0.01s", {}),
        ("1 xfailed, 1 xpassed in 0.01s", {"xfailed": 1, "failed": 1}),
        ("no tests ran in 0.01s", {}),
        ("Fatal Python error: Aborted", {}),
    ],
)
def test_counts_are_those_of_the_last_line(last: str, expected: dict[str, int]) -> None:
    assert suite.tally(f"..F\nlost 4 failed attempts\n{last}\n") == expected


def test_a_job_that_does_not_end_is_ended_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    runner, outcome = suite.Runner(0.5), suite.Outcome()
    with runner.stopping():
        runner.run(suite.Job("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"]), outcome)
    assert outcome.broken == ["sleeper"]
    assert "out of time" in capsys.readouterr().out


def test_every_package_is_type_checked_and_none_less_strictly() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert suite.CHECKS["mypy"] == ["mypy"]  # what it checks, and how, is in the configuration
    packages = {package.strip() for package in config["mypy"]["packages"].split(",")}
    assert packages == {path.parent.name for path in ROOT.glob("*/__init__.py")} >= {"tests"}
    assert config.getboolean("mypy", "strict") and config.getboolean("mypy", "warn_unreachable")
    assert not [section for section in config.sections() if section.startswith("mypy-")]


def test_every_file_is_run_once() -> None:
    jobs = suite.test_jobs(["-x"])
    lanes = {
        str(path.relative_to(ROOT)): lane
        for folder, lane in (("lab", "lab"), ("e2e", "computing"))
        for path in (ROOT / "tests" / folder).rglob("test_*.py")
    }
    assert lanes.keys() >= suite.WAITING
    lanes |= dict.fromkeys(suite.WAITING, "waiting")
    assert sorted(job.argv[-2] for job in jobs[1:]) == sorted(lanes)
    assert {job.argv[-2]: job.lane for job in jobs[1:]} == lanes
    assert list(jobs[0].argv[-4:]) == ["tests", "--ignore=tests/lab", "--ignore=tests/e2e", "-x"]
    assert {job.lane for job in jobs} <= {lane for lanes in suite.WORKERS for lane in lanes}


def test_what_takes_long_comes_first() -> None:
    """Its names are those of files, so a file that is moved is moved there too."""
    assert [name for name in suite.LONG if not (ROOT / name).is_file()] == []
    jobs = suite.test_jobs([])[1:]
    for lane in ("lab", "computing", "waiting"):
        seconds = [suite.LONG.get(job.name, 0) for job in jobs if job.lane == lane]
        assert seconds == sorted(seconds, reverse=True)
        assert seconds[0] > 60


def _run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], options: Sequence[str] = ()) -> int:
    """Run the suite on a project of these files, without the linters."""
    for name, text in files.items():
        place = tmp_path / "tests" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    # They take longer to load than all these tests to run.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return suite.main(options)


@pytest.fixture(autouse=True)
def _no_linters(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "tmp_path" in request.fixturenames:
        monkeypatch.setattr(suite, "CHECKS", {})


@pytest.mark.parametrize(
    ("name", "text", "test", "passed"),
    [
        ("lab/test_a.py", UNSTABLE, "test_only_at_the_second_try", 1),
        ("e2e/test_a.py", UNSTABLE, "test_only_at_the_second_try", 1),
        ("net/test_a.py", UNSTABLE, "test_only_at_the_second_try", 1),
        ("test_a.py", UNSTABLE, "test_only_at_the_second_try", 1),
        ("net/test_set-up.py", UNSTABLE_SITE, "test_in_it", 1),
        ("net/test_inside.py", UNSTABLE_SITE, "test_in_it", 1),
        ("net/test_clean-up.py", UNSTABLE_SITE, "test_in_it", 2),  # pytest counts the test as passed
        ("net/test_inside_and_clean-up.py", UNSTABLE_SITE, "test_in_it", 1),
    ],
    ids=lambda value: value.partition(".")[0] if isinstance(value, str) and value.endswith(".py") else "",
)
def test_what_passes_alone_is_unstable(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str,
    test: str,
    passed: int,
) -> None:
    files = {name: text, "test_right.py": RIGHT}
    assert _run(tmp_path, monkeypatch, files) == 0
    output = capsys.readouterr().out
    assert output.count(f"UNSTABLE, failed once and passed alone: tests/{name}::{test}\n") == 1
    assert output.splitlines()[-2:] == ["PASS", f"{passed} passed, 0 failed, 1 unstable"]


@pytest.mark.parametrize(
    ("files", "last"),
    [
        ({"lab/test_a.py": WRONG}, "0 passed, 1 failed"),
        ({"net/test_a.py": WRONG}, "0 passed, 1 failed"),
        ({"lab/test_a.py": BROKEN}, "0 passed, 1 failed"),
        ({"core/test_a.py": UNSTABLE}, "0 passed, 1 failed"),
        ({"core/test_a.py": UNSTABLE, "net/test_b.py": UNSTABLE}, "0 passed, 2 failed"),
        ({"lab/test_a.py": UNSTABLE, "lab/test_b.py": WRONG}, "0 passed, 1 failed, 1 unstable"),
        ({f"lab/test_{n}.py": UNSTABLE for n in range(suite.SECOND_TRIES + 1)}, "0 passed, 4 failed"),
        ({f"net/test_{n}.py": UNSTABLE for n in range(suite.SECOND_TRIES + 1)}, "0 passed, 4 failed"),
        ({"lab/test_a.py": "import nothing_of_this_name\n"}, "0 passed, 1 failed"),
        ({"net/test_a.py": "import nothing_of_this_name\n"}, "0 passed, 1 failed"),
    ],
    ids=[
        "wrong", "wrong and not the lab", "broken", "core", "core and another", "one of two", "too many",
        "too many in one job", "no import", "no import outside the lab",
    ],
)  # fmt: skip
def test_what_fails_twice_or_may_not_be_tried_twice_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, str],
    last: str,
) -> None:
    assert _run(tmp_path, monkeypatch, files) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == last
    assert lines[-2].startswith("FAIL: ")


def test_a_job_that_stopped_early_is_not_saved_by_a_second_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The test that failed passes alone; nobody knows of those that did not run."""
    assert _run(tmp_path, monkeypatch, {"net/test_a.py": UNSTABLE, "net/test_b.py": WRONG}, ["-x"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed"


@pytest.mark.parametrize("end", ["os.abort()", "os._exit(3)"])
def test_a_job_that_breaks_off_is_not_saved_by_a_second_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Once only: with one test alone, the second time, it ends well."""
    hook = f"""
        import os
        from pathlib import Path
        def pytest_unconfigure():
            if not Path("ended").exists():
                Path("ended").touch()
                {end}
    """
    files = {"conftest.py": textwrap.dedent(hook), "net/test_a.py": UNSTABLE, "test_right.py": RIGHT}
    assert _run(tmp_path, monkeypatch, files) == 1


def test_a_second_try_is_made_with_the_options_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails with the examples of a long run only is no better for passing with others."""
    wrong = 'import sys\n\ndef test_wrong():\n    assert "--strict-markers" not in sys.argv\n'
    assert _run(tmp_path, monkeypatch, {"net/test_a.py": wrong, "test_right.py": RIGHT}, ["--strict-markers"]) == 1


def test_a_check_that_fails_cannot_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "CHECKS", {"strictness": [sys.executable, "-c", "raise SystemExit(1)"]})
    assert _run(tmp_path, monkeypatch, {"net/test_a.py": RIGHT}) == 1
