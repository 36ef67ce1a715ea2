"""Numbers of channels, how many there may be, and what they share."""

from __future__ import annotations

import pytest

from p2pxfer.core.session.channel import Channel, Phase
from p2pxfer.core.session.channels import Channels
from p2pxfer.core.session.channeltable import MAX_NUMBER, ChannelTable
from p2pxfer.core.session.delivery import MAX_FRAMES
from p2pxfer.core.session.windows import Limits
from p2pxfer.errors import Interrupted, LimitReached, ProtocolBreach

LIMITS = Limits(channels=3, smallest=10, first=20, total=150)


@pytest.fixture
def table() -> ChannelTable:
    return ChannelTable(0, LIMITS)


def one_more(table: ChannelTable) -> Channel:
    made = table.ask()
    table.add(made)
    return made


def test_each_side_numbers_its_own_without_a_gap(table: ChannelTable) -> None:
    assert [one_more(table).number, one_more(table).number] == [0, 2]
    asked = table.asked(1)
    assert asked is not None
    assert (asked.number, asked.phase) == (1, Phase.OFFERED)
    with pytest.raises(ProtocolBreach, match="channel 5 was opened instead of 3"):
        table.asked(5)
    with pytest.raises(ProtocolBreach):
        table.asked(4)


def test_a_number_is_never_used_again(table: ChannelTable) -> None:
    one_more(table)
    assert table.remove(0)
    assert not table.remove(0)
    assert (table.get(0), table.was_opened(0), table.was_opened(2)) == (None, True, False)
    assert one_more(table).number == 2


def test_a_channel_that_nobody_was_asked_for_has_used_no_number(table: ChannelTable) -> None:
    assert [table.ask().number, table.ask().number, len(table)] == [0, 0, 0]


def test_there_are_at_most_so_many_whoever_asked(table: ChannelTable) -> None:
    one_more(table)
    assert table.asked(1) is not None
    one_more(table)
    assert table.asked(3) is None
    assert table.was_opened(3), "what was refused is over"
    with pytest.raises(LimitReached):
        table.ask()
    table.remove(1)
    assert table.asked(5) is not None


def test_numbers_end() -> None:
    table = ChannelTable(1, LIMITS)
    table._next[1] = MAX_NUMBER
    table.remove(one_more(table).number)
    with pytest.raises(LimitReached):
        table.ask()


def test_windows_and_buffers_share_what_there_is(table: ChannelTable) -> None:
    first, second = one_more(table), one_more(table)
    while table.widen(first):
        table.enlarge(second)
    table.enlarge(second)
    assert first.window == LIMITS.largest
    assert first.window + second.window + LIMITS.smallest <= LIMITS.total
    assert first.buffer + second.buffer + LIMITS.smallest <= LIMITS.total
    assert second.buffer > first.buffer


def test_where_the_peer_cannot_be_asked_no_channel_and_no_number_is_left_behind() -> None:
    channels = Channels(bytes(16), 0)
    opened = [channels.open("echo")]
    with pytest.raises(LimitReached):
        for _ in range(MAX_FRAMES):
            channels.reset(opened[-1], Interrupted("over"))
            opened.append(channels.open("echo"))
    assert opened == list(range(0, 2 * len(opened), 2))
    assert len(channels) == 0
    assert channels._channels.ask().number == opened[-1] + 2
