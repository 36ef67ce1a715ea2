"""What the checks with the server's help have in common: local ports that it is to see, one deadline, one end.

Laws of this file:

1. ``done`` fires once, or fails when it is cancelled; either way nothing of the check is left behind.
2. There is one deadline at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol
from twisted.python.failure import Failure

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import VERSION, Observe
from p2pxfer.errors import P2pxferError
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.traversal.flight import Opener
from p2pxfer.net.types import Reactor

Found = TypeVar("Found")


class ServerCheck(ABC, Generic[Found]):
    """One check with the server at ``target``, from some local ``ports``."""

    def __init__(self, reactor: Reactor, opener: Opener, target: Endpoint, ports: Iterable[int]) -> None:
        self._reactor = reactor
        self._opener = opener
        self._target = target
        self._links = {ServerLink(reactor, self._on_message, self._lost): port for port in ports}
        self._openings: list[Deferred[IProtocol]] = []
        self._timer: IDelayedCall | None = None
        self._over = False
        self.done: Deferred[Found] = Deferred(lambda _: self._stop())

    def _show_ports(self) -> None:
        """Let the server see each port."""
        for link, port in list(self._links.items()):
            link.secured.addCallbacks(self._secured, lambda _: None, callbackArgs=(link, port))
            opening = self._opener(link, str(self._target.host), self._target.port, port)
            self._openings.append(opening)
            opening.addErrback(self._not_opened)

    def _secured(self, _: object, link: ServerLink, port: int) -> None:
        link.send(Observe(version=VERSION, tag=port))

    @abstractmethod
    def _not_opened(self, failure: Failure) -> None:
        """The server could not be dialled."""

    @abstractmethod
    def _on_message(self, link: ServerLink, message: Message) -> None:
        """The server says something; after the end too, as several messages may come in one piece."""

    @abstractmethod
    def _lost(self, link: ServerLink, error: P2pxferError) -> None:
        """A connection to the server is gone."""

    def _ends_in(self, seconds: float, call: Callable[..., None], *arguments: object) -> None:
        """The deadline from now on."""
        self._cancel_timer()
        self._timer = self._reactor.callLater(seconds, call, *arguments)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _end_with(self, found: Found) -> None:
        """This is what was found, unless the check has ended before."""
        if not self._over:
            self._stop()
            self.done.callback(found)

    def _stop(self) -> None:
        self._over = True
        self._cancel_timer()
        for opening in self._openings:
            opening.cancel()
        for link in self._links:
            link.close()
        self._release()

    def _release(self) -> None:  # few hold more
        """Give back whatever else the check holds."""
