"""What a chat says of a peer that does not come: once, since without a terminal nothing else shows that it waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall

from p2pxfer.net.types import Reactor

ALONE_S: Final = 1.0
"""After what time a peer that has not come is said to be waited for, seconds."""


class ChatWaiting:
    """``note`` shows a line to the user, whose ``peer`` may come until :meth:`stop`."""

    def __init__(self, reactor: Reactor, peer: str, note: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._peer = peer
        self._note = note
        self._call: IDelayedCall | None = None
        self._stopped = False

    def begin(self) -> None:
        """The chat waits from now on."""
        if not self._stopped:
            self._call = self._reactor.callLater(ALONE_S, self._alone)

    def stop(self) -> None:
        """The peer is here, or the chat ends: nothing is said any more."""
        self._stopped = True
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _alone(self) -> None:
        self._call = None
        self._note(f"no connection with {self._peer} yet; what is said is delivered when there is one")
