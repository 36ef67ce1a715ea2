from __future__ import annotations

import itertools
import random

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.framing import HASHED, Frame, FrameDecoder, encode_frame
from p2pxfer.errors import FrameError

CAPS = {1: 100, 2: 5000, 64: 70000}


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` in pieces at the given places, empty pieces included."""
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def decode(pieces: list[bytes]) -> list[Frame]:
    decoder = FrameDecoder(CAPS)
    return [Frame(f.kind, bytes(f.body)) for piece in pieces for f in decoder.feed(piece)]


frames = st.lists(
    st.one_of(
        st.tuples(st.just(1), st.binary(max_size=100)),
        st.tuples(st.just(2), st.binary(max_size=300)),
        st.tuples(st.just(64), st.binary(min_size=0, max_size=2000)),
    ),
    max_size=8,
)


@given(frames, st.lists(st.integers(min_value=0, max_value=2**20), max_size=30))
def test_any_segmentation_gives_the_same_frames(rows: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(kind, body) for kind, body in rows)
    expected = [Frame(kind, body) for kind, body in rows]
    assert decode([stream]) == expected
    assert decode([stream[i : i + 1] for i in range(len(stream))]) == expected
    assert decode(cut(stream, cuts)) == expected


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_frames_or_a_frame_error(data: bytes) -> None:
    decoder = FrameDecoder(CAPS)
    try:
        for frame in decoder.feed(data):
            assert len(frame.body) <= CAPS[frame.kind]
    except FrameError:
        pass


@pytest.mark.parametrize("head", [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", (70002).to_bytes(4, "big")])
def test_an_illegal_length_is_refused_after_four_bytes(head: bytes) -> None:
    decoder = FrameDecoder(CAPS)
    with pytest.raises(FrameError):
        list(decoder.feed(head))


@pytest.mark.parametrize(("kind", "length"), [(3, 1), (1, 101), (2, 5001), (64, 70001)])
def test_an_unknown_kind_or_a_body_over_its_cap_is_refused_before_the_body(kind: int, length: int) -> None:
    decoder = FrameDecoder(CAPS)
    with pytest.raises(FrameError):
        list(decoder.feed((length + 1).to_bytes(4, "big") + bytes([kind])))


def test_a_body_of_exactly_the_cap_is_accepted() -> None:
    assert decode([encode_frame(1, b"x" * 100)]) == [Frame(1, b"x" * 100)]


def test_caps_may_change_between_two_frames_of_one_piece() -> None:
    decoder = FrameDecoder({1: 10})
    stream = encode_frame(1, b"a") + encode_frame(64, b"b" * 50)
    seen = []
    for frame in decoder.feed(stream):
        seen.append(frame.kind)
        decoder.allow({64: 100})
    assert seen == [1, 64]


def test_unread_counts_what_lies_behind_the_frame() -> None:
    decoder = FrameDecoder(CAPS)
    stream = encode_frame(1, b"a") + b"rest"
    for _ in decoder.feed(stream):
        assert decoder.unread == 4
        break


def test_idle_only_between_frames() -> None:
    decoder = FrameDecoder(CAPS)
    assert decoder.idle
    list(decoder.feed(b"\x00"))
    assert not decoder.idle


@given(frames, st.lists(st.integers(min_value=1, max_value=40), min_size=1))
def test_bytes_put_in_place_give_the_same_frames(rows: list[tuple[int, bytes]], sizes: list[int]) -> None:
    """A caller that fills the memory of the body itself sees what one that feeds everything sees."""
    stream = b"".join(encode_frame(kind, body) for kind, body in rows)
    decoder = FrameDecoder(CAPS)
    seen: list[Frame] = []
    position = 0
    turn = 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        memory = decoder.memory()
        if memory is not None and turn % 2:
            piece = stream[position : position + min(size, len(memory))]
            memory[: len(piece)] = piece
            seen += [Frame(f.kind, bytes(f.body)) for f in decoder.filled(len(piece))]
        else:
            piece = stream[position : position + size]
            seen += [Frame(f.kind, bytes(f.body)) for f in decoder.feed(piece)]
        position += len(piece)
        turn += 1
    assert seen == [Frame(kind, body) for kind, body in rows]


@pytest.mark.parametrize("seed", range(8))
def test_a_large_body_is_hashed_behind_its_head_however_it_comes(seed: int) -> None:
    """Fed or put in place, in any pieces; others are not, and what is hashed does not depend on what came before."""
    dice = random.Random(seed)
    rows = [(64, HASHED), (64, HASHED - 1), (64, 70_000), (2, 300), (64, HASHED + 4000), (65, 70_000), (64, 40)]
    dice.shuffle(rows)
    bodies = [(kind, dice.randbytes(size)) for kind, size in rows]
    stream = b"".join(encode_frame(kind, body) for kind, body in bodies)
    decoder = FrameDecoder({**CAPS, 65: 70_000}, heads={64: 44})
    seen: list[Frame] = []
    position = 0
    while position < len(stream):
        piece = stream[position : position + dice.choice([1, 3, 44, 1000, 16_384, 70_000])]
        memory = decoder.memory()
        if memory is not None and dice.random() < 0.7:
            piece = piece[: len(memory)]
            memory[: len(piece)] = piece
            seen += decoder.filled(len(piece))
        else:
            seen += decoder.feed(piece)
        position += len(piece)
    wanted = [blake3(body[44:]).digest() if kind == 64 and len(body) >= HASHED else None for kind, body in bodies]
    assert [(frame.kind, bytes(frame.body)) for frame in seen] == bodies
    assert [frame.hash for frame in seen] == wanted
