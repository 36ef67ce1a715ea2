"""Names of services, and the addresses that people type: what is exposed, whose service is wanted, where to listen."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from p2pxfer.errors import UsageError

DEFAULT_SERVICE: Final = "default"
"""What is meant where no service is named."""
MAX_OFFERED: Final = 16
"""Most services of one program; each has a connection to the server, sessions and memory for these of its own."""
_SERVICE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_HOST: Final = re.compile(r"\[[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9._-]{1,32})?\]|[A-Za-z0-9._-]{1,253}")


def check_service(text: str) -> str:
    """``text`` itself if it names a service.

    Raises:
        UsageError: it does not.
    """
    if _SERVICE.fullmatch(text) is None:
        raise UsageError(
            "the name of a service has 1 to 32 characters from a to z, 0 to 9, '.', '_' and '-', the first one a letter"
            " or digit"
        )
    return text


def parse_wanted(text: str) -> tuple[str, str]:
    """``PEER`` or ``PEER:SERVICE`` as the two.

    Raises:
        UsageError: the service is no name of one, or there is no peer.
    """
    peer, colon, service = text.partition(":")
    if not peer:
        raise UsageError("a service is named PEER or PEER:SERVICE")
    return peer, check_service(service) if colon else DEFAULT_SERVICE


class Offered(Struct, frozen=True):
    """What contacts call ``service`` is at ``host`` and ``port``."""

    service: str
    host: str
    port: int


def parse_offered(texts: Iterable[str], called: str | None) -> list[Offered]:
    """``HOST:PORT`` or ``NAME=HOST:PORT``, once or several times; ``called`` is the name of one that bears none.

    Raises:
        UsageError: one of them is neither, or there are too many, or two of one name.
    """
    found: list[Offered] = []
    unnamed = 0
    for text in texts:
        name, equals, target = text.rpartition("=")
        unnamed += not equals
        found.append(Offered(check_service(name if equals else called or DEFAULT_SERVICE), *parse_target(target)))
    if len(found) > MAX_OFFERED:
        raise UsageError(f"one command exposes at most {MAX_OFFERED} services")
    if called is not None and (unnamed != 1 or len(found) > 1):
        raise UsageError("--as names one HOST:PORT; several are given their names as NAME=HOST:PORT")
    for number, one in enumerate(found):
        if any(other.service == one.service for other in found[:number]):
            raise UsageError(f"two services are called {one.service}; each needs a name, as in NAME=HOST:PORT")
    return found


def parse_target(text: str, default_host: str | None = None) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT``, with ``default_host`` also ``PORT``, as host and port.

    Raises:
        UsageError: it is none of these.
    """
    host, colon, port = text.rpartition(":")
    if not colon and default_host is not None:
        host = default_host
    if _HOST.fullmatch(host) is None or re.fullmatch(r"[0-9]{1,9}", port) is None:
        alone = "" if default_host is None else "PORT, "
        raise UsageError(f"an address is {alone}HOST:PORT, or [IPV6]:PORT")
    if int(port) > 65535:
        raise UsageError(f"a port is a number up to 65535, and not {port}")
    return host.strip("[]"), int(port)
