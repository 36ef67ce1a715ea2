"""The dials of one punch that are under way: one half-open socket each, until the kernel decides.

Laws of this file:

1. Of each dial one end is told, or none where it was dropped before: it stands, or it failed with an error number.
2. No two dials of one punch leave from the same fresh port: the NAT would give both the same mapping.
3. It does not know what is dialled when, or why (:mod:`p2pxfer.core.traversal.dialing`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Set

from p2pxfer.core.traversal.dials import Dial
from p2pxfer.net.traversal.freshports import fresh_port
from p2pxfer.net.traversal.halfopen import HalfOpen
from p2pxfer.net.types import Reactor

FRESH_TRIES = 5
"""How many fresh ports are tried for one dial."""


class Attempts:
    """The half-open sockets of the punch whose own port is ``port``.

    ``stands(dial, socket)`` is told of a connection, whose socket it takes; ``failed(dial, error, icmp)`` of an error
    number and whether an ICMP message brought it.  Neither is called from within a method of this class.
    """

    def __init__(
        self,
        reactor: Reactor,
        port: int,
        stands: Callable[[Dial, HalfOpen], None],
        failed: Callable[[Dial, int, bool], None],
    ) -> None:
        self._reactor = reactor
        self._stands = stands
        self._failed = failed
        self._half_open: dict[Dial, HalfOpen] = {}
        self._used_ports = {port}

    @property
    def under_way(self) -> Set[Dial]:
        """Dials about which nothing is decided yet."""
        return self._half_open.keys()

    def begin(self, dial: Dial) -> None:
        """Dial, from the port that the dial names or from a fresh one.

        Raises:
            OSError: the dial failed at once; nobody else is told.
        """
        if dial.source == "fresh":
            self._half_open[dial] = self._from_fresh_port(dial)
        else:
            self._half_open[dial] = self._from_port(dial, dial.source)

    def drop(self, dials: Iterable[Dial]) -> None:
        """Give these up, as far as they are under way."""
        for dial in dials:
            if (half_open := self._half_open.pop(dial, None)) is not None:
                half_open.close()

    def drop_all(self) -> bool:
        """Give up all that is under way; false if nothing was."""
        dropped = list(self._half_open)
        self.drop(dropped)
        return bool(dropped)

    def _from_port(self, dial: Dial, port: int) -> HalfOpen:
        there = (dial.host, dial.port)
        return HalfOpen(self._reactor, port, there, lambda code: self._decided(dial, code), dial.local)

    def _from_fresh_port(self, dial: Dial) -> HalfOpen:
        for _ in range(FRESH_TRIES):
            port = fresh_port()
            if port in self._used_ports:
                continue
            self._used_ports.add(port)
            try:
                return self._from_port(dial, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    def _decided(self, dial: Dial, code: int) -> None:
        half_open = self._half_open.pop(dial)  # one that was dropped is closed and decides nothing
        if code:
            self._failed(dial, code, half_open.icmp)
        else:
            self._stands(dial, half_open)
