"""A program that uses the library: ``serve PATH`` echoes for bob, ``ask PATH`` talks to alice's echo until it is told.

Prints an object for every active path and every round that came back whole.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.python.failure import Failure

from p2pxfer.endpoints import Machine, PeerClientEndpoint, PeerServerEndpoint
from p2pxfer.status import Event, Path

ROUND = 50_000


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def tell(event: Event) -> None:
    if isinstance(event, Path) and event.state == "active":
        say(path=event.path)


class Echo(Protocol):
    """Says everything again."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Talk(Protocol):
    """Says something, hears it back whole, and so on."""

    def __init__(self) -> None:
        self.rounds = 0
        self.over = False
        self.done: Deferred[None] = Deferred()
        self._said = self._heard = b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self._heard = b""
        self._said = hashlib.shake_128(str(self.rounds).encode()).digest(ROUND)
        self.transport.write(self._said)

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self._heard += data
        assert self._said.startswith(self._heard), "something else came back"
        if self._heard != self._said:
            return
        self.rounds += 1
        say(round=self.rounds)
        if self.over:
            self.transport.loseConnection()
        else:
            self.connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.over:
            self.done.callback(None)
        else:
            self.done.errback(reason)


class Command(Protocol):
    """Any line on standard input ends the talk after its round."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def dataReceived(self, data: bytes) -> None:
        self._talk.over = True


async def main(reactor: Any, role: str, path: Any) -> None:
    machine = Machine.here(reactor, path=path, tell=tell)
    if role == "serve":
        await PeerServerEndpoint(machine, "echo", to=["bob"]).listen(Factory.forProtocol(Echo))
        say(serves=True)
        await Deferred[None]()
    talk = Talk()
    await connectProtocol(PeerClientEndpoint(machine, "alice", "echo"), talk)
    StandardIO(Command(talk))
    await talk.done


if __name__ == "__main__":
    react(main, sys.argv[1:])
