"""The line by which a rendezvous server is named: ``HOST:PORT#PIN``, where the pin may be missing."""

from __future__ import annotations

import re

from msgspec import Struct

from p2pxfer.core.ids import PeerId, parse_id
from p2pxfer.core.text import safe_text
from p2pxfer.errors import UsageError

DEFAULT_PORT = 8877
_LINE = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:#\[\]/]+))(?::(?P<port>[0-9]{1,5}))?(?:#(?P<pin>.+))?")


class ServerLine(Struct, frozen=True):
    """A parsed address line; without ``pin`` the certificate must name the host."""

    host: str
    port: int
    pin: PeerId | None


def parse_server_line(text: str) -> ServerLine:
    """The parts of an address line.

    Raises:
        UsageError: wrong form, or a pin with wrong check characters.
    """
    match = _LINE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{safe_text(text, 100)} is not a server address; its form is HOST:PORT#PIN")
    port = int(match["port"] or DEFAULT_PORT)
    if not 1 <= port <= 65535:
        raise UsageError(f"{port} is not a port")
    pin = parse_id(match["pin"], "PIN of the server") if match["pin"] else None
    return ServerLine(match["v6"] or match["host"], port, pin)
