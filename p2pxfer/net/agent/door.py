"""The agent's socket, on which commands of the same user ring and ask; see :mod:`p2pxfer.core.agent.control`.

Laws of this file:

1. It is private by its directory (0700) and its own mode (0600), and where the system tells who connects, nobody but
   the same user is answered.
2. A connection is one short line and one answer, within :data:`DEADLINE_S`; there are :data:`MAX_CONNECTIONS` at once.
3. The socket of an agent that was killed is replaced; whoever does that holds the lock of the home.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IReactorTime, IReactorUNIX
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from p2pxfer.core.agent.control import (
    MAX_QUESTION,
    Answer,
    Declined,
    Question,
    decode_question,
    encode_line,
)
from p2pxfer.core.text import path_text, safe_text
from p2pxfer.errors import ConfigError, P2pxferError, ProtocolBreach
from p2pxfer.net.agent.process import peer_of
from p2pxfer.net.agent.room import SocketName

DEADLINE_S: Final = 5.0
MAX_CONNECTIONS: Final = 16


class Door:
    """The socket in ``folder``; ``answer`` gets each question, and may raise a :class:`P2pxferError`."""

    def __init__(self, reactor: Any, folder: Path, answer: Callable[[Question], Answer]) -> None:
        """``reactor``: one with UNIX sockets."""
        self._reactor: IReactorUNIX = reactor
        self._folder = folder
        self._factory = _Visitors(reactor, answer)
        self._name: SocketName | None = None
        self._port: IListeningPort | None = None

    def open(self) -> None:
        """Be there.

        Raises:
            ConfigError: there can be no socket.
        """
        try:
            self._name = SocketName(self._folder)
            path = Path(self._name.name)
            path.unlink(missing_ok=True)
            self._port = self._reactor.listenUNIX(str(path), self._factory, mode=0o600)
        except (OSError, CannotListenError) as error:
            fault = error.socketError if isinstance(error, CannotListenError) else error
            where = path_text(self._folder)
            why = getattr(fault, "strerror", None) or safe_text(str(fault), 200)
            raise ConfigError(f"the agent cannot have its socket in {where}: {why}") from error

    async def close(self) -> None:
        """Be there no more."""
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        self._factory.drop()
        if self._name is not None:
            self._name.close()


class _Visitors(Factory):
    noisy = False

    def __init__(self, clock: IReactorTime, answer: Callable[[Question], Answer]) -> None:
        self.clock = clock
        self.answer = answer
        self.here: set[_Visitor] = set()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Somebody connected; one too many is turned away."""
        return _Visitor(self) if len(self.here) < MAX_CONNECTIONS else None

    def drop(self) -> None:
        """End all connections."""
        for visitor in list(self.here):
            visitor.transport.abortConnection()  # type: ignore[union-attr]  # it is connected


class _Visitor(LineOnlyReceiver):
    log = Logger()
    delimiter = b"\n"
    MAX_LENGTH = MAX_QUESTION

    def __init__(self, visitors: _Visitors) -> None:
        self._visitors = visitors
        self._late: IDelayedCall | None = None
        self._answered = False

    def connectionMade(self) -> None:
        """See Twisted."""
        self._visitors.here.add(self)
        tcp: Any = self.transport
        self._late = self._visitors.clock.callLater(DEADLINE_S, tcp.abortConnection)
        if not _is_same_user(tcp.getHandle()):
            self._say(Declined("this is another user's agent"))

    def lineReceived(self, line: bytes) -> None:
        """A question."""
        if self._answered:
            return
        try:
            self._say(self._visitors.answer(decode_question(line)))
        except P2pxferError as error:
            self._say(Declined(error.message))
        except Exception:
            self.log.failure("a question could not be answered")
            self._say(Declined("a fault inside the agent"))

    def lineLengthExceeded(self, line: bytes) -> None:
        """Nobody asks that much."""
        self._say(Declined(ProtocolBreach(f"a question has at most {MAX_QUESTION} bytes").message))

    def _say(self, answer: Answer) -> None:
        if not self._answered:
            self._answered = True
            tcp: Any = self.transport
            tcp.write(encode_line(answer))
            tcp.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See Twisted."""
        self._visitors.here.discard(self)
        if self._late is not None and self._late.active():
            self._late.cancel()


def _is_same_user(connection: socket.socket) -> bool:
    """Whether the process at the other end is this user's; true where the system does not tell."""
    told = peer_of(connection)
    return told is None or told[1] == os.geteuid()
