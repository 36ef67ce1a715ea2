"""The line by which a rendezvous server is named: ``HOST:PORT#PIN``, where the pin may be missing."""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct

from p2pxfer.core.ids import PeerId, parse_id
from p2pxfer.core.text import safe_text
from p2pxfer.errors import UsageError

DEFAULT_PORT = 8877
_LINE = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:#\[\]/]+))(?::(?P<port>[0-9]{1,5}))?(?:#(?P<pin>.+))?")
_LABEL = re.compile(r"\w(?:[\w-]{0,61}\w)?")
_MOST_HOST = 253


class ServerLine(Struct, frozen=True):
    """A parsed address line; without ``pin`` the certificate must name the host."""

    host: str
    port: int
    pin: PeerId | None


def parse_server_line(text: str) -> ServerLine:
    """The parts of an address line.

    Raises:
        UsageError: wrong form, no host that can exist, or a pin with wrong check characters.
    """
    match = _LINE.fullmatch(text.strip())
    if match is None:
        raise _none(text, _likely(text))
    host = match["v6"] or match["host"]
    if not (_is_v6(host) if match["v6"] else _is_host(host)):
        raise _none(text, f"{safe_text(host, 100)} is neither a host name nor an address")
    if not (match["v6"] or "." in host or match["port"] or match["pin"]):
        # One word alone is a slip: a host that only this network knows has a port or a pin beside it.
        raise _none(text, "it has neither a port nor a pin")
    port = int(match["port"] or DEFAULT_PORT)
    if not 1 <= port <= 65535:
        raise UsageError(f"{port} is not a port; one is 1 to 65535")
    pin = parse_id(match["pin"], "PIN of the server") if match["pin"] else None
    return ServerLine(host, port, pin)


def _none(text: str, why: str) -> UsageError:
    return UsageError(
        f"{safe_text(text, 100)} is not a server address{f': {why}' if why else ''}; its form is HOST:PORT#PIN, as the"
        " server prints it"
    )


def _likely(text: str) -> str:
    """What may be wrong with a line that has not the form of one; empty where nobody knows."""
    if "://" in text:
        return f"it begins with {safe_text(text.strip().partition('://')[0], 20)}://"
    line = text.partition("#")[0].strip()
    return "an IPv6 address stands in brackets" if line.count(":") > 1 and "[" not in line else ""


def _is_v6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_host(host: str) -> bool:
    """Whether it may be a host's name, or is an IPv4 address: what ends in digits alone is nothing else."""
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdecimal():
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            return False
    return len(host) <= _MOST_HOST and all(_LABEL.fullmatch(label) for label in labels)
