"""The documentation is built without a warning, and its reference says what the code says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from p2pxfer.core.agent.config import AgentConfig, ServiceConfig
from scripts.docslib import directives, schema
from tests.eventcheck import fault_in

ROOT = Path(__file__).parent.parent


def test_the_agents_configuration_is_described_whole() -> None:
    text = "\n".join(directives.config_lines())
    for part in (AgentConfig, ServiceConfig):
        for field in part.__struct_encode_fields__:
            assert f"``{field}``" in text
    assert '``"auto"``' in text
    assert "; needed" in text


def test_the_published_schema_is_that_of_the_code() -> None:
    """After a change of the events: python -m scripts.docslib.schema > docs/events.schema.json"""
    assert schema.FILE.read_text() == schema.text()
    Draft202012Validator.check_schema(json.loads(schema.FILE.read_text()))


GOOD = {"event": "progress", "t": 0.1, "bytes": 1, "total": 2, "rate": 0.5, "path": "relay"}


@pytest.mark.parametrize(
    "change", [{"event": "progres"}, {"bytes": "1"}, {"t": -1}, {"more": 1}, {"path": None}, {"bytes": 0.5}]
)
def test_an_event_that_is_not_published_is_found(change: dict[str, object]) -> None:
    assert fault_in(GOOD) is None
    assert fault_in({**GOOD, **change}) is not None
    assert fault_in({name: value for name, value in GOOD.items() if name != "rate"}) is not None


def test_every_error_has_its_row_once() -> None:
    text = "\n".join(directives.error_lines())
    for each in directives.error_classes():
        assert f"``{each.word}``" in text
        assert text.count((each.__doc__ or "").splitlines()[0]) == 1 or each.word == "E_INTERNAL"


def test_every_file_of_the_package_says_what_it_does() -> None:
    text = "\n".join(directives.module_lines())
    for path in directives.PACKAGE.rglob("*.py"):
        assert directives.opening(path), path
        assert path.stem == "__init__" or f"- ``{path.stem}``: {directives.opening(path)}" in text


@pytest.mark.deadline(180)
@pytest.mark.parametrize("builder", ["html", "man"])
def test_the_pages_are_built_without_a_warning(builder: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", builder, "docs", str(tmp_path / "out")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert run.returncode == 0, run.stderr
    if builder == "man":
        manual = (tmp_path / "out" / "p2pxfer.1").read_text()
        assert "no\\-port\\-mapping" in manual
        assert (tmp_path / "out" / "p2pxfer-rendezvous.8").exists()
    else:
        pages = {page.relative_to(tmp_path / "out").as_posix() for page in (tmp_path / "out").rglob("*.html")}
        assert {"index.html", "reference/commands.html", "howto/video.html"} <= pages
        assert "E_SOURCE_CHANGED" in (tmp_path / "out" / "reference" / "errors.html").read_text()


def test_the_fragments_of_the_release_notes_are_good() -> None:
    """Each has a kind and something to say, and together they make release notes."""
    known = re.findall(r'^directory = "(\w+)"$', (ROOT / "pyproject.toml").read_text().partition("[[")[2], re.MULTILINE)
    fragments = [path for path in (ROOT / "changes").iterdir() if path.name != "README.rst"]
    for path in fragments:
        assert path.suffixes[-2:] in [[f".{kind}", ".rst"] for kind in known], path.name
        assert path.read_text().strip(), path.name
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "0"]
    notes = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert notes.count("\n- ") == len(fragments)
