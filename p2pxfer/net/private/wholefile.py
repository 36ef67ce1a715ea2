"""Small private files that are replaced whole, and the version that those in JSON carry.

Laws:

1. Whoever reads sees the file of before or the new one, whatever crashes in between, and the new one is durable.
2. It is 0600 from its first moment, and no link in its place, or in that of what is not whole yet, is followed.
3. A file of a newer version of this program is not taken for anything else.
4. What is not whole yet has a name beside the file that no other writer uses, so that two who have no lock spoil
   nothing; whoever changes what was there needs one.  What a crash left goes when somebody writes an hour later.

All functions block for some milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from p2pxfer.errors import ConfigError
from p2pxfer.net.private.identity import sync_directory
from p2pxfer.net.private.leftover import remove_left_over, unfinished_name

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class _Versioned(msgspec.Struct, frozen=True):
    schema: int


def replace_whole(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of the file ``path``, or where there is none, durably.

    Raises ``OSError``; the file of before is still there then, unless it was the directory that could not be made
    durable.
    """
    with in_place_of(path) as descriptor:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(descriptor)
    sync_directory(path.parent)


@contextmanager
def in_place_of(path: Path) -> Iterator[int]:
    """A descriptor for writing what gets the name ``path`` at the end of the block, unless that raises.

    It is closed then; not made durable.  Raises ``OSError``.
    """
    unfinished = unfinished_name(path)
    descriptor = os.open(unfinished, _FLAGS, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        yield descriptor
        unfinished.replace(path)
        remove_left_over(path, os.fstat(descriptor).st_mtime_ns)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


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
