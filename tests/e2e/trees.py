"""Directories with something of every kind, and what is in them."""

from __future__ import annotations

import os
from pathlib import Path

from tests.e2e.conftest import MIB
from tests.scene import file_hash, random_file


def make_tree(top: Path) -> None:
    """Many small files, one of several chunks, one with a hole, a link, and empty things."""
    for number in range(300):
        path = top / f"d{number % 7}" / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(2, "big") * (number * 31))
    random_file(top / "chunks.bin", 4 * MIB + 1)
    with (top / "hole.bin").open("wb") as file:
        file.write(b"begin")
        file.truncate(32 * MIB)
        file.seek(0, os.SEEK_END)
        file.write(b"end")
    (top / "empty").mkdir()
    (top / "link").symlink_to("d1/1")


def contents(top: Path) -> dict[str, str]:
    """What lies below a directory: hashes of files, targets of links."""
    return {
        str(path.relative_to(top)): str(path.readlink()) if path.is_symlink() else file_hash(path)
        for path in top.rglob("*")
        if path.is_symlink() or path.is_file()
    }
