"""The windows of channels: how they share the memory, and when one grows.

On the line of these tests everything takes half a round trip; time is counted in such halves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.session.channel import Arrived
from p2pxfer.core.session.channels import Channels
from p2pxfer.core.session.channelwire import ChannelMessage, Piece
from p2pxfer.core.session.windows import Limits

KIB = 1024
LIMITS = Limits(channels=4, smallest=128 * KIB, first=512 * KIB, total=16 * 1024 * KIB, share=3)


class Line:
    """Two ends; what one says is heard by the other half a round trip later, ``carries`` bytes in that time at most."""

    def __init__(self, carries: int, reads: int, limits: Limits = LIMITS) -> None:
        self.carries, self.reads = carries, reads
        self.writer, self.reader = Channels(b"a" * 16, 0, limits), Channels(b"b" * 16, 1, limits)
        for end in (self.writer, self.reader):
            end.open_path(1)
            end.use(1)
        self.channel = self.writer.open("pipe")
        self.unread = self.most_unread = self.read = self._budget = 0
        self._waiting: ChannelMessage | None = None
        self._under_way: deque[list[tuple[Channels, ChannelMessage]]] = deque([[]])
        while not len(self.reader):
            self.pass_half()
        self.reader.accept(self.channel)

    def pass_half(self) -> None:
        """What is under way arrives, the reader reads, and both say what they have to say."""
        for target, message in self._under_way.popleft():
            target.receive(1, message)
        for event in self.reader.events():
            self.unread += len(event.data) if isinstance(event, Arrived) else 0
        self.most_unread = max(self.most_unread, self.unread)
        if size := min(self.unread, self.reads):
            self.unread -= size
            self.read += size
            self.reader.consumed(self.channel, size)
        said: list[tuple[Channels, ChannelMessage]] = [(self.reader, message) for message in self._written()]
        while (answer := self.reader.take(1)) is not None:
            said.append((self.writer, answer))
        self._under_way.append(said)

    def _written(self) -> Iterator[ChannelMessage]:
        """What the line carries in this time; whoever writes always has more."""
        self._budget += self.carries
        while True:
            if room := self.writer.room(self.channel):
                self.writer.write(self.channel, bytes(room))
            self._waiting = self._waiting or self.writer.take(1)
            if self._waiting is None:
                self._budget = 0
                return
            size = len(self._waiting.payload) if isinstance(self._waiting, Piece) else 0
            if size > self._budget:
                return
            self._budget -= size
            yield self._waiting
            self._waiting = None

    def run(self, halves: int) -> int:
        """Let so many halves of a round trip pass; returns how much was read in them."""
        before = self.read
        for _ in range(halves):
            self.pass_half()
        return self.read - before


def test_a_window_grows_until_it_is_not_what_holds_the_writer_up() -> None:
    line = Line(carries=1000 * KIB, reads=10**9)
    assert line.run(4) < 4 * 500 * KIB
    line.run(60)
    assert line.run(20) >= 20 * 990 * KIB


def test_a_window_does_not_grow_beyond_its_share() -> None:
    line = Line(carries=10**9, reads=10**9)
    line.run(100)
    assert line.writer.room(line.channel) <= LIMITS.largest
    each = line.run(20) / 20
    assert LIMITS.largest / 4 <= each <= LIMITS.largest


def test_a_slow_reader_keeps_the_window_small() -> None:
    """What it does not read would only wait with it: a film should not be minutes behind."""
    line = Line(carries=10**9, reads=16 * KIB)
    line.run(400)
    assert line.read >= 390 * 16 * KIB
    assert line.most_unread <= LIMITS.first


def test_a_slow_path_keeps_the_window_small() -> None:
    line = Line(carries=40 * KIB, reads=10**9)
    line.run(400)
    assert line.writer.held_bytes <= LIMITS.first
    assert line.most_unread <= LIMITS.first


def test_a_reader_that_stops_leaves_no_more_than_the_largest_window() -> None:
    line = Line(carries=10**9, reads=10**9)
    line.run(100)
    line.reads = 0
    line.run(100)
    assert line.unread <= LIMITS.largest
    assert line.writer.room(line.channel) == 0
    line.reads = 10**9
    assert line.run(20) > LIMITS.largest


@given(st.lists(st.integers(min_value=0, max_value=200), max_size=200))
def test_windows_of_all_channels_together_stay_within_the_total(turns: list[int]) -> None:
    limits = Limits(channels=20, smallest=10, first=25, total=1000, share=3)
    windows: list[int] = []
    for number in turns:
        if number % 3 == 0 and windows:
            windows.pop(number % len(windows))
        elif number % 3 == 1 and windows:
            windows[number % len(windows)] += limits.growth(windows[number % len(windows)], windows)
        elif len(windows) < limits.channels:
            windows.append(limits.begin(windows))
        assert all(limits.smallest <= window <= limits.largest for window in windows)
        assert sum(windows) <= limits.total
