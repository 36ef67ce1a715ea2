"""Hashes in pages are those that were put, and take memory for what differs."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.transfer.geometry import HASH_SIZE
from p2pxfer.core.transfer.hashpages import PAGE, HashPages

PLACES = st.integers(min_value=0, max_value=3 * PAGE)
STEPS = st.tuples(st.sampled_from(["put", "fill", "copy"]), PLACES, st.integers(0, 2 * PAGE + 1), st.integers(0, 2))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=8), PLACES, PLACES)
def test_what_is_held_is_what_was_put_last(steps: list[tuple[str, int, int, int]], one: int, other: int) -> None:
    pages, expected = HashPages(), bytearray(6 * PAGE * HASH_SIZE)
    for step, start, count, kind in steps:
        digests = {
            "put": b"".join((kind * number).to_bytes(HASH_SIZE, "big") for number in range(count)),
            "fill": bytes([kind]) * HASH_SIZE * count,
        }
        match step:
            case "put":
                pages.put(start, digests[step])
            case "fill":
                pages.fill(start, start + count, bytes([kind]) * HASH_SIZE)
            case "copy":
                before, pages = pages, pages.copy()
                before.fill(0, 3 * PAGE, b"\xff" * HASH_SIZE)
                before.put(start, b"\xfe" * HASH_SIZE)
                continue
        expected[start * HASH_SIZE : (start + count) * HASH_SIZE] = digests[step]
    start, stop = sorted((one, other))
    held = bytes(expected[start * HASH_SIZE : stop * HASH_SIZE])
    assert pages.get(start, stop) == held
    assert b"".join(pages.pieces(start, stop)) == held
    sought = held[:HASH_SIZE] or bytes(HASH_SIZE)
    alike = {number for number in range(start, stop) if expected[number * HASH_SIZE :][:HASH_SIZE] == sought}
    assert [number for run in pages.alike(start, stop, sought) for number in range(*run)] == sorted(alike)


def test_what_is_alike_is_held_once_however_it_came() -> None:
    alike, many = b"h" * HASH_SIZE, 300 * PAGE
    tracemalloc.start()
    try:
        filled, put = HashPages(), HashPages()
        filled.fill(0, many, alike)
        for number in range(0, many, 64):
            put.put(number, alike * 64)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert filled.get(many - 1, many) == put.get(many - 1, many) == alike
    assert held < many


def test_what_is_the_same_in_several_is_held_once() -> None:
    """As what the receiver has verified and what is durable there, or what its sender sent and what it noted."""
    many = 60 * PAGE
    own, kinds = [number.to_bytes(HASH_SIZE, "big") * 60 for number in range(1, many // 60 + 1)], range(4)
    tracemalloc.start()
    try:
        shared: dict[int, bytes] = {}
        each = [HashPages(shared) for _ in kinds]
        for at, digests in enumerate(own):
            for pages in each:
                pages.put(at * 60, digests)
        copies = [pages.copy() for pages in each]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.2 * many * HASH_SIZE
    copies[0].put(5, b"x" * HASH_SIZE)
    assert copies[0].get(5, 6) == b"x" * HASH_SIZE
    assert [pages.get(5, 6) for pages in (*each, *copies[1:])] == [own[0][:HASH_SIZE]] * 7


def test_what_lies_far_behind_takes_no_memory_for_what_is_before_it() -> None:
    tracemalloc.start()
    try:
        pages = HashPages()
        pages.put(2**40, b"h" * HASH_SIZE)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pages.get(2**40 - 1, 2**40 + 1) == bytes(HASH_SIZE) + b"h" * HASH_SIZE
    assert held < 2 * PAGE * HASH_SIZE
