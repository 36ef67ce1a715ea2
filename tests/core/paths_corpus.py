"""The table of names in `tests/vectors/paths.json`, for the tests of paths, manifests and disks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_TABLE = Path(__file__).parent.parent / "vectors" / "paths.json"


@dataclass(frozen=True)
class Row:
    """Paths of one manifest; those that others lie in are directories unless they are named in `files`."""

    id: str
    paths: tuple[bytes, ...]
    files: tuple[bytes, ...]
    expect: str

    def is_directory(self, path: bytes) -> bool:
        below = any(other.startswith(path + b"/") for other in self.paths)
        return below and path not in self.files

    def texts(self) -> list[str]:
        return [path.decode("utf-8", "surrogateescape") for path in self.paths]


def _raw(path: str) -> bytes:
    return bytes.fromhex(path[4:]) if path.startswith("hex:") else path.encode("utf-8", "surrogateescape")


def _row(row: dict[str, Any]) -> Row:
    return Row(row["id"], tuple(map(_raw, row["paths"])), tuple(map(_raw, row.get("files", []))), row["expect"])


ROWS = [_row(row) for row in json.loads(_TABLE.read_text(encoding="utf-8"))]


def cases(*expect: str) -> list[Any]:
    """The rows with these outcomes as parameters named by their ids."""
    return [pytest.param(row, id=row.id) for row in ROWS if not expect or row.expect in expect]
