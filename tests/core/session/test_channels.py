"""Byte channels: whatever happens to the paths, every reader gets what was written, once and in order."""

from __future__ import annotations

import random
import tracemalloc
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.session.bytequeue import ByteQueue
from p2pxfer.core.session.channel import Arrived, Asked, Gone, PeerEnded, Stands, Taken, Writable
from p2pxfer.core.session.channels import MAX_PIECES, Channels
from p2pxfer.core.session.channelwire import (
    MAX_PIECE,
    Attach,
    ChannelMessage,
    Credit,
    End,
    Open,
    Opened,
    Piece,
    Receipt,
    Reset,
)
from p2pxfer.core.session.delivery import MAX_FRAMES
from p2pxfer.core.session.windows import Limits
from p2pxfer.errors import Incomplete, LimitReached, ProtocolBreach, Refused
from tests.core.channelworld import Pair

ALICE, BOB = b"a" * 16, b"b" * 16


# -- whole sessions ------------------------------------------------------------------------------------------------


@pytest.mark.deadline(240)
@settings(max_examples=100, deadline=None)
@given(
    st.integers(min_value=0, max_value=2**32),
    st.lists(st.integers(min_value=0, max_value=2000), min_size=1, max_size=6),
    st.lists(st.sampled_from(["path", "cut", "cut all", "switch"]), max_size=12),
)
def test_cuts_never_lose_double_or_reorder_a_byte(seed: int, sizes: list[int], faults: list[str]) -> None:
    """Any segmentation, any tail lost at a cut, any order of cuts: what was written is read, both ways, and ends."""
    pair = Pair(seed)
    written: dict[tuple[int, int], bytes] = {}

    def script(side: int, channel: int) -> bytes:
        return written.setdefault(
            (side, channel), random.Random(f"{seed} {side} {channel}").randbytes(sizes[channel // 2])
        )

    for side, end in enumerate(pair.ends):
        end.script = partial(script, side)
    opener = [pair.ends[number % 2].core.open("echo") for number in range(len(sizes))]
    pair.add_path()
    for fault in faults:
        for _ in range(pair.rng.randrange(200)):
            pair.step()
        if fault == "path":
            pair.add_path()
        elif fault == "switch" and pair.whole:
            pair.rng.choice(pair.ends).core.use(pair.rng.choice(pair.whole))
        else:
            for path in pair.whole if fault == "cut all" else pair.whole[:1]:
                pair.cut(path)
    pair.run(lambda: all(end.core.settled and not len(end.core) for end in pair.ends))
    for side, end in enumerate(pair.ends):
        assert set(end.gone) == set(opener)
        assert set(end.gone.values()) == {None}
        assert end.core.held_bytes == 0
        for channel in opener:
            assert bytes(end.read[channel]) == written[1 - side, channel]


@pytest.mark.deadline(240)
@settings(max_examples=40, deadline=None)
@given(st.integers(min_value=0, max_value=2**32))
def test_a_reset_ends_a_channel_at_both_ends_and_no_other(seed: int) -> None:
    pair = Pair(seed)
    alice, bob = pair.ends
    for end in pair.ends:
        end.script = lambda channel: bytes([channel]) * 1500
    given_up, kept = alice.core.open("one"), alice.core.open("two")
    pair.add_path()
    pair.run(lambda: given_up in alice.standing and given_up in bob.standing)
    for _ in range(pair.rng.randrange(100)):
        pair.step()
    if given_up not in alice.gone:
        alice.core.reset(given_up, Refused("enough"))
        alice.gone[given_up] = None
    for _ in range(pair.rng.randrange(30)):
        pair.step()
    pair.cut(pair.rng.choice(pair.whole)) if pair.whole else None
    pair.run(lambda: all(end.core.settled and not len(end.core) for end in pair.ends))
    assert given_up in bob.gone
    assert bob.read[kept] == alice.read[kept] == bytes([kept]) * 1500
    assert bytes(bob.read[given_up]) == bytes([given_up]) * len(bob.read[given_up])


def test_a_refused_channel_is_gone_with_the_reason() -> None:
    pair = Pair(1)
    alice, bob = pair.ends
    channel = alice.core.open("secret")
    bob.refuse.add(channel)
    pair.run(lambda: channel in alice.gone and bob.core.settled)
    assert isinstance(alice.gone[channel], Refused)
    assert not len(alice.core)
    assert not len(bob.core)


# -- single steps --------------------------------------------------------------------------------------------------


def joined(limits: Limits | None = None) -> tuple[Channels, Channels]:
    """Two ends with path 1 in use."""
    ends = Channels(ALICE, 0, limits or Limits()), Channels(BOB, 1, limits or Limits())
    for end in ends:
        end.open_path(1)
        end.use(1)
    move(*ends)
    return ends


def move(alice: Channels, bob: Channels, path: int = 1) -> int:
    """Carry everything over until nothing is left; returns how many pieces went."""
    pieces, idle = 0, False
    while not idle:
        idle = True
        for source, target in ((alice, bob), (bob, alice)):
            while (message := source.take(path)) is not None:
                idle = False
                pieces += isinstance(message, Piece)
                target.receive(path, message)
    return pieces


def opened(limits: Limits | None = None) -> tuple[Channels, Channels, int]:
    alice, bob = joined(limits)
    channel = alice.open("pipe")
    move(alice, bob)
    assert list(bob.events()) == [Asked(channel, "pipe")]
    bob.accept(channel)
    move(alice, bob)
    assert list(alice.events()) == [Stands(channel)]
    return alice, bob, channel


def test_half_close_leaves_the_other_direction() -> None:
    alice, bob, channel = opened()
    alice.write(channel, b"question")
    alice.end(channel)
    move(alice, bob)
    assert list(bob.events()) == [Arrived(channel, b"question"), PeerEnded(channel)]
    bob.consumed(channel, 8)
    bob.write(channel, b"answer")
    move(alice, bob)
    assert list(alice.events()) == [Taken(channel), Arrived(channel, b"answer")]
    bob.end(channel)
    alice.consumed(channel, 6)
    move(alice, bob)
    assert list(alice.events()) == [PeerEnded(channel), Gone(channel, None)]
    assert list(bob.events()) == [Taken(channel), Gone(channel, None)]
    assert alice.settled
    assert bob.settled


def test_a_channel_whose_data_nobody_consumed_keeps_its_place() -> None:
    """Or a peer could fill a slow reader's memory with ever new channels."""
    alice, bob, channel = opened()
    alice.write(channel, b"x")
    alice.end(channel)
    bob.end(channel)
    move(alice, bob)
    assert Gone(channel, None) not in list(bob.events())
    assert len(bob) == 1
    bob.consumed(channel, 1)
    assert list(bob.events()) == [Gone(channel, None)]


@pytest.mark.parametrize("before", [0, 3, 10])
def test_a_writer_is_not_through_before_the_reader_is(before: int) -> None:
    """What the peer's process has received and not passed on is lost if this side leaves then."""
    alice, bob, channel = opened()
    alice.write(channel, b"ten bytes.")
    move(alice, bob)
    bob.consumed(channel, before)
    alice.end(channel)
    bob.end(channel)
    move(alice, bob)
    assert (Gone(channel, None) in list(alice.events())) == (before == 10)
    bob.consumed(channel, 10 - before)
    move(alice, bob)
    assert len(alice) == len(bob) == 0
    assert alice.settled
    assert bob.settled


def test_credit_that_was_not_used_cannot_be_given_back() -> None:
    alice, _, channel = opened()
    alice.write(channel, b"ten bytes.")
    alice.receive(1, Credit(number=1, channel=channel, more=4))
    with pytest.raises(ProtocolBreach, match="more credit than was used"):
        alice.receive(1, Credit(number=2, channel=channel, more=7))


def test_a_reader_that_does_not_read_stops_the_writer_and_loses_nothing() -> None:
    alice, bob, channel = opened(Limits(channels=1, smallest=1000, total=1000))
    alice.write(channel, bytes(alice.room(channel)))
    move(alice, bob)
    assert alice.room(channel) == 0
    with pytest.raises(ValueError, match="where 0 had room"):
        alice.write(channel, b"x")
    assert not [event for event in alice.events() if isinstance(event, Writable)]
    bob.consumed(channel, 499)
    move(alice, bob)
    assert list(alice.events()) == []
    bob.consumed(channel, 1)
    move(alice, bob)
    assert list(alice.events()) == [Writable(channel)]
    assert alice.room(channel) == 500


def test_a_peer_that_gives_much_credit_does_not_fill_the_memory() -> None:
    """A writer's room is this side's window too: what a slow path holds is bounded here, not by the peer."""
    alice = Channels(ALICE, 0, Limits(channels=1, smallest=1000, total=1000))
    alice.open_path(1)
    alice.use(1)
    channel = alice.open("pipe")
    alice.receive(1, Attach(instance=BOB))
    while alice.take(1):
        pass
    alice.receive(1, Opened(number=0, channel=channel, credit=2**32 - 1))
    assert alice.room(channel) == 1000
    alice.write(channel, bytes(1000))
    assert alice.room(channel) == 0
    while alice.take(1):
        pass
    assert alice.room(channel) == 0
    alice.receive(1, Receipt(received=2))
    assert alice.room(channel) == 1000


def test_channels_take_turns() -> None:
    alice, bob = joined()
    channels = [alice.open("a"), alice.open("b"), alice.open("c")]
    move(alice, bob)
    for channel in channels:
        bob.accept(channel)
    move(alice, bob)
    for channel in channels:
        alice.write(channel, bytes(3 * MAX_PIECE))
    order = []
    while (message := alice.take(1)) is not None:
        assert isinstance(message, Piece)
        order.append(message.channel)
    assert order == channels * 3


def test_another_path_repeats_only_what_the_peer_lacks() -> None:
    alice, bob, channel = opened()
    for letter in b"abcd":
        alice.write(channel, bytes([letter]))
        message = alice.take(1)
        assert message is not None
        if letter in b"ab":
            bob.receive(1, message)
    alice.close_path(1)
    bob.close_path(1)
    for end in (alice, bob):
        end.open_path(2)
        end.use(2)
    assert move(alice, bob, 2) == 2
    assert [event.data for event in bob.events() if isinstance(event, Arrived)] == [b"a", b"b", b"c", b"d"]


def test_what_comes_late_on_the_old_path_counts_once() -> None:
    alice, bob, channel = opened()
    alice.write(channel, b"late")
    late = alice.take(1)
    assert late is not None
    for end in (alice, bob):
        end.open_path(2)
        end.use(2)
    move(alice, bob, 2)
    bob.receive(1, late)
    assert [event.data for event in bob.events() if isinstance(event, Arrived)] == [b"late"]
    assert bob.take(1) == Receipt(received=2)


def test_another_instance_ends_the_session() -> None:
    alice, _, _ = opened()
    alice.open_path(2)
    with pytest.raises(Incomplete):
        alice.receive(2, Attach(instance=b"c" * 16))
    fresh = Channels(b"c" * 16, 1)
    fresh.open_path(2)
    with pytest.raises(Incomplete):
        fresh.receive(2, Attach(instance=ALICE, peer=BOB, received=7))


def test_small_writes_share_pieces_when_the_path_is_slow() -> None:
    alice, bob, channel = opened()
    for _ in range(5000):
        alice.write(channel, b"x")
        alice.take(1)
    assert alice.take(1) is None  # the peer has acknowledged nothing for so long
    alice.close_path(1)
    bob.close_path(1)
    for end in (alice, bob):
        end.open_path(2)
        end.use(2)
    assert move(alice, bob, 2) <= MAX_PIECES + 1
    assert sum(len(event.data) for event in bob.events() if isinstance(event, Arrived)) == 5000


@pytest.mark.parametrize(
    "message",
    [
        Piece(2, 0, b"a later number"),
        Piece(1, 0, b"x" * 1001),
        Piece(1, 2, b"for a channel that nobody opened"),
        Piece(1, 1, b"for one of the other side"),
        Opened(number=1, channel=0, credit=1),
        Open(number=1, channel=4, service="skips", credit=1),
        Open(number=1, channel=1, service="mine", credit=1),
        Attach(instance=ALICE),
        Receipt(received=99),
    ],
    ids=str,
)
def test_what_no_honest_peer_sends_is_refused(message: ChannelMessage) -> None:
    _, bob, _ = opened(Limits(channels=1, smallest=1000, total=1000))
    with pytest.raises(ProtocolBreach):
        bob.receive(1, message)


@pytest.mark.parametrize("message", [Piece(3, 0, b"x"), End(number=3, channel=0)], ids=str)
def test_nothing_follows_the_end(message: ChannelMessage) -> None:
    alice, bob, channel = opened()
    alice.write(channel, b"x")
    alice.end(channel)
    move(alice, bob)
    with pytest.raises(ProtocolBreach):
        bob.receive(1, message)


def test_data_for_a_channel_that_was_not_accepted_is_refused() -> None:
    alice, bob = joined()
    channel = alice.open("pipe")
    move(alice, bob)
    with pytest.raises(ProtocolBreach):
        bob.receive(1, Piece(1, channel, b"x"))


def test_what_was_given_up_before_the_answer_may_be_answered() -> None:
    """The user of the channels hears of both in one turn, the question first."""
    alice, bob = joined()
    channel = alice.open("pipe")
    alice.reset(channel, Refused("never mind"))
    move(alice, bob)
    asked, gone = bob.events()
    assert asked == Asked(channel, "pipe")
    assert isinstance(gone, Gone)
    bob.accept(channel)
    assert (bob.take(1), len(bob)) == (None, 0)


def test_numbered_frames_before_attach_are_refused() -> None:
    alice = Channels(ALICE, 0)
    alice.open_path(1)
    with pytest.raises(ProtocolBreach):
        alice.receive(1, Open(number=0, channel=1, service="pipe", credit=1))


def test_what_was_under_way_to_a_channel_that_was_given_up_is_dropped() -> None:
    alice, bob, channel = opened()
    alice.write(channel, b"x")
    piece = alice.take(1)
    assert isinstance(piece, Piece)
    bob.reset(channel, Refused("enough"))
    bob.receive(1, piece)
    bob.receive(1, Credit(number=2, channel=channel, more=5))
    bob.receive(1, End(number=3, channel=channel))
    bob.receive(1, Reset(number=4, channel=channel, word="E_DENIED", message="me too"))
    assert list(bob.events()) == []


def test_one_channel_too_many_is_refused_in_words() -> None:
    alice, bob = joined(Limits(channels=2))
    with pytest.raises(LimitReached):
        for _ in range(3):
            alice.open("pipe")
    generous = Channels(ALICE, 0, Limits(channels=9))
    generous.open_path(2)
    generous.use(2)
    bob = Channels(BOB, 1, Limits(channels=2))
    bob.open_path(2)
    bob.use(2)
    for _ in range(3):
        generous.open("pipe")
    move(generous, bob, 2)
    (gone,) = generous.events()
    assert isinstance(gone, Gone)
    assert isinstance(gone.error, LimitReached)
    assert len(bob) == 2


def test_a_peer_that_opens_and_never_acknowledges_is_cut_off() -> None:
    bob = Channels(BOB, 1, Limits(channels=1))
    bob.open_path(1)
    bob.receive(1, Attach(instance=ALICE))
    with pytest.raises(LimitReached):
        for number in range(2 * MAX_FRAMES):
            bob.receive(1, Open(number=number, channel=2 * number, service="pipe", credit=1))


SOME = st.builds(
    lambda seed, size: bytes([seed]) * size, st.integers(1, 255), st.sampled_from([0, 1, 7, 50, 4095, 4096])
)


@settings(deadline=None)
@given(st.lists(st.one_of(SOME, st.integers(min_value=0, max_value=9000))))
def test_a_queue_gives_what_was_put_in(turns: list[bytes | int]) -> None:
    """Bytes are put in, numbers taken; what was taken stays what it was."""
    queue, left = ByteQueue(), b""
    taken: list[tuple[bytes | memoryview, bytes]] = []
    for turn in turns:
        if isinstance(turn, bytes):
            queue.put(turn)
            left += turn
        else:
            taken.append((queue.take(turn), left[:turn]))
            left = left[turn:]
        assert len(queue) == len(left)
    taken.append((queue.take(len(left)), left))
    assert all(got == wanted for got, wanted in taken)


def test_a_queue_of_tiny_pieces_costs_no_more_than_they_hold() -> None:
    """A pipe whose peer is away reads on, a few bytes at a time where its input is a person or a log."""
    size = 4
    count = (1 << 18) // size
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        queue = ByteQueue()
        for number in range(count):
            queue.put(number.to_bytes(size, "big"))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2 * count * size
    assert bytes(queue.take(count * size)) == b"".join(number.to_bytes(size, "big") for number in range(count))


def test_what_a_service_wants_to_know_travels_with_the_opening_and_the_end() -> None:
    alice, bob = joined()
    channel = alice.open("stream", "dump.sql")
    move(alice, bob)
    assert list(bob.events()) == [Asked(channel, "stream", "dump.sql")]
    bob.accept(channel, rate=5000)
    move(alice, bob)
    assert list(alice.events()) == [Stands(channel, 5000)]
    alice.write(channel, b"data")
    alice.end(channel, b"d" * 32)
    move(alice, bob)
    arrived, ended = bob.events()
    assert isinstance(arrived, Arrived)
    assert ended == PeerEnded(channel, b"d" * 32)
