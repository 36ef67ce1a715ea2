"""Files to send, and how one is replaced without a trace in its size and time."""

from __future__ import annotations

import os
from pathlib import Path


def fill(where: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_bytes(data)


def change_replaced(path: Path) -> None:
    status = path.stat()
    path.with_suffix(".new").write_bytes(bytes(status.st_size))
    os.utime(path.with_suffix(".new"), ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(path.with_suffix(".new"), path)
