"""The sender's record of the hashes of what it sent."""

from __future__ import annotations

import os
import stat
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from p2pxfer.core.transfer.geometry import chunk_count
from p2pxfer.errors import ChunkRefused
from p2pxfer.net.transfer.fileidentity import FileIdentity
from p2pxfer.net.transfer.hashcache import MAX_AGE, HashCache
from p2pxfer.net.transfer.source import Source
from tests.net.disk_tools import CHUNK, noise
from tests.net.transfer.sourcetrees import change_replaced, fill

pytestmark = pytest.mark.usefixtures("no_descriptor_is_lost")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cache_for(here: Path, source: Source, now: float | None = None) -> HashCache:
    return HashCache(str(here / "state"), source.manifest, source.identity, time.time() if now is None else now)


@pytest.fixture
def sent(here: Path) -> Iterator[Source]:
    fill(here, {"d/a": noise(40 * CHUNK), "d/b": noise(3 * CHUNK)})
    source = Source.scan(["d"])
    yield source
    source.close()


def addresses(source: Source) -> list[tuple[int, int]]:
    files = enumerate(source.manifest.files)
    return [(number, index) for number, entry in files for index in range(chunk_count(entry.size))]


def test_the_record_is_taken_up_where_it_is_opened_and_asking_for_it_costs_nothing(here: Path, sent: Source) -> None:
    """Opening is for a thread; with a million chunks it takes a second."""
    cache = cache_for(here, sent)
    hashes = {address: sent.read_chunk(*address)[1] for address in addresses(sent)}
    for address, digest in hashes.items():
        cache.add(*address, digest)
    cache.close()
    looked: list[int] = []

    def identify(file: int) -> FileIdentity:
        looked.append(file)
        return sent.identity(file)

    again = HashCache(str(here / "state"), sent.manifest, identify, time.time())
    assert set(looked) == {0, 1}
    looked.clear()
    assert dict(again.load()) == hashes
    assert looked == []
    again.close()


def test_hashes_come_back(here: Path, sent: Source) -> None:
    cache = cache_for(here, sent)
    assert dict(cache.load()) == {}
    hashes = {address: sent.read_chunk(*address)[1] for address in addresses(sent)}
    for address, digest in hashes.items():
        cache.add(*address, digest)
    with pytest.raises(ChunkRefused):
        cache.add(0, 40, bytes(32))
    assert dict(cache.load()) == hashes
    cache.close()
    record = here / "state/outgoing" / sent.manifest.transfer_id.hex()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert stat.S_IMODE(record.parent.stat().st_mode) == 0o700
    again = cache_for(here, sent)
    assert dict(again.load()) == hashes
    assert again.load()[(1, 2)] == hashes[(1, 2)]
    with pytest.raises(KeyError):
        again.load()[(2, 0)]
    again.forget()
    assert not record.exists()
    empty = cache_for(here, sent)
    assert len(empty.load()) == 0
    empty.close()


def test_what_is_recorded_of_files_that_are_not_listed_yet_waits_packed(here: Path) -> None:
    """Of a million files that are gone on with it was a hundred bytes for each until all were listed."""
    files = 4 * 1500
    fill(here, {f"d/{number:05}": b"x" for number in range(files)})
    whole, digest = Source.scan(["d"]), blake3(b"x").digest()
    cache = cache_for(here, whole)
    cache.add_files(0, [digest] * files)
    cache.close()
    whole.close()
    source = Source.open(["d"])
    tracemalloc.start()
    try:
        again = cache_for(here, source)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    listed = len(source.manifest.sizes)
    assert len(again.load()) == listed < files // 4
    assert held < 64 * files
    fresh = []
    while not source.manifest.complete:
        source.take(*source.find())
        fresh += again.grow()
    assert fresh == [((file, 0), digest) for file in range(listed, files)]
    assert dict(again.load()) == {(file, 0): digest for file in range(files)}
    again.close()
    source.close()


def test_a_killed_sender_loses_at_most_32_records(here: Path, sent: Source) -> None:
    cache = cache_for(here, sent)
    for index in range(39):
        cache.add(0, index, bytes([index]) * 32)
    copy = here / "state/outgoing" / sent.manifest.transfer_id.hex()
    data = copy.read_bytes()
    cache.close()
    copy.write_bytes(data)
    again = cache_for(here, sent)
    assert list(again.load()) == [(0, index) for index in range(32)]
    again.close()


def test_hashes_of_a_file_that_was_replaced_do_not_count(here: Path, sent: Source) -> None:
    cache = cache_for(here, sent)
    for address in addresses(sent):
        cache.add(*address, bytes(32))
    cache.close()
    change_replaced(here / "d/a")
    os.utime(here / "d", ns=(0, sent.manifest.entries[0].mtime_ns))
    now = Source.scan(["d"])
    assert now.manifest == sent.manifest
    again = cache_for(here, now)
    assert {file for file, _ in again.load()} == {1}
    again.close()
    now.close()


def test_torn_and_flipped_records_are_dropped(here: Path, sent: Source) -> None:
    cache = cache_for(here, sent)
    for index in range(3):
        cache.add(1, index, bytes([index]) * 32)
        with cache._lock:
            cache._flush()
    cache.close()
    record = here / "state/outgoing" / sent.manifest.transfer_id.hex()
    whole = record.read_bytes()
    each = (len(whole) - 8) // 3
    for at in range(len(whole)):
        for spoiled in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            record.write_bytes(spoiled)
            again = cache_for(here, sent)
            expected = 0 if at < 8 else (at - 8) // each
            assert list(again.load()) == [(1, index) for index in range(expected)]
            again.close()
    again = cache_for(here, sent)
    again.add(1, 0, bytes(32))
    again.close()
    assert (1, 0) in cache_of(here, sent)


def cache_of(here: Path, source: Source) -> dict[tuple[int, int], bytes]:
    cache = cache_for(here, source)
    try:
        return dict(cache.load())
    finally:
        cache.close()


def test_old_records_are_removed(here: Path, sent: Source) -> None:
    outgoing = here / "state/outgoing"
    outgoing.mkdir(parents=True)
    for name, age in (("old", MAX_AGE + 60), ("young", MAX_AGE - 60)):
        (outgoing / name).write_bytes(b"")
        os.utime(outgoing / name, (10**9 - age, 10**9 - age))
    cache_for(here, sent, now=10**9).close()
    assert sorted(os.listdir(outgoing)) == sorted([sent.manifest.transfer_id.hex(), "young"])


@pytest.mark.parametrize("spoil", ["directory", "link", "fifo", "huge", "held", "state is a file"])
def test_a_record_that_cannot_be_used_is_done_without(here: Path, sent: Source, spoil: str) -> None:
    outgoing = here / "state/outgoing"
    record = outgoing / sent.manifest.transfer_id.hex()
    holder = None
    if spoil == "state is a file":
        (here / "state").write_bytes(b"")
    else:
        outgoing.mkdir(parents=True)
    match spoil:
        case "directory":
            record.mkdir()
        case "link":
            record.symlink_to(here / "d/a")
        case "fifo":
            os.mkfifo(record)
        case "huge":
            record.touch()
            os.truncate(record, 2**32)
        case "held":
            holder = cache_for(here, sent)
    cache = cache_for(here, sent)
    cache.add(0, 0, bytes(32))
    assert dict(cache.load()) == {(0, 0): bytes(32)}
    cache.close()
    if holder is not None:
        holder.close()
    assert (here / "d/a").read_bytes() == noise(40 * CHUNK)
