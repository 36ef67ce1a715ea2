"""Small private files that are replaced whole, and the version that those in JSON carry.

Laws:

1. Whoever reads sees the file of before or the new one, whatever crashes in between, and the new one is durable.
2. It is 0600 from its first moment, and no link in its place, or in that of what is not whole yet, is followed.
3. A file of a newer version of this program is not taken for anything else.

Whoever writes has the lock of the directory, or is the only one who writes there: what is not whole yet has always the
same name beside the file, and one that a crash left is in nobody's way.  All functions block for some milliseconds.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from p2pxfer.errors import ConfigError
from p2pxfer.net.private.identity import sync_directory

UNFINISHED: Final = ".new"
"""Behind the name of a file, while it is not whole."""
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class _Versioned(msgspec.Struct, frozen=True):
    schema: int


def replace_whole(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of the file ``path``, or where there is none, durably.

    Raises ``OSError``; the file of before is still there then, unless it was the directory that could not be made
    durable.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    unfinished.unlink(missing_ok=True)
    try:
        descriptor = os.open(unfinished, _FLAGS, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        unfinished.replace(path)
        sync_directory(path.parent)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def version_of(data: bytes, newest: int, where: str) -> int:
    """The version that the JSON file ``data`` is of, from 1 to ``newest``; ``where`` is the file in sentences.

    Raises:
        ConfigError: a newer version of this program wrote it.
        ValueError: it says no version that there is; ``msgspec.MsgspecError`` if it is no JSON object that says one.
        RecursionError: it is nested too deeply.
    """
    version = msgspec.json.decode(data, type=_Versioned).schema
    if version > newest:
        newer = f"format {version}, this program knows {newest}"
        raise ConfigError(f"{where} was written by a newer version of this program ({newer})")
    if version < 1:
        raise ValueError(f"there is no format {version}")
    return version
