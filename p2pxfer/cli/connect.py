"""From an address line to what the rendezvous client needs."""

from __future__ import annotations

from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.net.serverdial import ServerAddress
from p2pxfer.net.servertrust import ServerTrust


def server_address(line: ServerLine) -> ServerAddress:
    """Where the server is and what proves it: its pin, or its host name."""
    return ServerAddress(line.host, line.port, ServerTrust(host=line.host, pin=line.pin))
