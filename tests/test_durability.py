"""The pages of faults, and of features and paths: every test that they name exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "durability.rst"
PATHS = ROOT / "docs" / "paths.rst"
USUAL = "tests/net/staging/test_staging.py"
TABLES = 9
NAME = re.compile(r"``(?:(tests/[a-z0-9_/]+\.py)::)?(test_[a-z0-9_]+)``")


def names_in(path: Path) -> set[str]:
    tests = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, tests)}


def named(cell: str) -> list[tuple[str, str]]:
    """File and name of each test of a cell; a name without a file belongs to the last file, up to a semicolon."""
    found = []
    for part in cell.split(";"):
        file = USUAL
        for match in NAME.finditer(part):
            file = match[1] or file
            found.append((file, match[2]))
    return found


def rows() -> list[tuple[str, str, str]]:
    """Fault, what happens, tests: every row of every table but the headings."""
    text = PAGE.read_text()
    cells = re.findall(r"^   \* - (.+?)\n     - (.+?)\n     - (.+?)(?=\n   \* - |\n\n|\Z)", text, re.M | re.S)
    return [(fault, outcome, tests) for fault, outcome, tests in cells if fault != "fault"]


def test_every_row_names_tests_that_exist() -> None:
    found = rows()
    assert len(found) > 20
    assert len(found) == sum(line.startswith("   * - ") for line in PAGE.read_text().splitlines()) - TABLES
    for fault, outcome, tests in found:
        assert outcome.strip()
        pairs = named(tests)
        assert pairs, f"no test for: {fault}"
        for file, name in pairs:
            assert name in names_in(ROOT / file), f"{file} has no {name}, which shows: {fault}"


def test_every_fault_of_the_plan_has_a_row() -> None:
    """Those of disks and shapes, and those of the network; each once."""
    numbers = [number for fault, *_ in rows() for number in re.findall(r"F-(\d\d)", fault)]
    assert numbers == [f"{number:02d}" for number in range(1, 50)]


def test_every_double_quoted_name_of_a_test_is_read() -> None:
    """Nothing is named in a way that the test above would not see."""
    text = PAGE.read_text()
    assert len(re.findall(r"(?:::|``)test_\w+``", text)) == sum(len(named(tests)) for *_, tests in rows())


def test_every_feature_names_tests_of_every_kind_of_path() -> None:
    text = PATHS.read_text()
    cells = re.findall(
        r"^   \* - (.+?)\n     - (.+?)\n     - (.+?)\n     - (.+?)(?=\n   \* - |\n*\Z)", text, re.M | re.S
    )
    found = [row for row in cells if row[0] != "feature"]
    assert len(found) >= 9
    assert len(found) == text.count("\n   * - ") - 1
    for feature, directly, relayed, changed in found:
        for cell in (directly, relayed, changed):
            assert named(cell), f"no test for: {feature}"
        for file, name in (test for cell in (directly, relayed, changed) for test in named(cell)):
            assert file.startswith("tests/lab/"), f"{name} is not in the lab"
            assert name in names_in(ROOT / file), f"{file} has no {name}, which shows: {feature}"
    assert len(re.findall(r"(?:::|``)test_\w+``", text)) == sum(len(named(cell)) for row in found for cell in row[1:])
