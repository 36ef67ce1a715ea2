"""The disks of both sides of a delta: cuts, patches, what is copied from, and what a sender may ask for."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from blake3 import blake3
from twisted.logger import LogLevel, capturedLogs, formatEvent

from p2pxfer.core.session.deltawire import BLOCK_HASH, LITERAL, Older, Patch, WantBasis
from p2pxfer.core.session.transferwire import Listed
from p2pxfer.core.transfer.geometry import chunk_count, chunk_span
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.errors import ChunkRefused, ProtocolBreach, SourceChanged
from p2pxfer.net.disk import OPEN_DIRECTORY
from p2pxfer.net.transfer import oldversions
from p2pxfer.net.transfer.cutting import READ, blocks, can_cut
from p2pxfer.net.transfer.deltasource import Cuts
from p2pxfer.net.transfer.oldversions import OldVersions, VersionLost
from p2pxfer.net.transfer.rebuilding import Rebuilding
from p2pxfer.net.transfer.source import Source
from tests.net.disk_tools import noise, open_fds

MIB = 1 << 20


# -- cuts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, 8192, MIB, READ, READ + 1, 3 * READ + 77])
def test_cuts_do_not_depend_on_how_a_file_is_read(size: int) -> None:
    content = noise(size, 1)

    def in_pieces(most: int) -> Callable[[int, int], bytes]:
        return lambda at, count: content[at : at + min(count, most)]

    whole = list(blocks(in_pieces(size or 1), size, 8192))
    assert list(blocks(in_pieces(5000), size, 8192)) == whole
    at = 0
    for length, digest in whole:
        assert digest == blake3(content[at : at + length]).digest(length=BLOCK_HASH)
        at += length
    assert at == size
    assert all(2048 <= length <= 32768 for length, _ in whole[:-1])


def test_an_insertion_moves_the_cuts_along() -> None:
    old = noise(4 * MIB, 2)
    new = old[:1000] + b"inserted" + old[1000:]
    known = {digest for _, digest in blocks(lambda at, count: old[at : at + count], len(old), 8192)}
    fresh = [(size, digest) for size, digest in blocks(lambda at, count: new[at : at + count], len(new), 8192)]
    assert sum(size for size, digest in fresh if digest not in known) < 64 * 1024


# -- whole files ---------------------------------------------------------------------------------------------------


class Both:
    """A sender with a new version of `a`, and a receiver with an old one."""

    def __init__(self, folder: Path, old: bytes, new: bytes) -> None:
        self.there = folder / "there"
        self.there.mkdir()
        (self.there / "a").write_bytes(old)
        (folder / "here").mkdir()
        self.new = folder / "here" / "a"
        self.new.write_bytes(new)
        self.source = Source.scan([str(self.new)])
        self.cuts = Cuts(self.source)
        self.versions = OldVersions(self.source.manifest, [os.open(self.there, OPEN_DIRECTORY)])

    def sign(self) -> tuple[int, bytes]:
        assert self.versions.look([0]) == [0]
        return self.versions.sign(0)

    def patch(self, index: int, average: int, hashes: bytes) -> Patch | None:
        payload, digest = self.source.read_chunk(0, index)
        made = self.cuts.patch((0, index), payload, average, hashes)
        if made is None:
            return None
        ops, literals = made
        return Patch(1, 0, index, digest, tuple(ops), memoryview(b"".join(literals)), len(payload))

    def close(self) -> None:
        self.versions.close()
        self.source.close()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Callable[..., Both]]:
    before = open_fds()
    made: list[Both] = []

    def make(old: bytes, new: bytes) -> Both:
        made.append(Both(tmp_path, old, new))
        return made[-1]

    yield make
    for each in made:
        each.close()
    assert open_fds() == before


def test_every_chunk_is_made_of_the_old_version(both: Any) -> None:
    old = noise(3 * MIB, 3)
    new = b"front" + old[:MIB] + noise(100_000, 4) + old[2 * MIB :] + old[:MIB]
    pair = both(old, new)
    average, hashes = pair.sign()
    moved = 0
    order = list(range(chunk_count(len(new))))
    random.Random(5).shuffle(order)
    for index in order:
        offset, length = chunk_span(len(new), index)
        patch = pair.patch(index, average, hashes)
        if patch is None:
            moved += length
            continue
        moved += patch.wire_size
        assert pair.versions.make(patch) == new[offset : offset + length]
    assert moved < 400_000


@pytest.mark.parametrize("kind", ["rewritten", "replaced", "gone", "shortened"])
def test_an_old_version_that_is_not_what_it_was(both: Any, kind: str) -> None:
    old = noise(MIB, 6)
    pair = both(old, old)
    average, hashes = pair.sign()
    patch = pair.patch(0, average, hashes)
    assert patch is not None
    there = pair.there / "a"
    if kind == "rewritten":
        times = there.stat()
        with there.open("r+b") as file:
            file.write(b"other")
        os.utime(there, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif kind == "shortened":
        os.truncate(there, 1000)
    if kind in ("rewritten", "shortened"):
        with pytest.raises(VersionLost):
            pair.versions.make(patch)
    else:
        # What was opened is still there.
        there.unlink()
        if kind == "replaced":
            there.write_bytes(noise(MIB, 7))
        try:
            assert pair.versions.make(patch) == old[: patch.length]
        except VersionLost:
            pass  # its time of status changed with its last name


@pytest.fixture
def no_cutter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library that cuts cannot be imported."""
    monkeypatch.setitem(sys.modules, "pyfastcdc", None)
    can_cut.cache_clear()
    yield
    can_cut.cache_clear()


def test_without_the_library_that_cuts_nothing_is_told_and_everything_is_sent_whole(both: Any, no_cutter: None) -> None:
    old = noise(MIB, 4)
    made = both(old, b"new" + old)
    with capturedLogs() as events:
        assert made.versions.look([0]) == []
        assert made.patch(0, 8192, bytes(BLOCK_HASH)) is None
    (line,) = [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn]
    assert "pip install pyfastcdc" in line


def test_hashes_that_lie_make_no_chunk(both: Any) -> None:
    """The receiver named blocks that it does not have, or the sender's hash is another one."""
    old = noise(MIB, 8)
    pair = both(noise(MIB, 9), old)
    average, _ = pair.sign()
    lies = b"".join(digest for _, digest in blocks(lambda at, count: old[at : at + count], len(old), average))
    patch = pair.patch(0, average, lies)
    assert patch is not None
    try:
        made = pair.versions.make(patch)
    except ChunkRefused:
        return  # it has fewer blocks than it said
    assert blake3(made).digest() != patch.hash


def test_a_patch_that_copies_what_is_not_there(both: Any) -> None:
    pair = both(noise(MIB, 10), noise(MIB, 11))
    _, hashes = pair.sign()
    count = len(hashes) // BLOCK_HASH
    for op in ((count, 0, 65536), (0, MIB, 65536), (LITERAL - 1, 0, 65536)):
        with pytest.raises(ChunkRefused):
            pair.versions.make(Patch(1, 0, 0, bytes(32), (op,), memoryview(b""), op[2]))


def test_a_patch_before_anything_was_told(both: Any) -> None:
    pair = both(noise(MIB, 12), noise(MIB, 13))
    for op in ((0, 0, 65536), (LITERAL, 0, 5)):
        with pytest.raises((ChunkRefused, VersionLost)):
            pair.versions.make(Patch(1, 0, 0, bytes(32), (op,), memoryview(b"12345"), op[2]))


def test_what_is_no_old_version(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(noise(MIB, 14))
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "way").symlink_to(".")
    (tmp_path / "secret").write_bytes(noise(MIB, 15))
    names = ["empty", "folder", "link", "none", "pipe", "small", "way/real"]
    entries = [Entry(name, FILE, 1000 if name == "small" else MIB) for name in names if "/" not in name]
    manifest = Manifest(entries)
    versions = OldVersions(manifest, [os.open(tmp_path, OPEN_DIRECTORY)])
    assert versions.look(range(len(entries))) == []
    versions.close()


def test_what_is_remembered_of_blocks_is_bounded(both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oldversions, "ALL_BLOCKS", 10)
    old = noise(MIB, 16)
    pair = both(old, old)
    average, hashes = pair.sign()
    assert len(hashes) == 10 * BLOCK_HASH
    patch = pair.patch(0, average, hashes)
    assert patch is not None
    assert pair.versions.make(patch) == old[:65536]


def test_what_was_cut_for_another_receiver_is_not_used(both: Any) -> None:
    """The next one has an older version with other blocks of the same content, or cut otherwise."""
    old = noise(MIB, 22)
    pair = both(old, old)
    average, hashes = pair.sign()
    backwards = b"".join(hashes[at : at + BLOCK_HASH] for at in reversed(range(0, len(hashes), BLOCK_HASH)))
    first, second = pair.patch(0, average, hashes), pair.patch(0, average, backwards)
    assert first is not None and second is not None
    assert first.ops[0][0] == 0
    assert second.ops[0][0] == len(hashes) // BLOCK_HASH - 1
    larger = pair.patch(0, average * 2, hashes)
    assert larger is None or larger.ops != first.ops


def test_a_source_that_changes_while_it_is_cut(both: Any) -> None:
    old = noise(MIB, 17)
    pair = both(old, old)
    average, hashes = pair.sign()
    payload, _ = pair.source.read_chunk(0, 0)
    os.utime(pair.new, ns=(1, 1))
    with pytest.raises(SourceChanged):
        pair.cuts.patch((0, 0), payload, average, hashes)


def test_nothing_is_read_when_all_is_closed(both: Any) -> None:
    pair = both(noise(MIB, 18), noise(MIB, 19))
    assert pair.versions.look([0]) == [0]
    pair.versions.close()
    assert pair.versions.sign(0)[1] == b""
    assert pair.versions.look([0]) == []


def test_a_cut_ends_soon_when_it_is_stopped(both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing has to wait for it; other transfers go on meanwhile."""
    pair = both(noise(3 * READ, 26), noise(MIB, 27))
    assert pair.versions.look([0]) == [0]
    reads: list[int] = []

    def stopped_meanwhile(fd: int, at: int, count: int) -> bytes:
        reads.append(at)
        pair.versions.stop()
        return os.pread(fd, count, at)

    monkeypatch.setattr(oldversions, "read_span", stopped_meanwhile)
    assert pair.versions.sign(0)[1] == b""
    assert len(reads) == 1
    assert pair.versions.look([0]) == []


# -- what a sender may ask -----------------------------------------------------------------------------------------


def rebuilding_of(pair: Both) -> tuple[Rebuilding, Any, list[Any]]:
    """With one path, and what goes out on it."""

    async def elsewhere(work: Callable[..., Any], *words: Any) -> Any:
        return work(*words)

    sent: list[Any] = []
    path: Any = SimpleNamespace(facts=SimpleNamespace(number=1), send=sent.append)
    paths: Any = SimpleNamespace(get=lambda number: path)
    worker: Any = SimpleNamespace(do=elsewhere)
    return Rebuilding(worker, paths, pair.source.manifest, pair.versions), path, sent


@pytest_twisted.ensureDeferred
async def test_a_file_is_told_once_on_a_path_and_only_if_it_was_named(both: Any) -> None:
    pair = both(noise(MIB, 20), noise(MIB, 21))
    rebuilding, path, sent = rebuilding_of(pair)
    with pytest.raises(ProtocolBreach):
        rebuilding.check(1, WantBasis(handle=1, file=0))
    await rebuilding.announce(path, Listed(handle=1, page=0))
    assert sent.pop() == Older(handle=1, page=0, files=[0])
    for wrong in (1, 2**32 - 1):
        with pytest.raises(ProtocolBreach):
            rebuilding.check(1, WantBasis(handle=1, file=wrong))
    rebuilding.check(1, WantBasis(handle=1, file=0))
    await rebuilding.tell(path, WantBasis(handle=1, file=0))
    assert sent[-1].last
    assert b"".join(part.hashes for part in sent) == pair.versions.sign(0)[1]
    with pytest.raises(ProtocolBreach):
        rebuilding.check(1, WantBasis(handle=1, file=0))
    rebuilding.check(2, WantBasis(handle=1, file=0))


@pytest.mark.parametrize("there", [True, False])
@pytest_twisted.ensureDeferred
async def test_what_was_named_before_the_list_changed_is_still_told(both: Any, there: bool) -> None:
    """The sender may ask for it, and send patches; places with older versions may be gone by then."""
    old = noise(MIB, 23)
    pair = both(old, old)
    rebuilding, path, sent = rebuilding_of(pair)
    await rebuilding.announce(path, Listed(handle=1, page=0))
    average, hashes = pair.sign()
    patch = pair.patch(0, average, hashes)
    assert patch is not None
    pair.versions.close()
    roots = [os.open(pair.there, OPEN_DIRECTORY)] if there else []
    pair.versions = OldVersions(pair.source.manifest, roots)
    rebuilding.renew(pair.versions)
    with pytest.raises(VersionLost):
        pair.versions.make(patch)
    rebuilding.check(1, WantBasis(handle=1, file=0))
    await rebuilding.tell(path, WantBasis(handle=1, file=0))
    assert b"".join(part.hashes for part in sent[1:]) == (hashes if there else b"")
    with pytest.raises(ProtocolBreach):
        rebuilding.check(1, WantBasis(handle=1, file=0))
    await rebuilding.announce(path, Listed(handle=1, page=0))
    assert sent[-1] == sent[0]


@pytest_twisted.ensureDeferred
async def test_of_what_the_list_has_lost_nothing_is_told(both: Any) -> None:
    pair = both(noise(MIB, 24), noise(MIB, 25))
    rebuilding, path, sent = rebuilding_of(pair)
    look, manifest = pair.versions.look, pair.source.manifest

    def changes_meanwhile(files: Any) -> list[int]:
        found: list[int] = look(files)
        manifest.cut(0)
        rebuilding.renew(pair.versions)
        return found

    pair.versions.look = changes_meanwhile
    await rebuilding.announce(path, Listed(handle=1, page=0))
    assert sent == []
    with pytest.raises(ProtocolBreach):
        rebuilding.check(1, WantBasis(handle=1, file=0))
