"""Which files go into one bundle, and what a bundle may look like that comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.framing import Frame, FrameDecoder
from p2pxfer.core.session.bundlewire import (
    BUNDLE_CAP,
    BUNDLE_KIND,
    MAX_BUNDLE,
    MAX_BUNDLE_FILES,
    bundle_prefix,
    decode_bundle,
)
from p2pxfer.core.session.wire import SESSION_CAPS
from p2pxfer.core.transfer.bundling import portions
from p2pxfer.errors import FrameError

KIB = 1024


@given(st.lists(st.tuples(st.sampled_from([1, 100, 4 * KIB, 64 * KIB, 64 * KIB + 1]), st.booleans(), st.booleans())))
def test_every_chunk_goes_once_and_bundles_keep_their_limits(rows: list[tuple[int, bool, bool]]) -> None:
    """Of each file its size, whether the one before it is empty, and whether it has to go alone."""
    sizes: list[int] = []
    chunks: list[tuple[int, bool]] = []
    for size, gap, alone in rows:
        sizes += [0, size] if gap else [size]
        chunks.append((len(sizes) - 1, alone))
    cut = list(portions(chunks, sizes))
    assert [start for start, _ in cut] == [0, *(stop for _, stop in cut)][: len(cut)]
    assert (cut[-1][1] if cut else 0) == len(chunks)
    for start, stop in cut:
        files = [file for file, _ in chunks[start:stop]]
        if stop - start > 1:
            assert files == [*range(files[0], files[0] + len(files))]
            assert all(0 < sizes[file] <= 64 * KIB for file in files)
            assert sum(sizes[file] for file in files) <= MAX_BUNDLE
            assert len(files) <= MAX_BUNDLE_FILES
            assert not any(alone for _, alone in chunks[start:stop])


def test_what_may_go_together_does() -> None:
    assert list(portions([(file, False) for file in range(200)], [4 * KIB] * 200)) == [
        (at, min(at + 32, 200)) for at in range(0, 200, 32)
    ]
    assert list(portions([(file, False) for file in range(130)], [1] * 130)) == [(0, 64), (64, 128), (128, 130)]
    # The chunks of one file, and a hole in the row of files.
    assert list(portions([(0, False), (0, False), (1, False), (3, False)], [70 * KIB, 5, 0, 5])) == [
        (0, 1), (1, 2), (2, 3), (3, 4),
    ]  # fmt: skip


@given(st.binary(max_size=300), st.integers(min_value=0, max_value=70))
def test_a_body_that_is_taken_is_written_in_the_same_way(rest: bytes, count: int) -> None:
    body = bytes(8) + count.to_bytes(2, "big") + rest
    try:
        bundle = decode_bundle(Frame(BUNDLE_KIND, body))
    except FrameError:
        assert not 2 <= count <= MAX_BUNDLE_FILES or len(rest) < 33 * count
        return
    assert bundle.count == count == len(list(bundle.digests()))
    written = bundle_prefix(bundle.handle, bundle.file, bundle.hashes, len(bundle.payload)) + bytes(bundle.payload)
    (frame,) = FrameDecoder(SESSION_CAPS).feed(written)
    assert bytes(frame.body) == body


def test_the_largest_bundle_is_taken_and_no_larger_one() -> None:
    hashes = bytes(32 * MAX_BUNDLE_FILES)
    written = bundle_prefix(1, 0, hashes, MAX_BUNDLE) + bytes(MAX_BUNDLE)
    (frame,) = FrameDecoder(SESSION_CAPS).feed(written)
    assert len(frame.body) == BUNDLE_CAP
    assert len(decode_bundle(frame).payload) == MAX_BUNDLE
    with pytest.raises(FrameError):
        decode_bundle(Frame(BUNDLE_KIND, bytes(9) + b"\2" + bytes(64 + MAX_BUNDLE + 1)))
    with pytest.raises(FrameError):
        list(FrameDecoder(SESSION_CAPS).feed(bundle_prefix(1, 0, hashes, MAX_BUNDLE + 1)))
