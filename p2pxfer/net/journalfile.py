"""The receiver's journal on the disk: read once, replaced in one step, then only appended to."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

from p2pxfer.core.chunktable import ChunkAddress
from p2pxfer.core.journal import (
    CHUNK_SIZE,
    RECORD_OVERHEAD,
    JournalState,
    pack_chunks,
    pack_header,
    pack_publishing,
    read_journal,
)
from p2pxfer.core.manifest import Manifest
from p2pxfer.net.disk import OPEN_INNER_FILE, fdatasync, read_span, write_all

NAME: Final = b"journal"
_NEW: Final = b"journal.new"
_CHUNKS_PER_RECORD: Final = 65_536
_SLACK: Final = 4
"""A journal so many times larger than it can become is not ours."""


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
        try:
            fd = os.open(NAME, os.O_RDONLY | OPEN_INNER_FILE, dir_fd=self._directory)
        except FileNotFoundError:
            return b""
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
                raise PermissionError(errno.EPERM, "the journal is not a plain file of this user")
            return read_span(fd, 0, status.st_size) if status.st_size <= limit else b""
        finally:
            os.close(fd)

    def read_state(self, sender: bytes, manifest: Manifest, chunks: int) -> JournalState | None:
        """What the journal says; ``None`` if it is not of this transfer, so that everything starts over."""
        encoded = manifest.encode()
        records = 2 * (CHUNK_SIZE + RECORD_OVERHEAD) * chunks + 4096 * len(manifest.top_names)
        state = read_journal(self.read(_SLACK * (len(encoded) + records + 2**20)))
        if state is None or (state.sender, state.transfer) != (sender, manifest.transfer_id):
            return None
        return state if state.manifest == encoded else None

    def replace(self, pieces: Iterable[bytes]) -> None:
        """Put a new journal in the old one's place, durably, and keep it open for :meth:`append`."""
        self.close()
        try:
            os.unlink(_NEW, dir_fd=self._directory)
        except FileNotFoundError:
            pass
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | OPEN_INNER_FILE
        self._fd = os.open(_NEW, flags, 0o600, dir_fd=self._directory)
        self._end = 0
        for piece in pieces:
            self._write(piece)
        os.fsync(self._fd)
        os.rename(_NEW, NAME, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        os.fsync(self._directory)

    def append(self, record: bytes) -> None:
        """Add a record, durably."""
        self._write(record)
        self._failpoint("rx.after_journal_write")
        fdatasync(self._fd)
        self._failpoint("rx.after_journal_sync")

    def _write(self, data: bytes) -> None:
        write_all(self._fd, data, self._end)
        self._end += len(data)

    def remove(self) -> None:
        """Remove the journal and what a run left half written."""
        self.close()
        for name in (_NEW, NAME):
            try:
                os.unlink(name, dir_fd=self._directory)
            except FileNotFoundError:
                pass

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def new_journal(
    sender: bytes, manifest: Manifest, have: Mapping[ChunkAddress, bytes], state: JournalState | None
) -> Iterator[bytes]:
    """A journal that says what ``have`` says, and of ``state`` what was about to be published."""
    yield pack_header(sender, manifest.transfer_id, manifest.encode())
    claims = ((file, index, digest) for (file, index), digest in have.items())
    while batch := list(islice(claims, _CHUNKS_PER_RECORD)):
        yield pack_chunks(batch)
    if state is not None and state.publishing:
        yield pack_publishing(state.publishing)
