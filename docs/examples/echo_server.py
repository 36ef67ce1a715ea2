"""Gives back what it gets, to the contacts that are named: ``python echo_server.py bob``."""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react

from p2pxfer.endpoints import Machine, PeerServerEndpoint


class Echo(Protocol):
    """As every Twisted programmer has written it."""

    def dataReceived(self, data: bytes) -> None:
        """Say it again."""
        self.transport.write(data)  # type: ignore[union-attr]  # it is connected


async def main(reactor: Any) -> None:
    """Five lines: where, what, for whom, and until somebody stops it."""
    endpoint = PeerServerEndpoint(Machine.here(reactor), "echo", to=sys.argv[1:])
    port = await endpoint.listen(Factory.forProtocol(Echo))
    print(f"this is {port.getHost().id}", flush=True)
    await Deferred()


if __name__ == "__main__":
    react(main)
