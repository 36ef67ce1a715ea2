"""The receiver's journal on the disk: read once, replaced in one step, then only appended to."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.journal import (
    CHUNK_SIZE,
    RECORD_OVERHEAD,
    JournalState,
    pack_agreed,
    pack_claims,
    pack_header,
    pack_page,
    pack_publishing,
    read_journal,
)
from p2pxfer.core.transfer.manifest import MAX_MANIFEST, Manifest
from p2pxfer.net.disk import OPEN_INNER_FILE, fdatasync, read_span, stat_or_none, write_all

NAME: Final = b"journal"
_NEW: Final = b"journal.new"
SUPERSEDED: Final = b"superseded"
"""An empty file beside the journal: a later transfer of the same sender and names has arrived."""
UNAGREED: Final = b"unagreed"
"""An empty file beside the journal: nobody has agreed to the transfer yet.  It is there before the first journal is."""
OWNER: Final = "owner-"
"""How the name of an empty file beside the journal begins that says whose the transfer is; it goes after the journal
(:mod:`p2pxfer.net.staging.owning`).
"""
_LAST: Final = (NAME, _NEW, SUPERSEDED, UNAGREED)
_WRITE: Final = 1024 * 1024
"""So many bytes of a journal are written at once."""
MAX_JOURNAL: Final = 2 * MAX_MANIFEST + 4_000_000 * (CHUNK_SIZE + RECORD_OVERHEAD)
"""No run of ours writes a larger journal, bytes."""


class JournalFile:
    """The journal in ``directory``; every method may raise ``OSError``."""

    def __init__(self, directory: int, failpoint: Callable[[str], None]) -> None:
        self._directory = directory
        self._failpoint = failpoint
        self._fd = -1
        self._end = 0

    def read(self, limit: int) -> bytes:
        """The whole content; empty if there is none, or more than ``limit`` bytes, which no run of ours wrote.

        Raises ``PermissionError`` for what is not a plain file of this user.
        """
        return self._read(lambda size: size if size <= limit else 0)

    def beginning(self, most: int) -> bytes:
        """Up to ``most`` bytes from the beginning; raises as :meth:`read`."""
        return self._read(lambda size: min(size, most))

    def _read(self, wanted: Callable[[int], int]) -> bytes:
        try:
            fd = os.open(NAME, os.O_RDONLY | OPEN_INNER_FILE, dir_fd=self._directory)
        except FileNotFoundError:
            return b""
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
                raise PermissionError(errno.EPERM, "the journal is not a plain file of this user")
            return read_span(fd, 0, wanted(status.st_size))
        finally:
            os.close(fd)

    def read_state(self, sender: bytes, transfer: bytes) -> JournalState | None:
        """What the journal says; ``None`` if it is not of this transfer, so that everything starts over."""
        state = read_journal(self.read(MAX_JOURNAL))
        if state is None or (state.sender, state.transfer) != (sender, transfer):
            return None
        return state if state.pages else None

    def replace(self, pieces: Iterable[bytes], *, offered: bool = False) -> None:
        """Put a new journal in the old one's place, durably, and keep it open for :meth:`append`.

        ``offered``: it goes on with nothing that somebody agreed to, as a first one does.
        """
        self.close()
        try:
            os.unlink(_NEW, dir_fd=self._directory)
        except FileNotFoundError:
            pass
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | OPEN_INNER_FILE
        self._fd = os.open(_NEW, flags, 0o600, dir_fd=self._directory)
        self._end = 0
        self._write(pieces)
        os.fsync(self._fd)
        if offered or stat_or_none(self._directory, NAME) is None:
            os.close(os.open(UNAGREED, os.O_WRONLY | os.O_CREAT | OPEN_INNER_FILE, 0o600, dir_fd=self._directory))
        os.rename(_NEW, NAME, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        with suppress(FileNotFoundError):
            os.unlink(SUPERSEDED, dir_fd=self._directory)  # whoever goes on with it wants it
        os.fsync(self._directory)

    def append(self, records: Iterable[bytes]) -> None:
        """Add records, durably."""
        self._write(records)
        self._failpoint("rx.after_journal_write")
        fdatasync(self._fd)
        self._failpoint("rx.after_journal_sync")

    def _write(self, pieces: Iterable[bytes]) -> None:
        waiting = bytearray()
        for piece in pieces:
            waiting += piece
            if len(waiting) >= _WRITE:
                self._put(waiting)
                waiting = bytearray()
        self._put(waiting)

    def _put(self, data: bytearray) -> None:
        write_all(self._fd, data, self._end)
        self._end += len(data)

    def remove(self) -> None:
        """Remove the journal, what a run left half written, and what is beside it."""
        self.close()
        for name in filter(_is_last, removal_order(self._directory)):
            try:
                os.unlink(name, dir_fd=self._directory)
            except FileNotFoundError:
                pass

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def removal_order(directory: int) -> list[bytes]:
    """What is in a private directory, in the order in which it may be removed: as long as a journal is there its marks
    are.  Raises ``OSError``."""
    names = map(os.fsencode, os.listdir(directory))  # a descriptor
    return sorted(names, key=lambda name: _LAST.index(name) if name in _LAST else len(_LAST) if _is_last(name) else -1)


def _is_last(name: bytes) -> bool:
    """Whether it is the journal, or goes after it."""
    return name in _LAST or name.startswith(OWNER.encode())


def marks_in(directory: int) -> list[str]:
    """The names that begin with :data:`OWNER` in a private directory, in order.  Raises ``OSError``."""
    return sorted(name for name in os.listdir(directory) if name.startswith(OWNER))  # a descriptor


def new_journal(sender: bytes, manifest: Manifest, have: ChunkTable, state: JournalState | None) -> Iterator[bytes]:
    """A journal that says what is in ``have``, and of ``state`` what was agreed and about to be published."""
    yield pack_header(sender, manifest.transfer_id)
    for number in range(manifest.pages):
        yield pack_listed(manifest, number)
    yield from pack_claims(have.claims())
    if state is not None and state.agreed is not None:
        yield pack_agreed(state.agreed)
    if state is not None and state.publishing:
        yield pack_publishing(state.publishing)


def pack_listed(manifest: Manifest, page: int) -> bytes:
    """The LIST record of a page of ``manifest``."""
    return pack_page(manifest.page(page), more=not manifest.complete or page + 1 < manifest.pages)
