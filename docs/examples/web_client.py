"""Reads a page of a web server behind NAT: ``python web_client.py alice web /index.html``.

``p2pxfer expose 127.0.0.1:80 --as web --to bob`` makes it one of alice's services for bob.
"""

import sys
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import react
from twisted.web.client import URI, Agent, readBody
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from p2pxfer.endpoints import Machine, PeerClientEndpoint


@implementer(IAgentEndpointFactory)
class Peers:
    """Every URL leads to one service, whatever host it names."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See Twisted."""
        return self._endpoint


async def main(reactor: Any) -> None:
    """Twisted's HTTP client, unchanged."""
    peer, service, path = sys.argv[1:]
    endpoint = PeerClientEndpoint(Machine.here(reactor), peer, service)
    agent = Agent.usingEndpointFactory(reactor, Peers(endpoint))
    response = await agent.request(b"GET", b"http://peer" + path.encode())
    print((await readBody(response)).decode())


if __name__ == "__main__":
    react(main)
