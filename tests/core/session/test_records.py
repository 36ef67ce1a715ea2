"""Sealed records open in their order and in no other way, whatever is done to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.session import records
from p2pxfer.core.session.recordblocks import BLOCK, MOST_RECORDS, SMALL, Intake, Outlet
from p2pxfer.core.session.records import (
    HEADER_SIZE,
    MAX_LAST,
    MAX_RECORD,
    MAX_SEALED,
    OVERHEAD,
    SUITES,
    Opener,
    RecordBroken,
    Sealer,
)

SECRET, OTHER = bytes(range(32)), bytes(range(1, 33))
SUITE = SUITES["TLS_AES_128_GCM_SHA256"]
EVERY_SUITE = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)


def sealed(sealer: Sealer, plain: bytes) -> bytes:
    memory = memoryview(bytearray(len(plain) + OVERHEAD))
    assert sealer.seal(plain, memory) == len(memory)
    return bytes(memory)


def last(sealer: Sealer) -> bytes:
    memory = memoryview(bytearray(OVERHEAD))
    assert sealer.seal_last(memory) == OVERHEAD
    return bytes(memory)


def opened(opener: Opener, record: bytes) -> bytes:
    memory = memoryview(bytearray(opener.size(record[:HEADER_SIZE])))
    opener.open(memoryview(record), memory)
    return bytes(memory)


def ends(suite: records.Suite = SUITE) -> tuple[Sealer, Opener]:
    return Sealer(SECRET, suite), Opener(SECRET, suite)


@EVERY_SUITE
@pytest.mark.parametrize("size", [1, 2, 16, 49, 16_384, MAX_RECORD - 1, MAX_RECORD])
def test_what_is_sealed_opens(suite: records.Suite, size: int) -> None:
    sealer, opener = ends(suite)
    for text in (b"a" * size, b"b" * size):
        record = sealed(sealer, text)
        assert text[:4] * 4 not in record
        assert opened(opener, record) == text
    assert opened(opener, last(sealer)) == b"" and opener.finished


def test_a_record_has_something_in_it_and_a_largest_size() -> None:
    sealer, _ = ends()
    for wrong in (b"", bytes(MAX_RECORD + 1)):
        with pytest.raises(ValueError, match="at least one byte"):
            sealer.seal(wrong, memoryview(bytearray(2 * MAX_SEALED)))


def test_nothing_is_sealed_behind_the_last_record() -> None:
    sealer, _ = ends()
    last(sealer)
    with pytest.raises(ValueError, match="nothing may follow"):
        sealed(sealer, b"more")
    with pytest.raises(ValueError, match="nothing may follow"):
        last(sealer)


def test_the_last_record_may_hold_a_few_words_which_are_no_part_of_the_stream() -> None:
    sealer = Sealer(SECRET, SUITE)
    memory = memoryview(bytearray(MAX_LAST + OVERHEAD))
    stream = sealed(sealer, b"begun, and")
    stream += bytes(memory[: sealer.seal_last(memory, b"farewell")])
    for size in range(len(stream) + 1):
        intake = Intake(Opener(SECRET, SUITE), stream[:size])
        came = bytearray(20)
        while intake.next() is not None:
            assert intake.open(memoryview(came)) in (0, 10)
        assert bytes(came).rstrip(b"\0") in (b"", b"begun, and")
        assert intake.last_words == (b"farewell" if size == len(stream) else b"")
        assert intake.finished == (size == len(stream))


def test_the_last_record_has_a_largest_size() -> None:
    sealer, opener = ends()
    memory = memoryview(bytearray(MAX_LAST + 1 + OVERHEAD))
    with pytest.raises(ValueError, match="largest size"):
        sealer.seal_last(memory, bytes(MAX_LAST + 1))
    assert sealer.seal_last(memory, bytes(MAX_LAST)) == MAX_LAST + OVERHEAD
    assert opener.size(memory[:HEADER_SIZE]) == MAX_LAST
    with pytest.raises(RecordBroken):
        opener.size((1 << 24 | MAX_LAST + 1).to_bytes(4))


# -- what somebody on the way does ---------------------------------------------------------------------------------


def refused(opener: Opener, record: bytes) -> None:
    """The record is not opened, and neither is any other one afterwards."""
    with pytest.raises(RecordBroken):
        opened(opener, record)
    assert not opener.finished
    with pytest.raises(RecordBroken):
        opened(opener, sealed(Sealer(SECRET, SUITE), b"the very first"))


@given(st.data())
def test_a_changed_bit_anywhere_is_noticed(data: st.DataObject) -> None:
    sealer, opener = ends()
    record = bytearray(sealed(sealer, b"some text of the user's"))
    bit = data.draw(st.integers(0, 8 * len(record) - 1))
    record[bit // 8] ^= 1 << bit % 8
    try:
        size = opener.size(record[:HEADER_SIZE])
    except RecordBroken:
        return
    if size + OVERHEAD <= len(record):
        refused(opener, bytes(record[: size + OVERHEAD]))
    else:
        assert size > len(record) - OVERHEAD, "a longer record is waited for, and does not open"
        refused(opener, bytes(record).ljust(size + OVERHEAD, b"\0"))


@pytest.mark.parametrize("order", ["again", "swapped", "missing"])
def test_the_order_of_records_is_part_of_them(order: str) -> None:
    sealer, opener = ends()
    first, second, third = (sealed(sealer, text) for text in (b"one", b"two", b"three"))
    match order:
        case "again":
            assert opened(opener, first) == b"one"
            refused(opener, first)
        case "swapped":
            refused(opener, second)
        case "missing":
            assert opened(opener, first) == b"one"
            refused(opener, third)


def test_a_record_of_another_connection_or_direction_does_not_open() -> None:
    """Both have another secret, whatever else is equal."""
    refused(Opener(OTHER, SUITE), sealed(Sealer(SECRET, SUITE), b"one"))
    contexts = {records.exporter_context(text, role) for text in (b"x" * 32, b"y" * 32) for role in ROLES}
    assert len(contexts) == 4


ROLES: tuple[records.Direction, ...] = ("initiator", "responder")


def test_a_record_of_data_does_not_pass_for_the_last_one() -> None:
    """Nor the other way round: the header is authenticated."""
    for kind, make in ((1, sealed), (0, lambda sealer, text: last(sealer))):
        sealer, opener = ends()
        forged = bytearray(make(sealer, b"x"))
        forged[0] = kind
        with pytest.raises(RecordBroken):
            opened(opener, bytes(forged))


@pytest.mark.parametrize(
    "header", ["00000000", "00100001", "00ffffff", "01001006", "01020000", "02000001", "80000001", "ff000000"]
)
def test_headers_that_no_record_has_are_refused_before_anything_is_opened(header: str) -> None:
    _, opener = ends()
    with pytest.raises(RecordBroken, match="no record"):
        opener.size(bytes.fromhex(header))
    with pytest.raises(RecordBroken, match="no record"):
        opened(opener, sealed(Sealer(SECRET, SUITE), b"one"))


def test_nothing_may_follow_the_end() -> None:
    sealer, opener = ends()
    opened(opener, last(sealer))
    for more in (last(Sealer(SECRET, SUITE)), sealed(Sealer(SECRET, SUITE), b"more")):
        with pytest.raises(RecordBroken, match="follows the end"):
            opener.size(more[:HEADER_SIZE])


# -- keys ----------------------------------------------------------------------------------------------------------


class Noting:
    """A cipher that notes under which key and nonce it was used."""

    used: list[tuple[bytes, bytes]]

    def __init__(self, key: bytes) -> None:
        self.key = key

    def encrypt_into(self, nonce: bytes, data: records.Plain, associated_data: bytes, buf: memoryview) -> int:
        self.used.append((self.key, nonce))
        return len(buf)

    def decrypt_into(self, nonce: bytes, data: memoryview, associated_data: bytes, buf: memoryview) -> int:
        raise NotImplementedError


def test_no_nonce_is_used_twice_and_keys_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "KEY_RECORDS", 5)
    monkeypatch.setattr(Noting, "used", [], raising=False)
    sealer = Sealer(SECRET, records.Suite(Noting, 16))
    for number in range(23):
        sealed(sealer, bytes(1 + number))
    last(sealer)
    used = Noting.used
    assert len(set(used)) == len(used) == 24
    keys = [key for key, _ in used]
    assert [keys.count(key) for key in dict.fromkeys(keys)] == [5, 5, 5, 5, 4]
    assert all(len(key) == 16 and len(nonce) == 12 for key, nonce in used)
    ivs = [int.from_bytes(nonce, "big") ^ number % 5 for number, (_, nonce) in enumerate(used)]
    assert len(set(ivs)) == 5, "one for each key"
    assert all((one == other) is (number % 5 != 4) for number, (one, other) in enumerate(pairwise(ivs)))


@EVERY_SUITE
def test_both_ends_change_their_keys_at_the_same_record(suite: records.Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "KEY_RECORDS", 3)
    sealer, opener = ends(suite)
    for number in range(20):
        assert opened(opener, sealed(sealer, b"%d" % number)) == b"%d" % number


def test_an_end_that_keeps_its_key_is_not_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    sealer, opener = ends()
    early = [sealed(sealer, b"x") for _ in range(3)]
    monkeypatch.setattr(records, "KEY_RECORDS", 2)
    assert [opened(opener, record) for record in early[:2]] == [b"x", b"x"]
    refused(opener, early[2])


def test_the_number_of_records_under_one_key_is_far_below_what_aes_gcm_allows() -> None:
    """RFC 8446 section 5.5: 2^24.5 records of 2^14 octets."""
    assert records.KEY_RECORDS * MAX_RECORD * 32 < 2**24.5 * 2**14


# -- blocks --------------------------------------------------------------------------------------------------------


def carry(outlet: Outlet, intake: Intake, most: Callable[[], int]) -> Iterator[bytes]:
    """Move what waits, by pieces of any size, and yield what comes out."""
    while outlet.waiting or intake.next() is not None:
        room = intake.room()
        some = min(most(), len(outlet.waiting), len(room))
        room[:some] = outlet.waiting[:some]
        outlet.sent(some)
        intake.arrived(some)
        while (size := intake.next()) is not None:
            memory = memoryview(bytearray(size))
            assert intake.open(memory) == size
            yield bytes(memory)
            if intake.finished:
                return


@given(
    st.lists(st.integers(1, 3000) | st.integers(1, MAX_RECORD), min_size=1, max_size=20),
    st.lists(st.sampled_from([1, 3, 4, 5, 20, 999, MAX_SEALED, BLOCK]), min_size=1, max_size=6),
)
def test_any_segmentation_gives_the_same(sizes: list[int], pieces: list[int]) -> None:
    """Through both blocks, which are used again and again."""
    sealer, opener = ends()
    outlet, intake = Outlet(sealer), Intake(opener)
    turn = 0

    def most() -> int:
        nonlocal turn
        turn += 1
        return max(pieces[turn % len(pieces)], 1 if turn % 7 else MAX_SEALED)

    came = b""
    for number, size in enumerate(sizes):
        if not outlet.has_room:
            came += b"".join(carry(outlet, intake, most))
        outlet.seal(bytes([number]) * size)
    outlet.seal_last()
    came += b"".join(carry(outlet, intake, most))
    assert came == b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    assert intake.finished and not outlet.waiting


def filled(*texts: bytes, end: bool = False, secret: bytes = SECRET) -> bytes:
    sealer = Sealer(secret, SUITE)
    return b"".join(sealed(sealer, text) for text in texts) + (last(sealer) if end else b"")


def test_records_fill_memory_one_after_the_other_as_far_as_they_fit() -> None:
    intake = Intake(Opener(SECRET, SUITE), filled(b"abc", b"defg", b"hi", b"j"))
    memory = memoryview(bytearray(8))
    assert intake.next() == 3 and intake.open(memory) == 7 and bytes(memory[:7]) == b"abcdefg"
    assert intake.next() == 2 and intake.open(memory) == 3 and bytes(memory[:3]) == b"hij"
    assert intake.next() is None and not intake.finished


def test_a_cut_anywhere_is_no_end() -> None:
    whole = filled(b"some", b"text", end=True)
    for size in range(len(whole)):
        intake = Intake(Opener(SECRET, SUITE), whole[:size])
        while intake.next() is not None:
            intake.open(memoryview(bytearray(4)))
        assert not intake.finished


def test_what_follows_the_last_record_is_an_error_even_if_it_is_one_byte() -> None:
    for more in (b"\0", filled(b"more", secret=OTHER)):
        intake = Intake(Opener(SECRET, SUITE), filled(b"text", end=True) + more)
        assert intake.open(memoryview(bytearray(4))) == 4
        with pytest.raises(RecordBroken, match="follows the end"):
            while intake.next() is not None:
                intake.open(memoryview(bytearray(0)))


def test_what_came_before_something_broken_counts() -> None:
    intake = Intake(Opener(SECRET, SUITE), filled(b"good", b"text") + filled(b"evil", secret=OTHER) * 2)
    memory = memoryview(bytearray(100))
    assert intake.open(memory) == 8 and bytes(memory[:8]) == b"goodtext"
    for _ in range(2):
        with pytest.raises(RecordBroken, match="changed"):
            intake.open(memory)


def test_one_call_opens_a_bounded_number_of_records() -> None:
    intake = Intake(Opener(SECRET, SUITE), filled(*[b"x"] * (MOST_RECORDS + 5)))
    memory = memoryview(bytearray(1000))
    assert intake.open(memory) == MOST_RECORDS
    assert intake.open(memory) == 5


def test_a_flood_of_empty_records_ends_with_the_first_one() -> None:
    intake = Intake(Opener(SECRET, SUITE), bytes(OVERHEAD) * 1000)
    with pytest.raises(RecordBroken):
        intake.next()


def test_there_is_always_room_for_what_is_missing_of_a_record() -> None:
    """Whatever the block holds, the next record can be completed in it."""
    sealer = Sealer(SECRET, SUITE)
    intake = Intake(Opener(SECRET, SUITE))
    stream = b"".join(sealed(sealer, bytes(MAX_RECORD)) for _ in range(9))
    at = 0
    for _ in range(9):
        while (size := intake.next()) is None:
            room = intake.room()
            assert room
            some = min(len(room), len(stream) - at, MAX_RECORD // 3)
            room[:some] = stream[at : at + some]
            intake.arrived(some)
            at += some
        assert size == MAX_RECORD and intake.open(memoryview(bytearray(size))) == size
    assert at == len(stream)


def test_the_head_of_a_chunk_and_a_large_record_go_out_at_once() -> None:
    outlet = Outlet(Sealer(SECRET, SUITE))
    room = [outlet.has_room]
    for size in (SMALL - OVERHEAD, MAX_RECORD):
        outlet.seal(bytes(size))
        room.append(outlet.has_room)
    assert room == [True, True, False]
    outlet.seal_last(bytes(MAX_LAST))
    outlet.seal_last()
    assert len(outlet.waiting) == SMALL + MAX_SEALED + MAX_LAST + OVERHEAD
