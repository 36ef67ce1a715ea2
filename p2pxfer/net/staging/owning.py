"""Whose the private directory of a transfer is: two homes may receive into one destination.

A file in it has the id of the receiving identity, as text.

Laws:

- The mark is durable before the first journal is, and goes after it: what a crash leaves without one holds nothing.
- A directory without a mark, or with one that says nothing, is everybody's, as earlier versions left it.  Whoever goes
  on with it marks it.
- Where another's mark and a journal are nothing is changed.  What holds no journal is whoever's that takes it up.
- What is another's is neither listed nor removed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from p2pxfer.core.ids import PeerId, parse_id
from p2pxfer.errors import ConfigError, IdInvalid
from p2pxfer.net.disk import OPEN_INNER_FILE, read_span, shown, stat_or_none, write_all
from p2pxfer.net.private.identity import load
from p2pxfer.net.private.keyfile import KEY_FILE
from p2pxfer.net.staging.journalfile import NAME as JOURNAL
from p2pxfer.net.staging.journalfile import NEW_OWNER, OWNER

EVERYBODYS: Final = b""
"""Stands for the digest of an identity where there is none."""
_MOST: Final = 200


def owner_at(home: Path) -> bytes:
    """The digest of the identity in a home; :data:`EVERYBODYS` where none was made yet.

    Raises:
        ConfigError: it cannot be used.
    """
    try:
        return load(home / KEY_FILE).id.digest
    except FileNotFoundError:
        return EVERYBODYS


def mark_of(place: int) -> bytes:
    """Whose the private directory ``place``, a descriptor, is marked as.  Raises ``OSError``."""
    if stat_or_none(place, OWNER) is None:
        return EVERYBODYS
    fd = os.open(OWNER, os.O_RDONLY | OPEN_INNER_FILE, dir_fd=place)
    try:
        return parse_id(read_span(fd, 0, _MOST).decode("ascii", "replace").strip()).digest
    except IdInvalid:
        return EVERYBODYS
    finally:
        os.close(fd)


def is_anothers(place: int, owner: bytes) -> bool:
    """Whether it is somebody else's than that identity's.  Raises ``OSError``."""
    return mark_of(place) not in (EVERYBODYS, owner)


def take(place: int, owner: bytes, where: str, number: str) -> None:
    """Make it that identity's, while its lock is held; ``where`` and ``number`` are what people call it.

    It is durable with the next sync of the directory.

    Raises:
        ConfigError: it is somebody else's, and holds something.
        OSError: what the system refuses.
    """
    mark = mark_of(place)
    if owner in (mark, EVERYBODYS):
        return
    if mark != EVERYBODYS and stat_or_none(place, JOURNAL) is not None:
        raise ConfigError(
            f"{shown(where)} holds the same files, unfinished, for {PeerId(mark)}, which receives into this directory"
            f" too: receive into another one, or drop that in its home with p2pxfer jobs cancel {number}",
            "the same files lie there unfinished for another receiver; send it again when that is finished or dropped",
        )
    fd = os.open(NEW_OWNER, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | OPEN_INNER_FILE, 0o600, dir_fd=place)
    try:
        write_all(fd, f"{PeerId(owner)}\n".encode(), 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(NEW_OWNER, OWNER, src_dir_fd=place, dst_dir_fd=place)
