"""What the tests of the disk sides share: trees, transfers by hand, and a receiver to kill."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from blake3 import blake3

from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.transfer.geometry import chunk_count, chunk_span
from p2pxfer.core.transfer.journal import Claim
from p2pxfer.core.transfer.manifest import DIRECTORY, FILE, LINK, Entry, Manifest
from p2pxfer.net.private import privatedir
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.staging.unagreed import agreed

SENDER = b"s" * 32
CHUNK = 65_536
NOW = 1_800_000_000.0
MTIME = 1_600_000_000_123_456_789


class Content:
    """Files in memory, to be received: a manifest and the bytes of each file."""

    def __init__(
        self,
        files: dict[str, bytes],
        executable: Iterable[str] = (),
        directories: Iterable[str] = (),
        *,
        modes: dict[str, int] | None = None,
        links: dict[str, str] | None = None,
    ) -> None:
        self.files = files
        folders = set(directories)
        for path in [*files, *folders, *(links or {})]:
            folders.update(str(parent) for parent in Path(path).parents if str(parent) != ".")
        usual = dict.fromkeys([*folders, *executable], 493) | (modes or {})
        entries = [Entry(path, DIRECTORY, 0, MTIME, usual[path]) for path in folders]
        entries += [Entry(path, FILE, len(data), MTIME, usual.get(path, 0o644)) for path, data in files.items()]
        entries += [Entry(path, LINK, 0, MTIME, 0, target) for path, target in (links or {}).items()]
        self.manifest = Manifest(entries)
        self.table = ChunkTable(self.manifest)
        for address in self.addresses():
            self.table.set_hash(self.table.number(address), blake3(self.chunk(address)).digest())

    def addresses(self) -> list[ChunkAddress]:
        files = enumerate(self.manifest.files)
        return [(number, index) for number, entry in files for index in range(chunk_count(entry.size))]

    def chunk(self, address: ChunkAddress) -> bytes:
        entry = self.manifest.files[address[0]]
        offset, length = chunk_span(entry.size, address[1])
        return self.files[entry.path][offset : offset + length]

    def digest(self, address: ChunkAddress) -> bytes:
        return self.table.hash(self.table.number(address))

    def claim(self, address: ChunkAddress) -> Claim:
        file, index = address
        return file, index, index + 1, self.digest(address)

    @property
    def root(self) -> bytes:
        return self.table.root()


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


MODES = {"a.txt": 0o606, "a-secret": 0o400, "d": 0o711, "d/b.bin": 0o750, "d/e": 0o1, "d/none": 0, "shut": 0o555}


def restricted() -> Content:
    """Files and directories that their owner may not write or not even enter."""
    files = {"a.txt": b"hello", "a-secret": b"s", "d/b.bin": noise(65_537), "d/none": b"n", "shut/in": b"i"}
    return Content(files, directories=["d/e"], modes=MODES, links={"d/link": "e", "shut/up": "in"})


def small() -> Content:
    """A file of one chunk, one of two, and an empty directory."""
    return Content({"a.txt": b"hello", "d/b.bin": noise(CHUNK + 1)}, executable=["d/b.bin"], directories=["d/e"])


def put(staging: Staging, content: Content, addresses: Iterable[ChunkAddress]) -> None:
    for address in addresses:
        payload = memoryview(content.chunk(address))
        staging.write_chunk(*address, payload, content.digest(address))


def open_staging(where: Path, content: Content, failpoint: Callable[[str], None] = lambda _: None) -> Staging:
    """The place of a transfer that was agreed to."""
    staging = Staging.open(str(where), SENDER, content.manifest, failpoint=failpoint)
    agreed(staging.where)
    return staging


def run(where: Path, content: Content, batch: int, failpoint: Callable[[str], None] = lambda _: None) -> list[str]:
    """Receive what is missing, publish and clean up: the whole life of one receiver."""
    staging = open_staging(where, content, failpoint)
    try:
        if staging.published_root is None:
            missing = [address for address in content.addresses() if address not in staging.have]
            for at in range(0, len(missing), batch):
                part = missing[at : at + batch]
                put(staging, content, part)
                staging.sync([content.claim(address) for address in part])
        names = staging.finish(content.root, NOW)
        failpoint("end")
        staging.discard()
        return names
    finally:
        staging.close()


def tree(where: Path) -> dict[str, bytes | None]:
    """Everything below a directory, links as such and nothing followed; None for directories."""
    found: dict[str, bytes | None] = {}
    for path in sorted(where.rglob("*")):
        name = str(path.relative_to(where))
        if path.is_symlink():
            found[name] = b"-> " + os.fsencode(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = None
    return found


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def count_lock_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets longer whenever the kernel's list of locks is read."""
    reads = []

    class Counted:
        def read_text(self, encoding: str, errors: str) -> str:
            reads.append(encoding)
            return Path("/proc/locks").read_text(encoding, errors)

    monkeypatch.setattr(privatedir, "_LOCKS", Counted())
    return reads
