"""What docstrings refer to is there: modules, classes, their members and constants, by the names that are given.

A name counts as a module's if it is defined or imported there, and as a class's if the class, one that it is built on,
or a method of either sets it.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REFERENCE = re.compile(r":(?:mod|class|meth|func|data|attr|exc):`~?([\w.]+)`")


@cache
def tree(module: str) -> ast.Module | None:
    """What stands in a module of this project."""
    place = ROOT.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.exists():
            return ast.parse(path.read_text())
    return None


def names_of(node: ast.stmt) -> set[str]:
    """The names that a statement of a module or class gives."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.If | ast.Try):
        return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return set()


def attributes(owner: ast.ClassDef) -> set[str]:
    """What an instance of a class has by the class itself."""
    stored = (each for each in ast.walk(owner) if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store))
    return {name for node in owner.body for name in names_of(node)} | {each.attr for each in stored}


def find(module: str, path: list[str], *, foreign: bool = True) -> bool:
    """Whether the names in ``path`` lead to something, from the module on; ``foreign``: or out of the project."""
    inside = tree(module)
    if inside is None:
        return False
    if not path:
        return True
    for node in inside.body:
        if path[0] not in names_of(node):
            continue
        if len(path) == 1:
            return True
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            alias = next(each for each in node.names if path[0] in (each.asname, each.name))
            if not node.module.startswith("p2pxfer"):
                return foreign
            return find(node.module, [alias.name, *path[1:]], foreign=foreign)
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base).split(".") for base in node.bases]
            return path[1] in attributes(node) or any(find(module, [*base, path[1]], foreign=False) for base in bases)
        return True  # a constant's own attributes are its type's
    return False


def resolves(name: str, module: str) -> bool:
    """Whether ``name`` in a docstring of ``module`` means something: as a whole, or as a reader of it takes it."""
    parts = name.split(".")
    if parts[0] in ("p2pxfer", "scripts", "tests"):
        return any(find(".".join(parts[:end]), parts[end:]) for end in range(len(parts), 0, -1))
    if parts[0] == "twisted":
        return True
    here = tree(module)
    assert here is not None
    classes = [node for node in ast.walk(here) if isinstance(node, ast.ClassDef)]
    own = len(parts) == 1 and any(find(module, [each.name, name]) or name in attributes(each) for each in classes)
    return own or find(module, parts)


def dangling(text: str, module: str) -> list[str]:
    """References in ``text``, of ``module``, that lead nowhere."""
    return [name for name in REFERENCE.findall(text) if not resolves(name, module)]


def modules() -> dict[str, Path]:
    """All modules of the project but the tests, by their dotted names."""
    paths = [path for top in ("p2pxfer", "scripts") for path in sorted((ROOT / top).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@pytest.mark.parametrize("module", modules())
def test_references_lead_somewhere(module: str) -> None:
    assert dangling(modules()[module].read_text(), module) == []


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("p2pxfer.net.session.parties", True),
        ("p2pxfer.net.session.parties.MeetingOwner", True),
        ("p2pxfer.net.session.parties.MeetingOwner.path_up", True),
        ("p2pxfer.net.session.parties.MeetingOwner.path_sideways", False),
        ("p2pxfer.net.session.nowhere", False),
        ("p2pxfer.core.session.channels.Channels.room", True),
        ("p2pxfer.errors.NameTaken.word", True),
        ("Channels.room", True),
        ("Channels.rooms", False),
        ("room", True),
        ("Delivery.put", True),
        ("MAX_PIECES", True),
        ("MAX_TURNS", False),
        ("Registry.opened", False),
    ],
)
def test_what_leads_nowhere_is_found(name: str, there: bool) -> None:
    assert resolves(name, "p2pxfer.core.session.channels") is there
