"""What a chunk consists of, by the blocks of an older version, and what a peer may not say of them."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.framing import HEADER_SIZE, Frame
from p2pxfer.core.session.deltawire import (
    BLOCK_HASH,
    LITERAL,
    MAX_OPS,
    PATCH_HEADER_SIZE,
    PATCH_KIND,
    Basis,
    Lack,
    Older,
    decode_patch,
    patch_prefix,
    patch_size,
)
from p2pxfer.core.session.transferwire import MAX_CHUNK
from p2pxfer.core.session.wire import SESSION_CAPS
from p2pxfer.core.transfer import delta
from p2pxfer.core.transfer.delta import (
    ASKED_AHEAD,
    MAX_AVERAGE,
    MAX_BLOCKS,
    MIN_AVERAGE,
    MIN_SIZE,
    USUAL_BLOCKS,
    Differences,
    Layout,
    average_block,
    operations,
    places,
)
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.errors import ChunkRefused, FrameError, ProtocolBreach


def layout_of(lengths: list[int], marks: list[int] | None = None) -> Layout:
    made = Layout()
    for number, length in enumerate(lengths):
        made.add(length, marks[number] if marks is not None else 0)
    return made


# -- operations ----------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=0, max_value=2**32))
def test_what_is_copied_is_what_the_new_version_holds(seed: int) -> None:
    """Old blocks in any order, lost, doubled and with new ones between; chunks cut anywhere."""
    rng = random.Random(seed)
    old = [rng.randbytes(rng.randrange(1, 40)) for _ in range(rng.randrange(1, 20))]
    blocks: list[tuple[int, bytes]] = []
    while len(blocks) < 25:
        at = rng.randrange(len(old))
        blocks += [(number, old[number]) for number in range(at, min(len(old), at + rng.randrange(4)))]
        blocks.append((-1, rng.randbytes(rng.randrange(1, 30))))
    new = b"".join(data for _, data in blocks)
    layout = layout_of([len(data) for _, data in blocks], [number for number, _ in blocks])
    older = layout_of([len(block) for block in old])
    flat = b"".join(old)
    for _ in range(20):
        at = rng.randrange(len(new))
        length = rng.randrange(1, len(new) - at + 1)
        ops = operations(layout, at, length)
        made = b""
        for place, size in places(tuple(ops), older):
            made += new[at + len(made) :][:size] if place < 0 else flat[place : place + size]
        assert made == new[at : at + length]
        assert sum(op[2] for op in ops) == length


def test_blocks_that_follow_each_other_are_one_operation() -> None:
    layout = layout_of([10, 20, 30, 5, 5, 10], [4, 5, 6, -1, -1, 5])
    assert operations(layout, 0, 80) == [(4, 0, 60), (LITERAL, 0, 10), (5, 0, 10)]
    assert operations(layout, 5, 20) == [(4, 5, 20)]
    assert operations(layout, 62, 3) == [(LITERAL, 0, 3)]
    assert operations(layout, 75, 5) == [(5, 5, 5)]


@pytest.mark.parametrize(
    "op", [(3, 0, 1), (LITERAL - 1, 0, 1), (0, 0, 61), (2, 30, 1), (1, 2**32 - 1, 1), (0, 0, 2**32 - 1)]
)
def test_nothing_is_copied_that_is_not_there(op: tuple[int, int, int]) -> None:
    older = layout_of([10, 20, 30])
    assert places(((0, 0, 60), (1, 5, 45), (LITERAL, 0, 99)), older) == [(0, 60), (15, 45), (-1, 99)]
    with pytest.raises(ChunkRefused):
        places((op,), older)
    with pytest.raises(ChunkRefused):
        places(((0, 0, 1),), Layout())


def test_the_size_of_blocks_follows_from_the_size_of_the_file() -> None:
    assert average_block(0) == average_block(1) == average_block(USUAL_BLOCKS * MIN_AVERAGE) == MIN_AVERAGE
    assert average_block(USUAL_BLOCKS * MIN_AVERAGE + 1) == 2 * MIN_AVERAGE
    assert average_block(2**40) == average_block(2**62) == MAX_AVERAGE


# -- patches -------------------------------------------------------------------------------------------------------


def test_a_patch_travels() -> None:
    ops = [(7, 3, 100), (LITERAL, 0, 4), (8, 0, 1)]
    prefix = patch_prefix(1, 2, 3, b"h" * 32, ops)
    body = prefix[HEADER_SIZE:] + b"data"
    assert len(body) == patch_size(ops)
    patch = decode_patch(Frame(PATCH_KIND, bytearray(body)))
    assert (patch.handle, patch.file, patch.index, patch.hash) == (1, 2, 3, b"h" * 32)
    assert (patch.ops, bytes(patch.literals), patch.length) == (tuple(ops), b"data", 105)
    assert patch.wire_size == len(body)
    assert SESSION_CAPS[PATCH_KIND] == MAX_CHUNK


def test_a_patch_has_no_more_operations_than_a_chunk_of_the_smallest_blocks_needs() -> None:
    smallest = layout_of([MIN_AVERAGE // 4] * (MAX_CHUNK // (MIN_AVERAGE // 4) + 1), None)
    ops = operations(smallest, 1, MAX_CHUNK)
    assert len(ops) > 2000 and 3 * len(ops) <= MAX_OPS
    prefix = patch_prefix(1, 2, 3, b"h" * 32, [(0, 0, 1)] * MAX_OPS)
    assert decode_patch(Frame(PATCH_KIND, bytearray(prefix[HEADER_SIZE:]))).length == MAX_OPS


HEAD = struct.pack(">III32s", 1, 2, 3, bytes(32))


@pytest.mark.parametrize(
    "body",
    [
        b"", HEAD, HEAD + bytes(3), HEAD + struct.pack(">I", 0), HEAD + struct.pack(">I", 1),
        HEAD + struct.pack(">I", 2**32 - 1) + bytes(1000),
        HEAD + struct.pack(">IIII", 1, 0, 0, 0),
        HEAD + struct.pack(">IIII", 1, 0, 0, 5) + b"x",
        HEAD + struct.pack(">IIII", 1, LITERAL, 0, 5) + b"four",
        HEAD + struct.pack(">IIII", 1, LITERAL, 0, 2**32 - 1) + b"four",
        HEAD + struct.pack(">I", MAX_OPS + 1) + struct.pack(">III", 0, 0, 1) * (MAX_OPS + 1),
    ],
    ids=range(11),
)  # fmt: skip
def test_patches_whose_parts_do_not_fit(body: bytes) -> None:
    assert len(HEAD) + 4 == PATCH_HEADER_SIZE
    with pytest.raises(FrameError):
        decode_patch(Frame(PATCH_KIND, bytearray(body)))


# -- what the receiver says ----------------------------------------------------------------------------------------


def hashes(count: int) -> bytes:
    return bytes(count * BLOCK_HASH)


def listing(count: int) -> Manifest:
    """So many large files; names so long that fifty fill a page."""
    return Manifest([Entry(f"{number:04d}" + "n" * 200, FILE, MIN_SIZE) for number in range(count)])


def differences_of(count: int) -> Differences:
    """All of so many files have older versions."""
    made = Differences(listing(count), tells=True)
    made.older(Older(handle=1, page=0, files=list(range(count))))
    return made


def test_files_wait_until_their_page_was_told_of() -> None:
    manifest = listing(400)
    assert manifest.pages > 2
    before = [manifest.files_before(page) for page in range(manifest.pages + 1)]
    differences = Differences(manifest, tells=True)
    assert differences.waits_for(0)
    differences.older(Older(handle=1, page=1, files=[before[1]]))
    assert differences.waits_for(before[1] + 1)
    differences.older(Older(handle=1, page=0))
    assert not differences.waits_for(0)
    assert differences.waits_for(before[1])
    assert not differences.waits_for(before[1] + 1)
    assert differences.waits_for(before[2])
    assert differences.ask(1) == [before[1]]
    # The same from another path changes nothing.
    differences.older(Older(handle=1, page=1, files=[before[1] + 1]))
    assert not differences.waits_for(before[1] + 1)
    assert not Differences(manifest, tells=False).waits_for(0)


@pytest.mark.parametrize("files", [[1, 0], [0, 0], [399], [400], [2**32 - 1]])
def test_older_versions_of_other_files(files: list[int]) -> None:
    with pytest.raises(ProtocolBreach):
        Differences(listing(400), tells=True).older(Older(handle=1, page=0, files=files))


def test_older_versions_that_nobody_was_to_tell_of() -> None:
    with pytest.raises(ProtocolBreach):
        Differences(listing(2), tells=False).older(Older(handle=1, page=0))
    with pytest.raises(ProtocolBreach):
        Differences(listing(2), tells=True).older(Older(handle=1, page=1))


def test_hashes_are_asked_for_a_few_files_ahead_and_again_when_a_path_is_lost() -> None:
    differences = differences_of(10)
    assert differences.ask(1) == list(range(ASKED_AHEAD))
    assert differences.ask(2) == []
    differences.told(1, Basis(handle=1, file=0, average=8192, hashes=hashes(3), last=False))
    assert differences.waits_for(0)
    differences.lost(1)
    assert differences.ask(2) == list(range(ASKED_AHEAD))
    differences.told(2, Basis(handle=1, file=0, average=8192, hashes=hashes(2)))
    assert not differences.waits_for(0)
    assert differences.of((0, 5)) == (8192, hashes(2))
    differences.told(2, Basis(handle=1, file=1, average=8192))
    assert differences.of((1, 0)) is None
    assert differences.ask(2) == [4, 5]


@pytest.mark.parametrize(
    "basis",
    [
        Basis(handle=1, file=9, average=8192),
        Basis(handle=1, file=0, average=0),
        Basis(handle=1, file=0, average=4096),
        Basis(handle=1, file=0, average=MAX_AVERAGE * 2),
        Basis(handle=1, file=0, average=10000),
        Basis(handle=1, file=0, average=8192, hashes=bytes(BLOCK_HASH + 1)),
        Basis(handle=1, file=0, average=8192, last=False),
    ],
)
def test_hashes_that_cannot_be(basis: Basis) -> None:
    differences = differences_of(2)
    differences.ask(1)
    with pytest.raises(ProtocolBreach):
        differences.told(1, basis)


def test_hashes_on_another_path_twice_or_of_other_blocks_than_before() -> None:
    differences = differences_of(2)
    differences.ask(1)
    with pytest.raises(ProtocolBreach):
        differences.told(2, Basis(handle=1, file=0, average=8192))
    differences.told(1, Basis(handle=1, file=0, average=8192, hashes=hashes(1)))
    with pytest.raises(ProtocolBreach):
        differences.told(1, Basis(handle=1, file=0, average=8192, hashes=hashes(1)))
    differences.told(1, Basis(handle=1, file=1, average=8192, hashes=hashes(1), last=False))
    with pytest.raises(ProtocolBreach):
        differences.told(1, Basis(handle=1, file=1, average=16384, hashes=hashes(1)))


def test_hashes_without_end() -> None:
    differences = differences_of(1)
    differences.ask(1)
    with pytest.raises(ProtocolBreach, match="too many"):
        for _ in range(MAX_BLOCKS // 4096 + 1):
            differences.told(1, Basis(handle=1, file=0, average=8192, hashes=hashes(4096), last=False))


@pytest.mark.parametrize("size", [2**30, 2**40])
def test_blocks_that_are_smaller_than_the_file_allows(size: int) -> None:
    """They would cost the sender memory without end."""
    right = average_block(size)
    for average in (right // 2, right):
        differences = Differences(Manifest([Entry("a", FILE, size)]), tells=True)
        differences.older(Older(handle=1, page=0, files=[0]))
        differences.ask(1)
        basis = Basis(handle=1, file=0, average=average, hashes=hashes(1))
        if average < right:
            with pytest.raises(ProtocolBreach):
                differences.told(1, basis)
        else:
            differences.told(1, basis)
            assert differences.of((0, 0)) == (right, hashes(1))


def test_hashes_of_all_files_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "ALL_BLOCKS", 10)
    done: set[int] = set()
    differences = Differences(listing(9), tells=True, done=done.__contains__)
    differences.older(Older(handle=1, page=0, files=list(range(9))))

    def tell(file: int, *parts: int) -> bool:
        assert file in differences.ask(1) or differences.waits_for(file)
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            differences.told(1, Basis(handle=1, file=file, average=8192, hashes=hashes(part), last=last))
        assert not differences.waits_for(file)
        return differences.of((file, 0)) == (8192, hashes(sum(parts)))

    assert tell(0, 4, 2)
    assert not tell(1, 2, 3, 1)
    assert tell(2, 4)
    assert not tell(3, 1)
    # What the receiver has altogether makes room.
    done.add(0)
    assert tell(4, 6)
    assert differences.of((0, 0)) is None
    assert not tell(5, 1)


def test_a_chunk_is_sent_whole_once_it_was_lacked() -> None:
    differences = differences_of(1)
    differences.ask(1)
    differences.told(1, Basis(handle=1, file=0, average=8192, hashes=hashes(1)))
    differences.patched((0, 3))
    differences.patched((0, 4))
    assert list(differences.lacked(Lack(handle=1, chunks=[(0, 3, 4)]))) == [(0, 3)]
    assert differences.of((0, 3)) is None
    assert differences.of((0, 4)) is not None
    differences.patched((0, 4))
    assert list(differences.lacked(Lack(handle=1, chunks=[(0, 4, 5)]))) == [(0, 4)]
    assert list(differences.lacked(Lack(handle=1, chunks=[(0, 4, 5)]))) == []
    for wrong in ([(0, 3, 4)], [(0, 5, 6)], [(7, 0, 1)], [(0, 4, 2**32 - 1)]):
        with pytest.raises(ProtocolBreach):
            list(differences.lacked(Lack(handle=1, chunks=wrong)))
