"""The sender's record of the chunk hashes of what it sent, so that a resumed transfer need not read it all again.

One file for each transfer, ``<transfer id in hex>`` in the directory ``outgoing`` of the program's state, only ever
appended to::

    magic       8    "P2PXOUT" and the version, one byte 0x01
    records          as in p2pxfer.core.transfer.journal, kind 1, of
                     (file u32, chunk u32, tag 8, hash 32); the tag is BLAKE3 of the file's identity, cut

A hash counts only while the file is the very one that was read: device, inode, size, times of content and of status.

Law: the record saves time and nothing else.  Whatever is wrong with it, the transfer goes on without it; so nothing
is synced, and no error of the disk gets out of here.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from blake3 import blake3

from p2pxfer.core.transfer.chunkhashes import ChunkHashes
from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.transfer.journal import CHUNKS, pack_record, read_records
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.errors import ChunkRefused
from p2pxfer.net.disk import OPEN_INNER_FILE, write_all
from p2pxfer.net.transfer.fileidentity import FileIdentity

DIRECTORY: Final = "outgoing"
MAX_AGE: Final = 30 * 86_400.0
"""Seconds after its last change when a record is removed."""
MAX_SIZE: Final = 256 * 1024 * 1024
"""A record that is larger than this, bytes, is not read."""
FLUSH_CHUNKS: Final = 32
FLUSH_BYTES: Final = 4 * 1024 * 1024
"""So much chunk data is hashed again at most if the program is killed."""

_TOGETHER: Final = 1024
"""Files whose records are looked through together, about as many as a page of the list has."""
_MAGIC: Final = b"P2PXOUT\x01"
_CHUNK: Final = struct.Struct(">II8s32s")
_IDENTITY: Final = struct.Struct(">QQQqq")


class HashCache:
    """The record for one transfer; ``identify`` gives the present identity of a file by its index."""

    def __init__(self, state: str, manifest: Manifest, identify: Callable[[int], FileIdentity], now: float) -> None:
        """Open the record below the directory ``state``; remove those that are too old at ``now`` (since 1970).

        It blocks, with a million chunks for a second: what the record says of files that are listed is taken up here.
        """
        self._directory = Path(state, DIRECTORY)
        self._path = self._directory / manifest.transfer_id.hex()
        self._manifest = manifest
        self._identify = identify
        self._table = ChunkTable(manifest)
        self._lock = threading.Lock()
        self._old: dict[int, bytearray] = {}
        """What earlier runs recorded about files that are not listed yet, by their numbers, so many together."""
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._fd = -1
        self._end = 0
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._prune(now)
            self._open()
        except OSError:
            self._give_up()
        for _ in self._take_up():
            pass  # the table has it

    def load(self) -> Mapping[ChunkAddress, bytes]:
        """(file index, chunk index) -> BLAKE3 hash, of files that are what they were and were taken up by now.

        A copy: a thread of an attempt to send that has ended may still be at work here.
        """
        with self._lock:
            return ChunkHashes(self._table.copy())

    def grow(self) -> list[tuple[ChunkAddress, bytes]]:
        """What the record says of files that were listed since."""
        with self._lock:
            return list(self._take_up())

    def _take_up(self) -> Iterator[tuple[ChunkAddress, bytes]]:
        self._table.grow()
        files, last, own = self._table.files, -1, b""
        for together in sorted(self._old):
            if together * _TOGETHER >= files:
                break
            later = bytearray()
            for file, index, tag, digest in _CHUNK.iter_unpack(self._old.pop(together)):
                if file >= files:
                    later += _CHUNK.pack(file, index, tag, digest)
                    continue
                if file != last:
                    last, own = file, self._tag(file)
                if tag == own and self._is_set((file, index), digest):
                    yield (file, index), digest
            if later:
                self._old[together] = later

    def _is_set(self, address: ChunkAddress, digest: bytes) -> bool:
        try:
            self._table.set_hash(self._table.number(address), digest)
        except ChunkRefused:
            return False
        return True

    def add(self, file: int, index: int, digest: bytes) -> None:
        """Remember the hash of a chunk that was read; thread-safe.

        Raises:
            ChunkRefused: there is no such chunk.
        """
        with self._lock:
            self._table.grow()
            number = self._table.number((file, index))
            self._note(number, digest, [_CHUNK.pack(file, index, self._tag(file), digest)])

    def add_files(self, first: int, digests: list[bytes]) -> None:
        """The same for files of one chunk each, from ``first`` on."""
        with self._lock:
            self._table.grow()
            records = [_CHUNK.pack(file, 0, self._tag(file), digest) for file, digest in enumerate(digests, first)]
            self._note(self._table.base(first), b"".join(digests), records)

    def _note(self, number: int, digests: bytes, records: list[bytes]) -> None:
        self._table.set_run(number, digests)
        self._pending += records
        self._pending_bytes += self._table.bytes_in(number, number + len(records))
        if len(self._pending) >= FLUSH_CHUNKS or self._pending_bytes >= FLUSH_BYTES:
            self._flush()

    def forget(self) -> None:
        """The transfer is done: remove the record."""
        with self._lock:
            if self._fd >= 0:
                self._path.unlink(missing_ok=True)
            self._give_up()

    def close(self) -> None:
        """Write what is pending and close."""
        with self._lock:
            self._flush()
            self._give_up()

    # -- the file ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | OPEN_INNER_FILE, 0o600)
        self._fd = fd
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError(1, "not a plain file of this user")
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(fd, "rb", closefd=False) as file:
            data = file.read() if status.st_size <= MAX_SIZE else b""
        self._end = self._take(data)
        if self._end == 0:
            write_all(fd, _MAGIC, 0)
            self._end = len(_MAGIC)
        os.ftruncate(fd, self._end)

    def _take(self, data: bytes) -> int:
        """Read the records; the length in bytes of what can be believed."""
        if not data.startswith(_MAGIC):
            return 0
        valid = len(_MAGIC)
        for kind, body, stop in read_records(data, valid):
            if kind != CHUNKS or len(body) % _CHUNK.size:
                break
            for at in range(0, len(body), _CHUNK.size):
                record = body[at : at + _CHUNK.size]
                together = int.from_bytes(record[:4], "big") // _TOGETHER
                self._old.setdefault(together, bytearray()).extend(record)
            valid = stop
        return valid

    def _tag(self, file: int) -> bytes:
        identity = self._identify(file)
        packed = _IDENTITY.pack(identity.dev, identity.ino, identity.size, identity.mtime_ns, identity.ctime_ns)
        return blake3(packed).digest()[:8]

    def _flush(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if self._fd < 0 or not pending:
            return
        record = pack_record(CHUNKS, b"".join(pending))
        try:
            write_all(self._fd, record, self._end)
            self._end += len(record)
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Go on without a file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _prune(self, now: float) -> None:
        for path in self._directory.iterdir():
            try:
                if now - path.lstat().st_mtime > MAX_AGE:
                    path.unlink()
            except OSError:
                continue  # somebody else's, or gone already
