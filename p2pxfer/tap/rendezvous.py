"""``twistd p2pxfer-rendezvous`` and ``twist p2pxfer-rendezvous``: the command line of the rendezvous server."""

from __future__ import annotations

import ipaddress
import socket
import sys
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from p2pxfer.core.addresses import Address
from p2pxfer.core.rates import parse_size
from p2pxfer.core.server.effects import ServerSettings
from p2pxfer.core.text import safe_text
from p2pxfer.errors import ConfigError, DiskError, P2pxferError, UsageError
from p2pxfer.net.descriptors import raise_descriptor_limit
from p2pxfer.net.server.admission import AdmissionSettings, descriptor_ceiling
from p2pxfer.net.server.hosting import Hosting, RendezvousService
from p2pxfer.tap.manners import ProgramOptions, stop, stop_once, use_monotonic_time

PORTS = (8877, 8878)
PROGRAM = "p2pxfer-rendezvous"
MIN_RELAY_BYTES = 1 << 20
"""Least limit of a relay session, bytes: what the peers say until data flows is a hundredth of it."""


class Options(ProgramOptions):
    """The options; everything is checked when the service is made."""

    program = PROGRAM
    synopsis = (
        "[--listen ENDPOINT]... [--state DIR] [--observe ADDRESS]... [--certificate FILE] [--relay-bytes SIZE]"
        " [--metrics ENDPOINT]"
    )
    longdesc = (
        "The rendezvous server of p2pxfer: it registers names, introduces peers and relays what they cannot send "
        "directly. It prints the line that clients need and writes it to DIR/address."
    )
    optParameters = [  # Twisted reads and never changes it
        ["state", "s", "p2pxfer-state", "Directory for the server's key and the registered names."],
        [
            "certificate",
            "c",
            None,
            "PEM file with a key, its certificate and the chain, for a server with a host name.",
        ],
        ["connections-per-source", None, "64", "Most connections of one IPv4 address or IPv6 /64."],
        [
            "relay-bytes",
            None,
            None,
            "Most bytes that one relay session carries, both ways together, such as 500M or 10G. Default: any number.",
        ],
        [
            "metrics",
            None,
            None,
            "Where Prometheus may read figures, an endpoint such as tcp:9477, which is on loopback.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted does not annotate it
        self["listen"] = []
        self["observe"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Where to accept clients, a Twisted endpoint; may be repeated. Default: tcp6:8877 and tcp6:8878, or tcp."""
        self["listen"].append(endpoint)

    def opt_observe(self, address: str) -> None:
        """A further address of this host at which clients see how their NAT maps; may be repeated."""
        self["observe"].append(address)

    opt_l = opt_listen


def default_listen() -> tuple[str, ...]:
    """Both ports: for IPv6 and, through the same sockets, for IPv4, or for IPv4 alone where there is nothing else."""
    try:
        with socket.socket(socket.AF_INET6) as trial:
            both = trial.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
    except OSError:
        both = False
    kind = "tcp6" if both else "tcp"
    return tuple(f"{kind}:{port}:backlog=1024" for port in PORTS)


def makeService(options: Options) -> RendezvousService:
    """The service that ``options`` describe; what is wrong with them ends the process with one line and status 2."""
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    stop_once(reactor)
    try:
        service = _Service(reactor, *_settings(options))
    except P2pxferError as error:
        stop(PROGRAM, error, options.parent)
    service.given = options.parent
    return service


class _Service(RendezvousService):
    """The service with the manners of a command: a port that is taken is one line, not a traceback."""

    given: Any = None
    """What ``twistd`` or ``twist`` was told itself."""

    def __init__(self, reactor: Any, hosting: Hosting, settings: ServerSettings, admission: AdmissionSettings) -> None:
        super().__init__(reactor, hosting, _announce, settings, admission)

    def privilegedStartService(self) -> None:
        """Open the ports, or end the program with the error that a user can do something about, in one line."""
        try:
            super().privilegedStartService()
        except (ConfigError, DiskError) as error:
            stop(PROGRAM, error, self.given)


def _settings(options: Options) -> tuple[Hosting, ServerSettings, AdmissionSettings]:
    raise_descriptor_limit()
    certificate = options["certificate"]
    hosting = Hosting(
        listen=tuple(options["listen"]) or default_listen(),
        state=Path(options["state"]).absolute(),
        observe=tuple(_address(text) for text in options["observe"]),
        certificate=None if certificate is None else Path(certificate).absolute(),
        metrics=options["metrics"],
    )
    most = _count("connections-per-source", options["connections-per-source"])
    standard = AdmissionSettings(ceiling=descriptor_ceiling())
    admission = replace(standard, per_source=most, pending_per_source=max(standard.pending_per_source, most // 4))
    return hosting, ServerSettings(relay_bytes=_relay_bytes(options["relay-bytes"])), admission


def _address(text: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise UsageError(f"--observe {safe_text(text, 100)} is no IP address") from error


def _count(option: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"--{option} must be a positive number")
    return int(text)


def _relay_bytes(text: str | None) -> int:
    if text is None:
        return 0
    size = parse_size(text)
    if size is None or not MIN_RELAY_BYTES <= size < 2**63:
        raise UsageError(f"--relay-bytes is a number of bytes such as 500M or 10G, at least {MIN_RELAY_BYTES >> 20}M")
    return size


def _announce(address: str) -> None:
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()
