"""Finds out whether this machine's NAT lets a SYN in that crosses one of its own to the same endpoint.

The server opens a port that answers nobody (:mod:`p2pxfer.net.server.deafport`).  This side dials it from a fresh local
port that the server has seen, and lets the server dial back from there: what connects now has come through the NAT as a
bare SYN.  Nothing is listened on, so a SYN that came too early would find nobody.

Laws of this file:

1. The check ends within ``CHECK_S`` seconds and leaves nothing behind; what the server says later changes nothing.
2. Only a port from 1024 on is dialled, and only at the address that was dialled before.
"""

from __future__ import annotations

from twisted.python.failure import Failure

from p2pxfer.core.addresses import MIN_PORT, Endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import Cross, CrossAt, Crossed, CrossNow, CrossOutcome, Observed
from p2pxfer.core.traversal.discovery import Simultaneous, simultaneous_of
from p2pxfer.errors import P2pxferError
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.traversal.flight import Opener
from p2pxfer.net.traversal.freshports import fresh_ports
from p2pxfer.net.traversal.halfopen import HalfOpen
from p2pxfer.net.traversal.servercheck import ServerCheck
from p2pxfer.net.types import Reactor

CHECK_S = 8.0
"""How long the whole check may take, seconds."""


class CrossingCheck(ServerCheck[tuple[Simultaneous, str]]):
    """One check.  ``done`` fires once with the result and, if it is unknown, why; it fails only when it is cancelled,
    which ends the check."""

    def __init__(self, reactor: Reactor, opener: Opener, target: Endpoint) -> None:
        (self._port,) = fresh_ports(1)
        super().__init__(reactor, opener, target, [self._port])
        self._dial: HalfOpen | None = None
        self._asked = False
        self.answered = False
        """Whether the result, if it is unknown too, is the server's."""

    def start(self) -> None:
        """Let the server see the port."""
        self._ends_in(CHECK_S, self._end, "unknown", "the server is silent")
        self._show_ports()

    def _not_opened(self, failure: Failure) -> None:
        self._end("unknown", "the server could not be asked")

    def _lost(self, link: ServerLink, error: P2pxferError) -> None:
        self._end("unknown", "the server does not help to find out")

    def _on_message(self, link: ServerLink, message: Message) -> None:
        if self._over:  # several messages may come in one piece
            return
        match message:
            case Observed() if not self._asked:
                self._asked = True
                link.send(Cross())
            case CrossAt(port) if self._asked and self._dial is None:
                self._cross(link, port)
            case Crossed(outcome) if self._dial is not None:
                self._judge(outcome)
            case _:
                pass

    def _cross(self, link: ServerLink, port: int) -> None:
        """Dial the port, then have it dialled from."""
        if not port:
            self._judge("not-tried")
            return
        if port < MIN_PORT:
            self._end("unknown", "the server names a port that may not be dialled")
            return
        there = (str(self._target.host), port)
        try:
            self._dial = HalfOpen(self._reactor, self._port, there, lambda code: None)
        except OSError as error:
            self._end("unknown", f"the server's port could not be dialled: {error.strerror}")
        else:
            link.send(CrossNow())

    def _judge(self, outcome: CrossOutcome) -> None:
        self.answered = True
        self._end(*simultaneous_of(outcome))

    def _end(self, found: Simultaneous, why: str) -> None:
        self._end_with((found, why))

    def _release(self) -> None:
        if self._dial is not None:
            self._dial.close()
