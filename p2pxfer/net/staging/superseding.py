"""What is kept of a transfer, and not whole, is marked when a later one of the same sender and names has arrived.

Laws:

- Marked is only what was written last before the transfer that arrived began: what runs beside it is no earlier one.
- The sender is compared after the head of a journal was read, names after the first :data:`LISTED` bytes; a list that
  does not end within these is not marked.  How much is kept is found out of what was marked, so once.
- What a process holds is not touched, nor what is another identity's.
- Of each directory at most one look is under way; what arrives meanwhile waits for one more, :data:`MOST` of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from p2pxfer.core.transfer.journal import JournalState, read_journal
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.errors import P2pxferError, UsageError
from p2pxfer.net.disk import OPEN_DIRECTORY, OPEN_INNER_DIRECTORY, OPEN_INNER_FILE, shown, stat_or_none
from p2pxfer.net.private.privatedir import HeldLocks, enter
from p2pxfer.net.staging import replay
from p2pxfer.net.staging.journalfile import NAME as JOURNAL
from p2pxfer.net.staging.journalfile import SUPERSEDED, JournalFile
from p2pxfer.net.staging.owning import EVERYBODYS, is_anothers
from p2pxfer.net.staging.partials import Destination, Partial, look, staging_in, staging_name
from p2pxfer.net.worker import Worker

LISTED: Final = 1024 * 1024
"""So much of a journal is read for its names, bytes: some 30,000 files."""
MOST: Final = 64
"""Most transfers that wait for a look at their directory; further ones mark nothing."""
_HEAD: Final = 128
"""More bytes than a journal has before its first record."""


class Arrived(Struct, frozen=True):
    """A transfer that is here whole; ``began`` in seconds since 1970."""

    sender: bytes
    transfer: bytes
    names: tuple[str, ...]
    began: float


class Superseding:
    """Marks in a thread, and tells of each that was marked."""

    def __init__(self, worker: Worker, tell: Callable[[Partial], None], owner: bytes = EVERYBODYS) -> None:
        self._worker = worker
        self._tell = tell
        self._owner = owner
        self._waiting: dict[str, list[tuple[Arrived, Deferred[None]]]] = {}
        """By directory, while a look there is under way."""

    def arrived(self, directory: str, what: Arrived) -> Deferred[None]:
        """This is whole in ``directory`` now; fires when what it supersedes there is marked, or cannot be."""
        waiting = self._waiting.get(directory)
        if waiting is not None and len(waiting) >= MOST:
            return succeed(None)
        noted: Deferred[None] = Deferred()
        if waiting is not None:
            waiting.append((what, noted))
        else:
            self._look(directory, [(what, noted)])
        return noted

    def _look(self, directory: str, arrived: list[tuple[Arrived, Deferred[None]]]) -> None:
        self._waiting[directory] = []
        looking = self._worker.do(supersede, directory, [what for what, _ in arrived], self._owner)
        looking.addBoth(self._looked, directory, [noted for _, noted in arrived])

    def _looked(self, found: list[Partial] | Failure, directory: str, noted: list[Deferred[None]]) -> None:
        # A disk that refuses to keep a mark harms nobody.
        for each in found if not isinstance(found, Failure) else ():
            self._tell(each)
        for one in noted:
            one.callback(None)
        if waiting := self._waiting.pop(directory, []):
            self._look(directory, waiting)

    def stop(self) -> None:
        """Look no more: what waits for a look gets none."""
        stopped, self._waiting = list(self._waiting.values()), {}
        for waiting in stopped:
            for _, noted in waiting:
                noted.callback(None)


def supersede(directory: str, arrived: Sequence[Arrived], owner: bytes = EVERYBODYS) -> list[Partial]:
    """Mark in ``directory`` what is kept of earlier transfers with the senders and names of these; what was marked.

    ``owner``: the digest of the identity for which they arrived.
    """
    used = Destination(os.path.realpath(directory), "")
    return list(_marked(used, arrived, owner))


def _marked(used: Destination, arrived: Sequence[Arrived], owner: bytes) -> Iterator[Partial]:
    locks = HeldLocks()
    root = os.open(used.path, OPEN_DIRECTORY)
    try:
        for name in staging_in(used.path):
            with suppress(OSError, P2pxferError):
                if _is_earlier(root, name, arrived, owner):
                    _mark(root, name, str(Path(used.path, name)))
                    found = look(used, name, locks, owner)
                    if found is not None:
                        yield found
    finally:
        os.close(root)


def _is_earlier(root: int, name: str, arrived: Sequence[Arrived], owner: bytes) -> bool:
    """Whether one of these supersedes what is called so, and that is not marked yet."""
    fd = os.open(name.encode(), OPEN_INNER_DIRECTORY, dir_fd=root)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077 or stat_or_none(fd, SUPERSEDED) is not None:
            return False
        if is_anothers(fd, owner):
            return False
        changed = os.stat(JOURNAL, dir_fd=fd, follow_symlinks=False).st_mtime
        later = [each for each in arrived if changed < each.began and name != staging_name(each.sender, each.transfer)]
        journal = JournalFile(fd, lambda _: None)
        head = read_journal(journal.beginning(_HEAD)) if later else None
        names = [each.names for each in later if head is not None and each.sender == head.sender]
        state = read_journal(journal.beginning(LISTED)) if names else None
        return state is not None and _lists(state, names)
    finally:
        os.close(fd)


def _lists(state: JournalState, names: Sequence[tuple[str, ...]]) -> bool:
    """Whether the list is whole here and has one of these at its top; most others are known by the first page."""
    if state.more:
        return False
    manifest = Manifest()
    manifest.add(state.pages[0], more=True)
    first = tuple(manifest.top_names)
    if not any(each[: len(first)] == first for each in names):
        return False
    replay.take_up(state, manifest)
    return manifest.pages == len(state.pages) and tuple(manifest.top_names) in names


def _mark(root: int, name: str, where: str) -> None:
    """Only for this the lock is taken, since meanwhile nobody can go on with it."""

    def gone() -> None:
        """Raise that there is nothing to be marked."""
        raise UsageError(f"{shown(where)} is gone already")

    held = enter(root, name, where, gone)
    try:
        os.close(os.open(SUPERSEDED, os.O_WRONLY | os.O_CREAT | OPEN_INNER_FILE, 0o600, dir_fd=held))
    finally:
        os.close(held)
