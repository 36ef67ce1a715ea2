"""Names for files that are not whole yet, and what a crash left under such names.

Such a name stands beside the file that it is to be, and no two writers have the same.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

_UNFINISHED: Final = re.compile(r"\.[0-9a-f]{12}\.new")
"""Behind the name of a file, while it is not whole."""
_LEFT_OVER_NS: Final = 3600 * 10**9
"""What is so much older than now was left by a crash."""


def unfinished_name(path: Path) -> Path:
    """A name for what is to be the file ``path``, and that nobody else uses."""
    return path.with_name(f"{path.name}.{os.urandom(6).hex()}.new")


def remove_left_over(path: Path, now_ns: int) -> None:
    """Remove what writers of ``path`` left an hour before ``now_ns`` (since 1970) or earlier.

    Best by the clock of the file system: that of a file that was written just now.
    """
    with suppress(OSError):
        for found in path.parent.iterdir():
            mine = found.name.startswith(path.name) and _UNFINISHED.fullmatch(found.name, len(path.name))
            if mine and found.lstat().st_mtime_ns < now_ns - _LEFT_OVER_NS:
                found.unlink()
