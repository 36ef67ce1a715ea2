"""Whether the ports of a server are free, before anything is made for it or goes into the background.

Law: only what the system says of a TCP port at once is an answer; everything else shows when the port is opened.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from p2pxfer.core.text import safe_text
from p2pxfer.errors import ConfigError

_parse: Any = serverFromString  # carries no types


def check_free(text: str, option: str) -> None:
    """Open the port of a Twisted endpoint ``text`` and close it.

    Raises:
        ConfigError: another program has it, or this one may not have it; with what to do about ``option``.
    """
    results: list[object] = []
    try:
        _parse(_Trial(), text).listen(Factory()).addBoth(results.append)
    except (AttributeError, TypeError, ValueError, KeyError):
        return  # no endpoint, or none of TCP
    fault = results[0].value if results and isinstance(results[0], Failure) else None
    if isinstance(fault, OSError) and not isinstance(fault, socket.gaierror):
        raise cannot_listen(text, option, fault) from fault


def cannot_listen(text: str, option: str, fault: object) -> ConfigError:
    """What is said of a port that cannot be opened."""
    why = safe_text(str(getattr(fault, "strerror", None) or fault), 200)
    taken = getattr(fault, "errno", None) == errno.EADDRINUSE
    hint = f"; end the program that listens there, or give another {option}" if taken else ""
    return ConfigError(f"cannot listen on {safe_text(text, 300)}: {why}{hint}")


class _Trial:
    """The part of a reactor that an endpoint of TCP uses, for a port that nobody is to find."""

    def listenTCP(self, port: int, factory: object, backlog: int = 50, interface: str = "") -> None:
        """As Twisted's, without the port that it returns.  Raises ``OSError``."""
        family = socket.AF_UNSPEC if interface else socket.AF_INET
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV | socket.AI_PASSIVE
        found = socket.getaddrinfo(interface or None, port, family=family, type=socket.SOCK_STREAM, flags=flags)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen(backlog)
