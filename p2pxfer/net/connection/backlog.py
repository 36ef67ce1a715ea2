"""How much may wait on a connection for which nothing can be taken back, here and in its kernel.

So it is on a relay leg: what is written to it is sealed already, and a farewell lies behind all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2pxfer.net.connection.outbuffer import BUFFERED
from p2pxfer.net.connection.recordsize import LineShare
from p2pxfer.net.connection.tcpinfo import delivery_rate, hold_unsent


class Backlog:
    """Of the connection on ``sock``; ``now`` is the reactor's clock.

    What the kernel has sent and nobody acknowledged yet does not count: that is what fills the line.
    """

    def __init__(self, sock: Any, now: Callable[[], float], rate: Callable[[Any], int | None] = delivery_rate) -> None:
        self._socket = sock
        self._share = LineShare(sock, now, rate, largest=BUFFERED)
        self._held = 0

    def most(self) -> int:
        """How many bytes may wait here; the kernel is held to as many, unless the line is a fast one."""
        most = self._share.most()
        held = most if most < BUFFERED else 0
        if held != self._held:
            self._held = held
            hold_unsent(self._socket, held)
        return most
