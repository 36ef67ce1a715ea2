"""Says something to the echo of a contact: ``python echo_client.py alice``."""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import react
from twisted.python.failure import Failure

from p2pxfer.endpoints import Machine, PeerClientEndpoint


class Greeter(Protocol):
    """Greets, and is done when it has heard its own words."""

    WORDS = b"hello through two NATs"

    def __init__(self) -> None:
        self.heard = b""
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        """Speak first."""
        self.transport.write(self.WORDS)  # type: ignore[union-attr]  # it is connected

    def dataReceived(self, data: bytes) -> None:
        """Listen."""
        self.heard += data
        if self.heard == self.WORDS:
            self.transport.loseConnection()  # type: ignore[union-attr]  # it is connected

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Everything has been said."""
        self.done.callback(self.heard)


async def main(reactor: Any) -> None:
    """Connect to a contact by its name, as to a host."""
    endpoint = PeerClientEndpoint(Machine.here(reactor), sys.argv[1], "echo")
    greeter = await connectProtocol(endpoint, Greeter())
    print((await greeter.done).decode())


if __name__ == "__main__":
    react(main)
