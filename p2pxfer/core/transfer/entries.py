"""What a manifest lists."""

from __future__ import annotations

from enum import Enum
from typing import Final

from msgspec import Struct

PERMISSIONS: Final = 0o777
"""The bits of a mode that travel; what gives a program another user's rights never does."""


class Kind(Enum):
    """What an entry is; nothing else is ever transferred."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"


FILE: Final = Kind.FILE
DIRECTORY: Final = Kind.DIRECTORY
LINK: Final = Kind.LINK


class Entry(Struct, frozen=True):
    """One file, directory or symbolic link: relative path with ``/``, size in bytes, time of last change in ns since
    1970, permission bits, and what a link points to.
    """

    path: str
    kind: Kind
    size: int = 0
    mtime_ns: int = 0
    mode: int = 0
    target: str = ""
