"""The import rules of the package, read from its syntax trees: cli, tap -> net -> core -> errors, status -> reasons,
inventory.

Inside core and net each folder may use those that its row names, so there is no circle between folders.

An import inside a function counts as one at the top does, and so does one that only the type checker sees: a layer
that names another depends on it.

No test module is imported: what tests share is in modules beside them that hold no tests.

How long modules and functions may be is held here too, and that functions say what they do where ruff does not look:
in private classes and in other functions.
"""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "p2pxfer"

MAY_USE = {
    "reasons": frozenset[str](),
    "base": frozenset({"reasons"}),
    "core": frozenset({"core", "base", "reasons"}),
    "net": frozenset({"net", "core", "base", "reasons"}),
    "tap": frozenset({"tap", "net", "core", "base", "reasons"}),
    "endpoints": frozenset({"endpoints", "net", "core", "base", "reasons"}),
    "cli": frozenset({"cli", "endpoints", "net", "core", "base", "reasons"}),
}
"""Layer -> the layers whose modules it may import.  `base` is errors and status, which do not know each other;
`reasons` is inventory too."""

ROOMS = {
    "core": {
        "": "",
        "contact": "",
        "traversal": "",
        "server": "traversal",
        "session": "traversal",
        "transfer": "session",
        "words": "traversal session",
        "agent": "session",
    },
    "net": {
        "": "",
        "private": "",
        "connection": "private",
        "traversal": "private connection",
        "server": "private connection traversal",
        "session": "private connection traversal",
        "services": "private connection traversal session",
        "staging": "private",
        "transfer": "private connection traversal session services staging",
        "queue": "private connection traversal session services staging transfer",
        "agent": "private connection traversal session services staging transfer queue",
    },
}
"""Folder of a layer -> the other folders of it that its modules may import; what is in no folder may be used by all."""

_SYSTEM = (
    "socket", "os", "time", "datetime", "random", "secrets", "threading", "pathlib", "subprocess", "select", "shutil",
    "tempfile", "fcntl", "signal", "ctypes",
)  # fmt: skip
NO_IO = frozenset({*_SYSTEM, "twisted", "OpenSSL", "ssl", "sqlite3", "asyncio", "logging"})
"""What `core` and `base` may not import: they get bytes, values, the time and random numbers as arguments."""

LONGEST_MODULE, LONGEST_FUNCTION = 355, 60
"""Lines that a module and a function may have; decorators, which hold the options of commands, do not count."""

GLOBAL_REACTOR = "twisted.internet.reactor"
ENTRIES = frozenset({"cli", "tap"})
"""Where a process begins: the command line, and `makeService`, which twistd gives no reactor."""


@dataclass(frozen=True, slots=True)
class Import:
    """One imported dotted name, and whether a function does it, at its call."""

    name: str
    line: int
    lazy: bool


def imports(source: str, module: str, *, is_package: bool = False) -> list[Import]:
    """Every import in `source`, relative ones made absolute; `from a import b` is `a.b`.

    `importlib.import_module` and `__import__` count when their argument is written out.
    """
    package = module if is_package else module.rpartition(".")[0]
    return list(_walk(ast.parse(source), package, lazy=False))


def _walk(node: ast.AST, package: str, *, lazy: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, node.lineno, lazy)
    elif isinstance(node, ast.ImportFrom):
        origin = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            origin = ".".join([*above, *([origin] if origin else [])])
        for alias in node.names:
            yield Import(f"{origin}.{alias.name}", node.lineno, lazy)
    elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__") and node.args:
        first = node.args[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield Import(first.value, node.lineno, lazy)
    inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, package, lazy=inside)


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def layer(name: str) -> str | None:
    """The layer of a module, or of a name in one; None outside the package and for the package itself."""
    parts = name.split(".")
    if parts[0] != PACKAGE or len(parts) == 1:
        return None
    return {"errors": "base", "status": "base", "inventory": "reasons"}.get(parts[1], parts[1])


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What `source`, as the text of `module`, does against the rules."""
    own = layer(module)
    found = []
    for each in imports(source, module, is_package=is_package):
        where = f"{module}:{each.line}"
        theirs = layer(each.name)
        if own is not None and theirs in MAY_USE and theirs not in MAY_USE[own]:
            found.append(f"{where}: {own} imports {each.name} of {theirs}")
        if own in ("core", "base", "reasons") and each.name.split(".")[0] in NO_IO:
            found.append(f"{where}: {own} imports {each.name}")
        if each.name == GLOBAL_REACTOR and not (own in ENTRIES and each.lazy):
            found.append(f"{where}: the global reactor outside a function of an entry point")
    return found


def room(name: str) -> str:
    """The folder of its layer in which a module or package is, empty for none."""
    parts = name.split(".")
    return parts[2] if len(parts) > 2 and parts[2] in ROOMS[parts[1]] else ""


def through_walls(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """The imports of a module that its folder may not make."""
    own = layer(module)
    if own not in ROOMS:
        return []
    here = room(module)
    allowed = {"", here, *ROOMS[own][here].split()}
    theirs = (each for each in imports(source, module, is_package=is_package) if layer(each.name) == own)
    return [f"line {each.line}: {here} imports {each.name}" for each in theirs if room(each.name) not in allowed]


def too_long(source: str) -> list[str]:
    """What of a module has more lines than it may."""
    count = len(source.splitlines())
    found = [f"the module has {count} lines"] if count > LONGEST_MODULE else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = (node.end_lineno or node.lineno) - node.lineno + 1
            if count > LONGEST_FUNCTION:
                found.append(f"{node.name} in line {node.lineno} has {count} lines")
    return found


def undocumented(source: str) -> list[str]:
    """Functions and classes of a module, wherever they are, that have a public name and no docstring."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        # A setter is documented with its property, and what is overloaded where it is carried out.
        decorators = (ast.unparse(each) for each in node.decorator_list)
        if not ast.get_docstring(node) and not any(each.endswith((".setter", "overload")) for each in decorators):
            found.append(f"{node.name} in line {node.lineno}")
    return found


def modules() -> list[tuple[str, Path]]:
    """The dotted names of all modules of the package, and their files."""
    found = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_module_keeps_the_rules(module: str, path: Path) -> None:
    assert module == PACKAGE or layer(module) in MAY_USE, f"{module} belongs to no layer"
    assert violations(path.read_text(), module, is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_module_stays_inside_its_walls(module: str, path: Path) -> None:
    assert through_walls(path.read_text(), module, is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_module_is_not_too_long(module: str, path: Path) -> None:
    assert too_long(path.read_text()) == [], module


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_every_function_with_a_public_name_says_what_it_does(module: str, path: Path) -> None:
    assert undocumented(path.read_text()) == [], module


def test_what_says_nothing_is_found() -> None:
    said = 'class _C:\n    def f(self):\n        """Said."""\n        def _g(): ...\n'
    assert undocumented(said) == []
    assert undocumented(said + "        def g(): ...\n        class D: ...\n") == ["g in line 5", "D in line 6"]
    assert undocumented(said + "    async def h(self): ...\n") == ["h in line 5"]
    assert undocumented(said + "    @f.setter\n    def f(self, to): ...\n    @overload\n    def i(self): ...\n") == []


def test_what_is_too_long_is_found() -> None:
    fits = "class C:\n    @decorated\n    async def f(self):\n" + "        pass\n" * (LONGEST_FUNCTION - 1)
    assert too_long(fits) == []
    assert too_long(fits + "        pass\n") == [f"f in line 3 has {LONGEST_FUNCTION + 1} lines"]
    assert too_long("a = 1\n" * LONGEST_MODULE) == []
    assert too_long("a = 1\n" * (LONGEST_MODULE + 1)) == [f"the module has {LONGEST_MODULE + 1} lines"]


def test_every_folder_has_a_row_and_no_circle() -> None:
    for own, rows in ROOMS.items():
        folders = {each.name for each in (ROOT / PACKAGE / own).iterdir() if (each / "__init__.py").exists()}
        assert folders == rows.keys() - {""}
        # Each row names only folders of rows above it.
        known: set[str] = set()
        for folder, others in rows.items():
            assert set(others.split()) <= known, folder
            known.add(folder)


@pytest.mark.parametrize(
    ("module", "line", "wrong"),
    [
        ("p2pxfer.core.session.hello", "from p2pxfer.core.transfer.manifest import Manifest", True),
        ("p2pxfer.core.session.hello", "from p2pxfer.core.transfer import manifest", True),
        ("p2pxfer.core.ids", "def f():\n    from p2pxfer.core.server import links", True),
        ("p2pxfer.net.connection.tls", "from p2pxfer.net.session.path import PeerPath", True),
        ("p2pxfer.core.transfer.sender", "from p2pxfer.core.session.hello import Hello", False),
        ("p2pxfer.core.transfer.sender", "from p2pxfer.core import ids", False),
        ("p2pxfer.net.session.path", "from p2pxfer.core.server import links", False),
    ],
)
def test_a_wall_is_a_wall(module: str, line: str, wrong: bool) -> None:
    assert bool(through_walls(line, module)) is wrong


@pytest.mark.parametrize(
    ("package", "line", "wrong"),
    [
        ("p2pxfer.core.session", "from ..transfer import manifest", True),
        ("p2pxfer.core.session", "from . import hello", False),
        ("p2pxfer.core.session", "from .transfer import manifest", False),
        ("p2pxfer.core.transfer", "from ..session import hello", False),
        ("p2pxfer.net", "from .session import path", True),
    ],
)
def test_a_wall_is_a_wall_for_a_package_too(package: str, line: str, wrong: bool) -> None:
    assert bool(through_walls(line, package, is_package=True)) is wrong


def test_every_layer_is_there() -> None:
    assert {layer(name) for name, _ in modules()} >= {"base", "core", "net", "tap", "cli"}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("p2pxfer.core.transfer.sender", "import twisted"),
        ("p2pxfer.core.transfer.sender", "from twisted.internet import defer"),
        ("p2pxfer.core.transfer.sender", "import os.path as p"),
        ("p2pxfer.core.transfer.sender", "from time import monotonic"),
        ("p2pxfer.core.transfer.sender", "from datetime import datetime"),
        ("p2pxfer.core.transfer.sender", "import shutil"),
        ("p2pxfer.core.transfer.sender", "import tempfile"),
        ("p2pxfer.core.transfer.sender", "import fcntl"),
        ("p2pxfer.core.transfer.sender", "from signal import SIGTERM"),
        ("p2pxfer.status", "from ctypes import CDLL"),
        ("p2pxfer.core.transfer.sender", "from ...net.connection import tls"),
        ("p2pxfer.core.transfer.sender", "from p2pxfer import net"),
        ("p2pxfer.core.transfer.sender", "import p2pxfer.cli.main"),
        ("p2pxfer.core.transfer.sender", "__import__('socket')"),
        ("p2pxfer.errors", "from p2pxfer.status import Path"),
        ("p2pxfer.errors", "import p2pxfer.core.ids"),
        ("p2pxfer.status", "from . import errors"),
        ("p2pxfer.reasons", "from p2pxfer.status import Path"),
        ("p2pxfer.inventory", "from p2pxfer.status import Path"),
        ("p2pxfer.net.connection.tls", "from p2pxfer.cli import main"),
        ("p2pxfer.net.connection.tls", "from ...tap import Options"),
        ("p2pxfer.net.connection.tls", "from twisted.internet import reactor"),
        ("p2pxfer.net.connection.tls", "import importlib\nimportlib.import_module('p2pxfer.cli.send')"),
        ("p2pxfer.tap", "from p2pxfer.cli import main"),
        ("p2pxfer.tap", "from twisted.internet import reactor"),
        ("p2pxfer.cli.main", "from twisted.internet import reactor"),
        ("p2pxfer.cli.main", "import twisted.internet.reactor"),
        ("p2pxfer.cli.main", "from p2pxfer.tap import Options"),
    ],
)
@pytest.mark.parametrize("wrap", ["{}", "def f():\n    {}", "if TYPE_CHECKING:\n    {}", "class C:\n    {}"])
def test_the_check_catches(module: str, line: str, wrap: str) -> None:
    text = wrap.format(line.replace("\n", "\n    ") if "    " in wrap else line)
    allowed = layer(module) in ENTRIES and line.endswith("reactor") and wrap.startswith("def")
    assert bool(violations(text, module)) is not allowed


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("p2pxfer.core.transfer.sender", "from p2pxfer.core import wire"),
        ("p2pxfer.core.transfer.sender", "from .wire import Frame"),
        ("p2pxfer.core.transfer.sender", "from p2pxfer.errors import Refused"),
        ("p2pxfer.core.transfer.sender", "import hashlib, struct, msgspec"),
        ("p2pxfer.net.connection.tls", "import os\nfrom p2pxfer import __version__\nfrom p2pxfer.core import ids"),
        ("p2pxfer.cli.main", "from p2pxfer.net import tls\nfrom p2pxfer.status import Done"),
        ("p2pxfer.cli.main", "def main():\n    from twisted.internet import reactor"),
        ("p2pxfer.cli.main", "async def main():\n    from twisted.internet import reactor"),
    ],
)
def test_the_check_lets_pass(module: str, line: str) -> None:
    assert violations(line, module) == []


def test_a_package_resolves_its_relative_imports_from_itself() -> None:
    assert [each.name for each in imports("from . import a\nfrom .. import b", "p2pxfer.net", is_package=True)] == [
        "p2pxfer.net.a",
        "p2pxfer.b",
    ]


def test_no_package_file_shadows_twisted() -> None:
    assert list((ROOT / "twisted").rglob("__init__.py")) == []


def test_every_package_is_installed() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    here = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "p2pxfer").rglob("__init__.py")}
    assert set(config["options"]["packages"].split()) == here | {"twisted.plugins"}


def test_one_place_makes_the_connection_of_this_machine_to_the_server() -> None:
    """What a command says of this machine and of how it reaches others comes there as one value."""
    makers = [
        module
        for module, path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _called(node) == "RendezvousClient"
    ]
    assert makers == ["p2pxfer.net.session.machine"]


def from_tests(source: str, module: str) -> list[str]:
    """Names that ``source``, as the text of ``module``, imports out of modules of tests."""
    return [each.name for each in imports(source, module) if re.match(r"tests\.(\w+\.)*test_", each.name)]


def test_no_test_module_is_imported() -> None:
    here = [path for name in ("tests", "scripts") for path in sorted((ROOT / name).rglob("*.py"))]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in here}
    assert len(here) > 300
    assert {names[path]: found for path in here if (found := from_tests(path.read_text(), names[path]))} == {}


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("from tests.net.test_disk import World", True),
        ("from tests.net import test_disk", True),
        ("import tests.test_disk as disk", True),
        ("def f():\n    from .test_disk import World", True),
        ("from tests.net.disk_tools import tree", False),
    ],
)
def test_who_imports_a_test_module_is_found(line: str, wrong: bool) -> None:
    assert bool(from_tests(line, "tests.net.test_other")) is wrong


def test_help_loads_neither_twisted_nor_rich() -> None:
    program = (
        "import atexit, sys\n"
        "def say():\n"
        "    heavy = {'twisted', 'rich'} & {name.split('.')[0] for name in sys.modules}\n"
        "    print('heavy:', *sorted(heavy))\n"
        "atexit.register(say)\n"
        "sys.argv = ['p2pxfer', '--help']\n"
        "from p2pxfer.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert done.stdout.splitlines()[-1] == "heavy:"
