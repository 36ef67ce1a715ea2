"""Names for files that are not whole yet, and what a crash left under such names.

Such a name stands beside the file that it is to be, and no two writers have the same.
"""

from __future__ import annotations

import math
import os
import re
import stat
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


def remove_left_over(path: Path, now_ns: int | None) -> None:
    """Remove what writers of ``path`` left an hour before ``now_ns`` (since 1970) or earlier, if they can be removed.

    ``now_ns`` is best by the clock of the file system: that of a file that was written just now.  With ``None`` it goes
    whatever its age: no writer may need it any more.
    """
    with suppress(OSError):
        for found in path.parent.iterdir():
            if found.name.startswith(path.name) and _UNFINISHED.fullmatch(found.name, len(path.name)):
                with suppress(OSError):
                    _remove(found, math.inf if now_ns is None else now_ns - _LEFT_OVER_NS)


def _remove(found: Path, before_ns: float) -> None:
    """Remove a regular file that was written before that time; nothing else is what a writer leaves."""
    status = found.lstat()
    if stat.S_ISREG(status.st_mode) and status.st_mtime_ns < before_ns:
        found.unlink()
