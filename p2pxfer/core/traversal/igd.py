"""The texts of UPnP-IGD: finding a router's control address, and asking it for a TCP port.  Pure functions.

Laws of this file:

1. A router is believed about itself only: the address of its description, and of its control, must be the numeric
   address from which it answered.  So no answer can make this machine fetch anything from anybody else.
2. Every text has a largest size, and XML with a document type is refused: without one there are no entities.
3. Nothing of a router's texts is shown to people but numbers.

Sources: UPnP Device Architecture 1.1, sections 1.3 and 3.1; WANIPConnection:1 and :2.  IGD:2 routers answer searches
for IGD:1 too (section 1.3.2).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Final
from urllib.parse import urljoin, urlsplit
from xml.parsers import expat

from msgspec import Struct

SEARCH_AT: Final = ("239.255.255.250", 1900)
MAX_ANSWER: Final = 2048
"""Longest answer to a search, octets."""
MAX_TEXT: Final = 65_536
"""Longest description or SOAP answer, octets."""
MAX_ELEMENTS: Final = 2000
MAX_URL: Final = 512
DESCRIPTION: Final = "p2pxfer"
"""What the router's own page shows beside the port."""

_DEVICE: Final = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
_SERVICE: Final = re.compile(r"urn:schemas-upnp-org:service:WAN(IP|PPP)Connection:[12]", re.ASCII)
_URL_CHARS: Final = re.compile(r"[!-~]+", re.ASCII)
_ENVELOPE: Final = (
    '<?xml version="1.0"?>\r\n'
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
    ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
    '<u:{action} xmlns:u="{service}">{arguments}</u:{action}></s:Body></s:Envelope>\r\n'
)

PERMANENT_ONLY: Final = 725
"""The router gives ports without an end only."""
CONFLICT: Final = 718
"""The outside port is somebody else's."""


class BadAnswer(Exception):
    """A router's text is not what it should be; the message says why, without quoting it."""


class Control(Struct, frozen=True):
    """Where and as what a router's connection service is asked."""

    url: str
    service: str


class Reply(Struct, frozen=True):
    """A SOAP answer: its arguments by name, or the error code (0 if there is none)."""

    arguments: dict[str, str] = {}
    error: int = 0


def search() -> bytes:
    """The datagram that asks whether a router is there."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {SEARCH_AT[0]}:{SEARCH_AT[1]}",
        'MAN: "ssdp:discover"',
        "MX: 1",
        f"ST: {_DEVICE}",
        "\r\n",
    )
    return "\r\n".join(lines).encode("ascii")


def location(datagram: bytes, sender: IPv4Address) -> str:
    """Where the description is, from an answer to :func:`search` that came from ``sender``.

    Raises:
        BadAnswer: it is no answer, or names an address that is not the sender's.
    """
    if len(datagram) > MAX_ANSWER or not datagram.startswith(b"HTTP/1."):
        raise BadAnswer("no answer to a search")
    head, *lines = datagram.decode("latin-1").split("\r\n")
    headers = dict(line.partition(":")[::2] for line in reversed(lines))
    fields = {name.strip().lower(): value.strip() for name, value in headers.items()}
    if head.split(" ")[1:2] != ["200"] or "InternetGatewayDevice" not in fields.get("st", ""):
        raise BadAnswer("an answer to another search")
    return own_url(fields.get("location", ""), sender)


def own_url(text: str, sender: IPv4Address) -> str:
    """``text``, if it is a plain http URL at the numeric address ``sender``.

    Raises:
        BadAnswer: anything else.
    """
    if len(text) > MAX_URL or not _URL_CHARS.fullmatch(text):
        raise BadAnswer("no URL")
    try:
        parts = urlsplit(text)
        port = parts.port or 80
    except ValueError:
        raise BadAnswer("no URL") from None
    if parts.scheme != "http" or parts.hostname != str(sender) or parts.username is not None:
        raise BadAnswer("a URL that is not the router's own")
    path = parts.path or "/"
    return f"http://{sender}:{port}{path}" + (f"?{parts.query}" if parts.query else "")


def control(description: bytes, base: str, sender: IPv4Address) -> Control:
    """The connection service in a router's description, which was fetched from ``base``.

    Raises:
        BadAnswer: there is none, it is not the router's own, or the text is no such description.
    """
    services: list[dict[str, str]] = [{}]
    url_base = base
    for path, text in _leaves(description):
        if path[-1] == "URLBase" and text:
            url_base = text
        elif len(path) > 1 and path[-2] == "service":
            if path[-1] in services[-1]:
                services.append({})
            services[-1][path[-1]] = text
    for service in services:
        kind = service.get("serviceType", "")
        if _SERVICE.fullmatch(kind) and "controlURL" in service:
            try:
                return Control(own_url(urljoin(url_base, service["controlURL"]), sender), kind)
            except ValueError:
                raise BadAnswer("no URL") from None
    raise BadAnswer("no connection service")


def request(action: str, service: str, arguments: dict[str, str | int]) -> bytes:
    """The body of a SOAP request; arguments are numbers, addresses and words of this program."""
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in arguments.items())
    return _ENVELOPE.format(action=action, service=service, arguments=inner).encode("ascii")


def add_arguments(client: IPv4Address, internal: int, external: int, lifetime: int) -> dict[str, str | int]:
    """What AddPortMapping takes; ``lifetime`` in seconds, 0 for ever."""
    return {
        "NewRemoteHost": "",
        "NewExternalPort": external,
        "NewProtocol": "TCP",
        "NewInternalPort": internal,
        "NewInternalClient": str(client),
        "NewEnabled": 1,
        "NewPortMappingDescription": DESCRIPTION,
        "NewLeaseDuration": lifetime,
    }


def delete_arguments(external: int) -> dict[str, str | int]:
    """What DeletePortMapping takes."""
    return {"NewRemoteHost": "", "NewExternalPort": external, "NewProtocol": "TCP"}


def reply(body: bytes) -> Reply:
    """What a SOAP answer says.

    Raises:
        BadAnswer: it is none; one without an error must have the element that answers an action, so that no other
            page of a router passes for a success.
    """
    leaves = _leaves(body)
    found = {path[-1]: text for path, text in leaves}
    code = found.get("errorCode")
    if code is None:
        if not any(name.endswith("Response") for path, _ in leaves for name in path):
            raise BadAnswer("no answer to an action")
        return Reply(found)
    if not re.fullmatch("[0-9]{1,5}", code, re.ASCII):
        raise BadAnswer("an error without a number")
    return Reply(error=int(code) or -1)


def external_address(answer: Reply) -> IPv4Address:
    """The address in the answer to GetExternalIPAddress.

    Raises:
        BadAnswer: there is none.
    """
    try:
        return IPv4Address(answer.arguments.get("NewExternalIPAddress", ""))
    except ValueError:
        raise BadAnswer("no outside address") from None


def _leaves(text: bytes) -> list[tuple[list[str], str]]:
    """The elements without children of a document: the names from the root to each, without prefixes, and its text.

    Raises:
        BadAnswer: no XML, too much of it, or a document type.
    """
    if len(text) > MAX_TEXT:
        raise BadAnswer("too long a text")
    found: list[tuple[list[str], str]] = []
    path: list[str] = []
    inside: list[str] = []
    leaf = False
    count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        nonlocal leaf, count
        count += 1
        if count > MAX_ELEMENTS or len(path) > 32:
            raise BadAnswer("too many elements")
        path.append(name.rpartition(":")[2])
        inside.clear()
        leaf = True

    def end(name: str) -> None:
        """An element ends: it is noted if no other one was in it."""
        nonlocal leaf
        if leaf:
            found.append((list(path), "".join(inside).strip()))
        path.pop()
        leaf = False

    def refuse(*_: object) -> None:
        """A document type, by which a small document could become a large one."""
        raise BadAnswer("a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = inside.append
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, ValueError, LookupError):  # the last two: odd encodings
        raise BadAnswer("no XML") from None
    return found
