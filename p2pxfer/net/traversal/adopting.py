"""A socket that has connected becomes a connection of the reactor."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from p2pxfer.net.traversal.halfopen import EXHAUSTED, reset
from p2pxfer.net.types import Reactor

_log = Logger()


class _Connected(Factory):
    """Makes the protocol for a connection that was dialled; ``taken`` says whether it got any."""

    noisy = False
    taken = False

    def __init__(self, build: Callable[[IAddress], IProtocol | None]) -> None:
        self.build = build

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The protocol of the factory inside, and whether there was one."""
        protocol = self.build(addr) if addr is not None else None
        self.taken = protocol is not None
        return protocol


def adopt(
    reactor: Reactor,
    sock: socket.socket,
    family: socket.AddressFamily,
    build: Callable[[IAddress], IProtocol | None],
    make_room: Callable[[], bool],
) -> None:
    """Give a connection the protocol that ``build`` makes, or reset it if that is none; ``sock`` is closed either way.

    The reactor makes a descriptor of its own.  Where there is none left, ``make_room`` is asked to close others, until
    it says that it has none.
    """
    factory = _Connected(build)
    try:
        _adopt(reactor, sock, family, factory, make_room)
    finally:
        if factory.taken:
            sock.close()
        else:
            reset(sock)


def _adopt(
    reactor: Reactor,
    sock: socket.socket,
    family: socket.AddressFamily,
    factory: _Connected,
    make_room: Callable[[], bool],
) -> None:
    try:
        reactor.adoptStreamConnection(sock.fileno(), family, cast(Any, factory))
    except OSError as error:
        if error.errno in EXHAUSTED and make_room():
            _adopt(reactor, sock, family, factory, make_room)
        else:
            _log.info("a connection was lost at once: {why}", why=error)
