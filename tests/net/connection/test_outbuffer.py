"""What is given to a queue comes out of it in order, however it is cut, and in few pieces."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.net.connection.outbuffer import JOINED, RECORD, OutBuffer

SIZES = st.one_of(st.integers(1, 100), st.integers(RECORD - 1, RECORD + 1), st.integers(1, 3 * RECORD))


def marked(size: int, number: int) -> bytes:
    return (number.to_bytes(4, "big") * (size // 4 + 1))[:size]


@settings(deadline=None)
@given(st.lists(SIZES, min_size=1, max_size=8), st.lists(st.integers(2000, 6 * RECORD), min_size=1, max_size=8))
def test_any_cut_gives_the_same_bytes(sizes: list[int], most: list[int]) -> None:
    given_in = [marked(size, number) for number, size in enumerate(sizes)]
    queue = OutBuffer()
    queue.add(given_in)
    out = bytearray()
    while queue:
        limit = most[len(out) % len(most)]
        pieces = queue.next(limit)
        assert 0 < sum(map(len, pieces)) <= limit
        assert all(len(piece) >= RECORD for piece in pieces[1:])
        assert queue.next(limit) == pieces, "whoever could not send asks again"
        some = b"".join(pieces)[: max(1, 2 * limit // 3)]
        queue.sent(len(some))
        out += some
        assert queue.unsent == sum(sizes) - len(out)
    assert out == b"".join(given_in)


def test_a_payload_goes_in_one_call_with_the_head_that_stands_before_it() -> None:
    queue = OutBuffer()
    queue.add([b"head", bytes(10 * RECORD)])
    assert [len(piece) for piece in queue.next(5 * RECORD)] == [4, 5 * RECORD - 4]


def test_a_large_piece_begins_a_record_and_small_ones_share_one_that_is_not_large() -> None:
    queue = OutBuffer()
    queue.add([b"head", bytes(40 * RECORD), *[bytes(1000)] * 300])
    sizes: list[int] = []
    while queue:
        sizes.append(len(queue.first(32 * RECORD)))
        queue.sent(sizes[-1])
    assert sizes[:3] == [4, 32 * RECORD, 8 * RECORD]
    assert sum(sizes[3:]) == 300_000 and len(sizes[3:]) == 3 and max(sizes[3:]) <= JOINED
