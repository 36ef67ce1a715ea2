"""Chunks that are written over claimed ones: at no step does the journal claim what is not on the disk."""

from __future__ import annotations

import random
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.geometry import MIN_CHUNK, chunk_span
from p2pxfer.core.transfer.journal import Claim, read_journal
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.errors import ChunkRefused, DiskError
from p2pxfer.net.staging.staging import Staging
from tests.net.disk_tools import NOW, SENDER, Content

CHUNKS = 4
SIZE = (CHUNKS - 1) * MIN_CHUNK + 77
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.integers(0, CHUNKS - 1), st.integers(0, 2)),
        st.tuples(st.just("hole"), st.integers(0, CHUNKS), st.integers(0, CHUNKS)),
        st.tuples(st.just("sync"), st.integers(1, 3), st.just(0)),
    ),
    max_size=14,
)
"""What came: data of a chunk with a seed, a hole, or that the first so many of what came are made durable."""


def data_of(index: int, seed: int) -> bytes:
    length = chunk_span(SIZE, index)[1]
    return random.Random(seed).randbytes(length) if seed else bytes(length)


def claims_as_read_at_first(journal: bytes) -> dict[tuple[int, int], bytes]:
    """The rule of the programs that were there before claims were withdrawn: five kinds of records, and of two claims
    for one chunk the later one holds.
    """
    found: dict[tuple[int, int], bytes] = {}
    at = 82
    while at + 9 <= len(journal):
        kind, length, crc = struct.unpack_from(">BII", journal, at)
        body = journal[at + 9 : at + 9 + length]
        if len(body) < length or zlib.crc32(journal[at : at + 5] + body) != crc or not 1 <= kind <= 5:
            break
        if kind == 1:
            found.update(((file, index), digest) for file, index, digest in struct.iter_unpack(">II32s", body))
        at += 9 + length
    return found


def claimed(place: Path) -> int:
    """See that every claim of the journal is true just now, as the first programs read it, too; how many there are."""
    journal = (place / "journal").read_bytes()
    state = read_journal(journal)
    assert state is not None
    last = {(file, index): digest for file, index, digest in state.chunks()}
    assert claims_as_read_at_first(journal) == {address: digest or bytes(32) for address, digest in last.items()}
    standing = [(index, digest) for (_, index), digest in last.items() if digest is not None]
    data = (place / "tree" / "f").read_bytes() if standing else b""
    for index, digest in standing:
        offset, length = chunk_span(SIZE, index)
        assert blake3(data[offset : offset + length]).digest() == digest, f"chunk {index} is claimed and not there"
    return len(standing)


def opened(folder: str | Path, failpoint: Callable[[str], None] = lambda _: None) -> Staging:
    return Staging.open(str(folder), SENDER, Manifest([Entry("f", FILE, SIZE)]), failpoint=failpoint)


def put(staging: Staging, index: int, seed: int) -> Claim:
    data = data_of(index, seed)
    staging.write_chunk(0, index, memoryview(data), blake3(data).digest())
    return 0, index, index + 1, blake3(data).digest()


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_at_every_step_what_is_claimed_is_there(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        places: list[Path] = []

        def look(_: str) -> None:
            for place in places:
                claimed(place)

        staging = opened(folder, look)
        places.append(Path(staging.where))
        waiting = staging.write_hole(0, 0, CHUNKS)
        for what, first, other in [*steps, ("sync", 1000, 0)]:
            match what:
                case "data":
                    waiting.append(put(staging, first, other))
                case "hole":
                    waiting += staging.write_hole(0, min(first, other), max(first, other))
                case _:
                    staging.sync(waiting[:first])
                    del waiting[:first]
        assert claimed(places[0]) == CHUNKS == len(staging.have)
        staging.close()
        opened(folder).close()
        assert claimed(places[0]) == CHUNKS


def test_usual_chunks_cost_no_sync_of_the_journal(tmp_path: Path) -> None:
    points: list[str] = []
    staging = opened(tmp_path, points.append)
    claims = [put(staging, index, 1) for index in range(CHUNKS)]
    staging.sync(claims)
    assert points.count("rx.after_journal_sync") == 1
    put(staging, 0, 2)
    assert points.count("rx.after_journal_sync") == 2
    staging.close()


def test_what_is_being_journalled_is_not_written_over(tmp_path: Path) -> None:
    """Another thread brings other bytes for a chunk whose sync is under way."""
    points: list[str] = []
    others: list[threading.Thread] = []

    def failpoint(name: str) -> None:
        points.append(name)
        if name == "rx.after_data_sync" and not others:
            others.append(threading.Thread(target=put, args=(staging, 1, 2)))
            others[0].start()
            others[0].join(0.3)  # as far as it gets
        claimed(Path(staging.where))

    staging = opened(tmp_path, failpoint)
    staging.sync([put(staging, 1, 1)])
    others[0].join(10)
    journal = ["rx.after_journal_write", "rx.after_journal_sync"]
    assert points == ["rx.after_data_write", "rx.after_data_sync", *journal, *journal, "rx.after_data_write"]
    assert claimed(Path(staging.where)) == 0
    staging.close()


def test_a_claim_that_cannot_be_withdrawn_stays_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    staging = opened(tmp_path)
    staging.sync([put(staging, 1, 1)])
    with monkeypatch.context() as patched:
        patched.setattr(staging._journal, "append", full)
        with pytest.raises(DiskError):
            put(staging, 1, 2)
    assert claimed(Path(staging.where)) == 1
    with pytest.raises(DiskError):
        put(staging, 0, 1)
    staging.close()


def test_of_a_bundle_that_is_refused_nothing_is_written(tmp_path: Path) -> None:
    """So that each writing has its claim, and what comes in its place is published."""
    content = Content({"a": b"one", "b": b"two", "c": b"three"})
    hashes = b"".join(content.digest((file, 0)) for file in range(3))
    staging = Staging.open(str(tmp_path), SENDER, content.manifest)
    with pytest.raises(ChunkRefused):
        staging.write_bundle(Bundle(1, 0, hashes, memoryview(b"onetwoTHREE")))
    assert not list(Path(staging.where, "tree").iterdir())
    staging.write_bundle(Bundle(1, 0, hashes, memoryview(b"onetwothree")))
    staging.sync([content.claim((file, 0)) for file in range(3)])
    assert staging.finish(content.root, NOW) == ["a", "b", "c"]
    staging.close()


def test_a_sync_looks_each_chunk_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many small files that is a good part of what a sync computes."""
    looks: list[tuple[int, int, int]] = []
    numbers = ChunkTable.numbers

    def noted(self: ChunkTable, *claim: int) -> range:
        file, first, stop = claim
        looks.append((file, first, stop))
        return numbers(self, file, first, stop)

    content = b"x" * 10
    digest = blake3(content).digest()
    manifest = Manifest([Entry(f"f{number}", FILE, len(content)) for number in range(5)])
    staging = Staging.open(str(tmp_path), SENDER, manifest)
    try:
        staging.write_bundle(Bundle(1, 0, 5 * digest, memoryview(5 * content)))
        monkeypatch.setattr(ChunkTable, "numbers", noted)
        staging.sync([(file, 0, 1, digest) for file in range(5)], [0])
    finally:
        staging.close()
    assert looks == [(file, 0, 1) for file in range(5)]
