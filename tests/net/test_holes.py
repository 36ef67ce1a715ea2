"""Sparse files: holes are found without reading, stay holes at the receiver, and survive a restart."""

from __future__ import annotations

import errno
import os
import tracemalloc
from pathlib import Path

import pytest

from p2pxfer.core.session.transferwire import MAX_CHUNK
from p2pxfer.core.transfer.geometry import MIN_CHUNK, chunk_count, chunk_span, zero_hash
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import NoSpace
from p2pxfer.net import holes as module
from p2pxfer.net.disk import write_all
from p2pxfer.net.holes import find_holes, keeps_holes, leave_hole, may_be_sparse, write_around_holes
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.transfer.source import Source
from tests.net.disk_tools import NOW, SENDER, noise

CHUNKS = 20
SIZE = (CHUNKS - 1) * MIN_CHUNK + 77
DATA = {0: noise(10), 5 * MIN_CHUNK + 100: noise(MIN_CHUNK, 2), 9 * MIN_CHUNK: noise(4096, 3)}
HOLES = [(1, 5), (7, 9), (10, 20)]


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    path = tmp_path / "sparse.img"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for offset, data in DATA.items():
            file.seek(offset)
            file.write(data)
    if path.stat().st_blocks * 512 > SIZE // 2:
        pytest.skip("this file system knows no holes")
    return path


def test_holes_are_found_without_reading(sparse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise AssertionError("something was read")

    monkeypatch.setattr(os, "pread", fail)
    (sparse.parent / "dense").write_bytes(noise(3 * MIN_CHUNK))
    source = Source.scan([str(sparse), str(sparse.parent / "dense")])
    assert source.holes() == {1: HOLES}
    source.close()


def test_a_file_system_without_holes(sparse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "lseek", unknown)
    fd = os.open(sparse, os.O_RDWR)
    try:
        assert find_holes(fd, SIZE) == []
        leave_hole(fd, MIN_CHUNK, SIZE)
    finally:
        os.close(fd)
    assert sparse.read_bytes() == DATA[0] + bytes(SIZE - len(DATA[0]))


def test_where_data_lay_zeros_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier chunk left, or anybody else, is not taken for a hole."""
    monkeypatch.setattr(module, "_ZEROS", bytes(8192))
    data = noise(100_000)
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(fd, data, 0)
        leave_hole(fd, 10_000, 150_000)
        assert os.pread(fd, 200_000, 0) == data[:10_000] + bytes(140_000)
    finally:
        os.close(fd)


@pytest.fixture
def no_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system as exFAT, where data lies everywhere."""

    def all_data(fd: int, at: int, whence: int) -> int:
        size = os.fstat(fd).st_size
        if at >= size:
            raise OSError(errno.ENXIO, "No such device or address")
        return at if whence == os.SEEK_DATA else size

    monkeypatch.setattr(os, "lseek", all_data)


@pytest.mark.usefixtures("no_holes")
def test_what_is_new_in_a_file_is_zero_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, int]] = []

    def noted(fd: int, data: memoryview, offset: int) -> None:
        written.append((offset, len(data)))
        write_all(fd, data, offset)

    monkeypatch.setattr(module, "write_all", noted)
    data = noise(100_000)
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(fd, data, 0)
        leave_hole(fd, 60_000, 300_000)
        leave_hole(fd, 400_000, 500_000)
        assert written == [(60_000, 40_000)]
        assert os.pread(fd, 600_000, 0) == data[:60_000] + bytes(440_000)
    finally:
        os.close(fd)


@pytest.mark.parametrize("offset", [0, 1, 70_000])
def test_writing_around_holes(tmp_path: Path, offset: int) -> None:
    data = bytes(300) + noise(5000) + bytes(90_000) + noise(4096, 2) + bytes(20_000)
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    try:
        write_around_holes(fd, memoryview(data), offset)
        assert os.pread(fd, 300_000, 0) == bytes(offset) + data
        status = os.fstat(fd)
        assert may_be_sparse(status)
        assert status.st_blocks * 512 < 40_000
    finally:
        os.close(fd)


def receive(staging: Staging, source: Source, chunks: list[int]) -> None:
    """Chunks as they come from the source, made durable."""
    claims = []
    for index in chunks:
        data, digest = source.read_chunk(0, index)
        staging.write_chunk(0, index, memoryview(data), digest)
        claims.append((0, index, index + 1, digest))
    staging.sync(claims)


def test_a_sparse_file_arrives_sparse_and_goes_on_after_a_restart(tmp_path: Path, sparse: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    source = Source.scan([str(sparse)])
    first = Staging.open(str(dest), SENDER, source.manifest, announced=Announced(1, SIZE, SIZE // 2, counting=False))
    first.write_hole(0, 0, 0)
    receive(first, source, [0, 5])
    first.sync(first.write_hole(0, 1, 5))
    first.write_hole(0, 7, 9)  # not synced: not claimed
    first.close()
    again = Staging.open(str(dest), SENDER, source.manifest, announced=Announced(1, SIZE, SIZE // 2, counting=False))
    assert sorted(again.have) == [(0, index) for index in range(6)]
    assert again.have[0, 3] == zero_hash(chunk_span(SIZE, 3)[1])
    again.write_hole(0, 0, 0)
    for start, stop in HOLES[1:]:
        again.sync(again.write_hole(0, start, stop))
    receive(again, source, [6, 9])
    again.finish(again._table.root(), NOW)
    again.discard()
    source.close()
    arrived = dest / "sparse.img"
    assert arrived.read_bytes() == sparse.read_bytes()
    assert arrived.stat().st_blocks <= sparse.stat().st_blocks


def test_holes_are_remembered_as_few_runs(tmp_path: Path) -> None:
    """Until it is journalled, where each chunk stands for itself, and when the journal is read again."""
    size = 2**38 - 77
    manifest = Manifest([Entry("huge", FILE, size)])
    said = Announced(1, size, size, counting=False)
    staging = Staging.open(str(tmp_path), SENDER, manifest, announced=said)
    chunks = chunk_count(size)
    tracemalloc.start()
    try:
        claims = [
            claim for at in range(0, chunks, 65_536) for claim in staging.write_hole(0, at, min(at + 65_536, chunks))
        ]
        staging.sync(claims)
        staging.close()
        _, peak = tracemalloc.get_traced_memory()
        again = Staging.open(str(tmp_path), SENDER, manifest, announced=said)
        _, opening = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(again.have) == chunks
    assert again.have[0, 0] == zero_hash(MAX_CHUNK)
    assert again.have[0, chunks - 1] == zero_hash(MAX_CHUNK - 77)
    again.discard()
    print(f"{peak / 2**20:.1f} MiB until it is journalled, {opening / 2**20:.1f} MiB to read the journal")
    assert peak < 6 * 2**20
    assert opening < 9 * 2**20


def test_space_is_asked_for_data_only(tmp_path: Path) -> None:
    size = 2**45
    manifest = Manifest([Entry("huge", FILE, size)])
    with pytest.raises(NoSpace):
        Staging.open(str(tmp_path), SENDER, manifest)
    assert list(tmp_path.iterdir()) == []
    staging = Staging.open(
        str(tmp_path), SENDER, manifest, announced=Announced(1, size, size - 5_000_000, counting=False)
    )
    staging.discard()


@pytest.fixture
def allocating(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file takes its whole size from the beginning, as with exFAT."""
    monkeypatch.setattr(os, "ftruncate", lambda fd, size: os.posix_fallocate(fd, 0, size))


@pytest.mark.usefixtures("allocating")
def test_space_is_asked_for_holes_where_they_take_some(tmp_path: Path) -> None:
    size = 2**45
    with pytest.raises(NoSpace):
        said = Announced(1, size, size - 5_000_000, counting=False)
        Staging.open(str(tmp_path), SENDER, Manifest([Entry("huge", FILE, size)]), announced=said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("nameless", [True, False])
def test_whether_holes_are_kept_is_tried_without_a_trace(
    sparse: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, nameless: bool
) -> None:
    """``sparse`` is there: this file system keeps holes."""
    real_open = os.open

    def refusing(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE and not nameless:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real_open(path, flags, mode, dir_fd=dir_fd)

    directory = os.open(sparse.parent, os.O_RDONLY)
    monkeypatch.setattr(os, "open", refusing)
    try:
        assert keeps_holes(directory)
        request.getfixturevalue("allocating")
        assert not keeps_holes(directory)
    finally:
        os.close(directory)
    assert list(sparse.parent.iterdir()) == [sparse]
