"""Whose the private directory of a transfer is: two homes may receive into one destination.

An empty file in it has the id of the receiving identity in its name, so nothing but the directory is to be synced.

Laws:

- The mark is durable before the first journal is, and goes after it: what a crash leaves without one holds nothing.
- A directory without a mark, or with one that names nobody, is everybody's, as earlier versions left it.  Whoever
  agrees to go on with it marks it; an offer alone does not.
- Where another's mark and a journal are nothing is changed, unless that journal says that everything was published.
  Such a one is no home's to drop, and one without a journal holds nothing: it is whoever's that takes it up.
- What is another's is neither listed nor removed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from p2pxfer.core.ids import PeerId, parse_id
from p2pxfer.core.transfer.journal import read_journal
from p2pxfer.errors import ConfigError, IdInvalid
from p2pxfer.net.disk import OPEN_INNER_FILE, shown, stat_or_none
from p2pxfer.net.private.identity import load
from p2pxfer.net.private.keyfile import KEY_FILE
from p2pxfer.net.staging.journalfile import MAX_JOURNAL, OWNER, JournalFile, marks_in
from p2pxfer.net.staging.journalfile import NAME as JOURNAL

EVERYBODYS: Final = b""
"""Stands for the digest of an identity where there is none."""


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
    for name in marks_in(place):
        with suppress(IdInvalid):
            return parse_id(name.removeprefix(OWNER)).digest
    return EVERYBODYS


def is_anothers(place: int, owner: bytes) -> bool:
    """Whether it is somebody else's than that identity's.  Raises ``OSError``."""
    return mark_of(place) not in (EVERYBODYS, owner)


def take(place: int, owner: bytes, where: str, number: str) -> None:
    """Make it that identity's, while its lock is held; ``where`` and ``number`` are what people call it.

    It is durable with the next sync of the directory.  What is unfinished there and everybody's stays that until
    :func:`take_unmarked`.

    Raises:
        ConfigError: it is somebody else's, and holds something unfinished.
        OSError: what the system refuses.
    """
    mark = mark_of(place)
    if owner in (mark, EVERYBODYS):
        return
    unfinished = _is_unfinished(place)
    if unfinished and mark != EVERYBODYS:
        raise ConfigError(
            f"{shown(where)} holds the same files, unfinished, for {PeerId(mark)}, which receives into this directory"
            f" too: receive into another one, or drop that in its home with p2pxfer jobs cancel {number}; if that home"
            f" is gone, remove {shown(where)} by hand",
            "the same files lie there unfinished for another receiver; send it again when that is finished or dropped",
        )
    if not unfinished:
        _write(place, owner)


def take_unmarked(place: int, owner: bytes) -> None:
    """Make what is everybody's that identity's, durably, while its lock is held.  Raises ``OSError``."""
    if owner != EVERYBODYS and mark_of(place) == EVERYBODYS:
        _write(place, owner)
        os.fsync(place)


def _write(place: int, owner: bytes) -> None:
    for name in marks_in(place):
        os.unlink(name, dir_fd=place)
    flags = os.O_WRONLY | os.O_CREAT | OPEN_INNER_FILE
    os.close(os.open(f"{OWNER}{PeerId(owner)}", flags, 0o600, dir_fd=place))


def _is_unfinished(place: int) -> bool:
    """Whether there is a journal that does not say that all is published: nor does one that cannot be read."""
    if stat_or_none(place, JOURNAL) is None:
        return False
    state = read_journal(JournalFile(place, lambda _: None).read(MAX_JOURNAL))
    return state is None or state.published_root is None
