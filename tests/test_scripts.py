"""The parts of the scripts that decide something: verdicts on figures, quiet installation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import demonstration
from scripts.benchlib import durable, rivals, steady
from scripts.benchlib.loopback import steady_rate
from scripts.benchlib.table import Failed, Row, Setting, median_row, render
from scripts.product import Loopback, Program, ProgramError

ROOT = Path(__file__).parent.parent


def test_verdicts() -> None:
    assert Row("time", 0.6, "", 0.6).verdict == "PASS"
    assert Row("time", 0.61, "", 0.6).verdict == "MISS"
    assert Row("rate", 0.61, "", 0.6, at_least=True).verdict == "PASS"
    assert Row("rate", 0.59, "", 0.6, at_least=True).verdict == "MISS"
    assert Row("time", 9.0, "s").verdict == ""
    assert median_row("time", [3.0, 1.0, 2.0], "s").value == 2.0


def test_the_table_shows_figure_target_and_what_could_not_be_measured() -> None:
    lines = render([Row("ratio", 0.5, "", 0.6), Failed("other", "no tool\nat all")]).splitlines()
    assert lines[1].split() == ["ratio", "0.500", "<=", "0.6", "PASS"]
    assert lines[2].split() == ["other", "not", "measured", "FAIL", "no", "tool"]


def test_the_steady_rate_leaves_out_what_is_before_and_after() -> None:
    events = [{"t": t, "bytes": size, "total": 1000} for t, size in [(0.0, 0), (5.0, 100), (6.0, 400), (9.0, 1000)]]
    assert steady_rate(events) == [300.0]
    assert steady_rate(events[2:]) == []


def test_a_tool_that_is_missing_is_named_in_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise rivals.MissingToolError(f"{name} is not installed")

    monkeypatch.setattr(rivals, "tool", none)
    said: list[str] = []
    rows = list(steady.rows(Setting(tmp_path, 1, 1, tmp_path, said.append)))
    assert rows == [Failed("steady state", "iperf3 is not installed")]
    assert said == ["steady state: iperf3 is not installed"]


def test_what_is_synced_afterwards_counts_and_a_disk_is_told_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    target = tmp_path / "target"

    def copy(source: Path, to: Path, ready: Callable[[], None]) -> float:
        ready()
        to.write_bytes(source.read_bytes())
        return 100.0

    assert durable.then_synced(copy, Path(__file__), target, lambda: None) >= 100
    assert len(synced) == 2
    monkeypatch.setattr(durable, "DISKS", (Path("/proc"), tmp_path))
    monkeypatch.setattr(durable, "file_system", lambda place: "tmpfs" if place == tmp_path else "proc")
    with pytest.raises(rivals.MissingToolError, match="no disk"):
        durable.a_disk(1)
    monkeypatch.setattr(durable, "file_system", lambda place: "ext4")
    assert durable.a_disk(1) == tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="it is read from /proc")
def test_the_kind_of_a_file_system_is_known() -> None:
    assert durable.file_system(Path("/proc")) == "proc"


@pytest.mark.parametrize("mib", [0, 1, 5])
def test_the_bare_work_copies_a_file(tmp_path: Path, mib: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(mib << 20))
    bare = rivals.Bare(tmp_path)
    assert bare.copy(source, target, lambda: None) > 0
    assert target.read_bytes() == source.read_bytes()
    assert len(bare.rates) == 1


def test_the_bare_work_never_passes_over_what_it_cannot_write(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(8 << 20))
    target.write_bytes(b"something else")
    with pytest.raises(ProgramError, match=r"bare (sender|receiver) ended with status"):
        rivals.Bare(tmp_path).copy(source, target, lambda: None)


def test_the_demo_tells_equal_files_from_others(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    assert demonstration.compare(tmp_path / "a", tmp_path / "b") == 0
    assert demonstration.compare(tmp_path / "a", tmp_path / "c") == 1
    assert demonstration.compare(tmp_path / "a", tmp_path / "missing") == 1


def program(tmp_path: Path, text: str) -> Program:
    return Program(Loopback(), "child", [sys.executable, "-c", text], tmp_path / "log")


def test_events_of_a_program_are_read_and_other_lines_are_kept(tmp_path: Path) -> None:
    with program(tmp_path, 'print("hello"); print(\'{"event": "code", "code": "x"}\')') as child:
        assert child.wait_for("code")["code"] == "x"
        with pytest.raises(ProgramError, match=r"(?s)without the event 'done'.*hello"):
            child.wait_for("done")
        assert child.succeed(10).peak_bytes > 1 << 20


def test_a_program_can_be_told_things_until_it_listens_no_more(tmp_path: Path) -> None:
    text = "import json; print(json.dumps({'event': 'heard', 'what': input()}))"
    argv = [sys.executable, "-c", text]
    with Program(Loopback(), "child", argv, tmp_path / "log", commanded=True) as child:
        child.tell("a word")
        assert child.wait_for("heard")["what"] == "a word"
        child.succeed(10)
        with pytest.raises(ProgramError, match="child does not listen"):
            child.tell("another")


def test_a_silent_program_is_reported_and_stopped(tmp_path: Path) -> None:
    with program(tmp_path, "import time; time.sleep(60)") as child, pytest.raises(ProgramError, match="said nothing"):
        child.wait_for("done", silence=0.3)
    assert child.poll() is not None


def test_a_failing_program_is_reported_with_its_last_words(tmp_path: Path) -> None:
    reason = r"(?s)status 1.*no such thing"
    with program(tmp_path, "raise SystemExit('no such thing')") as child, pytest.raises(ProgramError, match=reason):
        child.succeed(10)


def shell(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f". {ROOT}/scripts/lib.sh\n{text}"],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_a_python_that_is_too_old_is_named_as_the_reason(tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = shell("ensure_venv", PYTHON=str(old), P2PXFER_VENV=str(tmp_path / "venv"))
    assert done.returncode == 2
    assert "Python 3.11" in done.stderr


def test_present_tools_need_no_installation() -> None:
    done = shell("need_packages sh:dash bash:bash; echo fine", PATH=os.environ["PATH"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_output_of_an_installation_is_shown_only_if_it_fails() -> None:
    assert shell("quietly Trying sh -c 'echo inside'").stderr == "Trying\n"
    failed = shell("quietly Trying sh -c 'echo inside; exit 3'")
    assert (failed.returncode, failed.stderr) == (3, "Trying\ninside\n")
