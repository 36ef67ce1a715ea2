"""Which channels a session has, under which numbers, and how much memory each of them may hold.

Laws of this file:

1. Each side numbers the channels that it asks for, one the even and one the odd ones, without a gap; no number is used
   twice.  So what is above was never opened, and what is below and not here is over.
2. There are at most so many at once, whoever asked for them.
3. All windows together, and all buffers together, stay within :class:`~p2pxfer.core.session.windows.Limits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from p2pxfer.core.session.channel import Channel, Phase
from p2pxfer.core.session.windows import Limits
from p2pxfer.errors import LimitReached, ProtocolBreach

MAX_NUMBER: Final = 2**32 - 1


class ChannelTable:
    """The channels of one side; ``parity`` is that of the numbers which this side gives."""

    def __init__(self, parity: Literal[0, 1], limits: Limits) -> None:
        self.parity = parity
        self._limits = limits
        self._channels: dict[int, Channel] = {}
        self._next = {parity: parity, 1 - parity: 1 - parity}

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._channels.values())

    def get(self, number: int) -> Channel | None:
        """The channel with this number, unless it is over."""
        return self._channels.get(number)

    def remove(self, number: int) -> bool:
        """Forget a channel; false if it was over."""
        return self._channels.pop(number, None) is not None

    def was_opened(self, number: int) -> bool:
        """Whether there is or was a channel with this number."""
        return number < self._next[number % 2]

    def ask(self) -> Channel:
        """One more channel of this side's, for :meth:`add` once the peer is asked for it: then its number is used.

        Raises:
            LimitReached: there are too many.
        """
        number = self._next[self.parity]
        if self._full or number > MAX_NUMBER:
            raise LimitReached("too many channels at once")
        return self._made(number, Phase.ASKED)

    def asked(self, number: int) -> Channel | None:
        """The channel for which the peer asks under this number; ``None`` if there are too many.

        Raises:
            ProtocolBreach: the number is not the next one.
        """
        side = 1 - self.parity
        if number != self._next[side]:
            raise ProtocolBreach(f"channel {number} was opened instead of {self._next[side]}")
        if self._full:
            self._next[side] += 2
            return None
        channel = self._made(number, Phase.OFFERED)
        self.add(channel)
        return channel

    def add(self, channel: Channel) -> None:
        """It is one of those that there are from here on."""
        self._channels[channel.number] = channel
        self._next[channel.number % 2] += 2

    @property
    def _full(self) -> bool:
        return len(self._channels) >= self._limits.channels

    def _made(self, number: int, phase: Phase) -> Channel:
        window = self._limits.begin([each.window for each in self])
        buffer = self._limits.begin([each.buffer for each in self])
        return Channel(number, window, buffer, phase)

    # -- memory --------------------------------------------------------------------------------------------------

    def widen(self, channel: Channel) -> int:
        """Let more come on a channel whose window holds its writer up; by how much."""
        growth = self._limits.growth(channel.window, [each.window for each in self])
        channel.widen(growth)
        return growth

    def enlarge(self, channel: Channel) -> None:
        """Let more wait for a path on a channel whose buffer leaves its writer without room."""
        channel.enlarge(self._limits.growth(channel.buffer, [each.buffer for each in self]))
