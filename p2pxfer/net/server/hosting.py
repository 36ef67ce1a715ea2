"""A rendezvous server as a service of its machine: state directory, ports, and the address to hand out.

The state directory holds ``identity.pem`` (the server's key), ``names.sqlite``, ``lock`` (held while a server runs) and
``address`` (the line that clients need).
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from msgspec import Struct
from twisted.application.service import Service
from twisted.internet import address as tcp_address
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.addresses import Address, scope
from p2pxfer.core.server.effects import Listening, ServerSettings
from p2pxfer.core.text import path_text, safe_text
from p2pxfer.errors import ConfigError
from p2pxfer.net.private.filelocks import hold
from p2pxfer.net.private.identity import Identity, load_or_make, load_pair, make_private_directory
from p2pxfer.net.private.keyfile import KEY_FILE
from p2pxfer.net.private.wholefile import replace_whole
from p2pxfer.net.server.admission import AdmissionSettings
from p2pxfer.net.server.metrics import MetricsSite, metrics_endpoint
from p2pxfer.net.server.portcheck import cannot_listen, check_free
from p2pxfer.net.server.server import RendezvousServer
from p2pxfer.net.server.store import NameStore, check_database
from p2pxfer.net.traversal.ownaddresses import interface_addresses

_parse: Any = serverFromString  # carries no types
_HANDED_OUT: Final = ("public", "private", "shared")
"""The scopes of addresses that lead to this machine from others, the best first."""


class Hosting(Struct, frozen=True):
    """What an operator decides: ``listen`` are Twisted endpoint texts, the first one is handed out to clients."""

    listen: tuple[str, ...]
    state: Path
    observe: tuple[Address, ...] = ()
    certificate: Path | None = None
    metrics: str | None = None
    """The endpoint of the metrics; without it there are none."""


class StateDirectory:
    """The state directory of one running server."""

    def __init__(self, path: Path) -> None:
        """Make or open it, and lock it for the life of this process.

        Raises:
            ConfigError: it cannot be used, or another server uses it.
        """
        self.path = path
        try:
            make_private_directory(path)
            self._lock = hold(path / "lock")
        except BlockingIOError as error:
            raise ConfigError(f"another server uses the state directory {path_text(path)}") from error
        except OSError as error:
            raise ConfigError(f"the state directory {path_text(path)} cannot be used: {error.strerror}") from error

    def identity(self, certificate: Path | None) -> Identity:
        """The server's key: the one in ``certificate``, or its own, made at the first start."""
        if certificate is None:
            return load_or_make(self.path / KEY_FILE)
        return load_pair(certificate, certificate)

    def names(self) -> Path:
        """The checked name database."""
        path = self.path / "names.sqlite"
        check_database(path)
        return path

    def publish(self, address: str) -> None:
        """Write the line that clients need, whole or not at all.  Raises ``OSError``."""
        replace_whole(self.path / "address", f"{address}\n".encode("ascii"))

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._lock)


def own_addresses() -> list[Address]:
    """The addresses of this machine's interfaces, in the order of the system, without zone ids."""
    return [ipaddress.ip_address(text.partition("%")[0]) for _, text in interface_addresses()]


def primary_address(addresses: Iterable[Address]) -> Address:
    """The address to hand out: the first public one, else a private, else a shared one, else loopback; IPv4 first."""
    found = list(addresses)
    for wanted in _HANDED_OUT:
        for address in sorted(found, key=lambda one: one.version):
            if scope(address) == wanted:
                return address
    return IPv4Address("127.0.0.1")


def reachable(bound: Sequence[tuple[Address, int]], own: Iterable[Address]) -> list[tuple[Address, int]]:
    """Where a server may be reached that listens at ``bound`` on a machine with the addresses ``own``, the best first.

    That is the address of the first endpoint; each address comes once, with the first port at which it listens there.
    An endpoint that listens everywhere stands for :func:`primary_address` and for the others that go beyond this link.
    """
    found: dict[Address, int] = {}
    here = list(own)
    for host, port in bound:
        hosts = [host]
        if host.is_unspecified:
            fitting = [one for one in here if host.version == 6 or one.version == 4]
            others = [one for scoped in _HANDED_OUT for one in fitting if scope(one) == scoped]
            hosts = [primary_address(fitting), *others]
        for one in hosts:
            found.setdefault(one, port)
    return list(found.items())


def certified_host(certificate: x509.Certificate) -> str:
    """The first DNS name that a server certificate stands for.

    Raises:
        ConfigError: it names none.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [name for name in names.get_values_for_type(x509.DNSName) if not name.startswith("*")]
    except (x509.ExtensionNotFound, ValueError):
        hosts = []
    if not hosts:
        raise ConfigError("the certificate carries no host name (subjectAltName, DNS) to hand out to clients")
    return hosts[0]


class RendezvousService(Service):
    """Opens the ports, runs the server, says where it is.

    ``announce`` gets the line that clients need when the ports are open, and those for other addresses of the machine.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        hosting: Hosting,
        announce: Callable[[str], None],
        settings: ServerSettings,
        admission: AdmissionSettings,
    ) -> None:
        """Check everything that can be checked before the ports are opened, and make nothing where one is taken.

        Raises:
            ConfigError: an endpoint text, a port, the state directory, the key or the name database cannot be used.
        """
        self._hosting = hosting
        self._announce = announce
        self._endpoints = [_endpoint(reactor, text, "--listen") for text in hosting.listen]
        metrics = None if hosting.metrics is None else metrics_endpoint(hosting.metrics)
        self._metrics = None if metrics is None else (metrics, _endpoint(reactor, metrics, "--metrics"))
        self._metrics_port: IListeningPort | None = None
        self._ports: list[IListeningPort] = []
        for text in hosting.listen:
            check_free(text, "--listen")
        if metrics is not None:
            check_free(metrics, "--metrics")
        self._state = StateDirectory(hosting.state)
        self._identity = self._state.identity(hosting.certificate)
        self._host = None if hosting.certificate is None else certified_host(self._identity.certificate)
        store = NameStore(self._state.names(), time.time, reactor)
        self.server = RendezvousServer(reactor, self._identity, store, settings=settings, admission=admission)
        self.address = ""
        """What clients need, once the ports are open: ``HOST:PORT#PIN``, or ``HOST:PORT`` with a certificate."""

    def privilegedStartService(self) -> None:
        """Open the ports, before privileges are dropped.

        Raises:
            ConfigError: a port cannot be opened.
        """
        for text, endpoint in zip(self._hosting.listen, self._endpoints, strict=True):
            self._ports.append(_listen_now(endpoint, self.server.factory(), text, "--listen"))
        if self._metrics is not None:
            text, endpoint = self._metrics
            self._metrics_port = _listen_now(endpoint, MetricsSite(self.server), text, "--metrics")

    def startService(self) -> None:
        """Serve.  See :meth:`privilegedStartService`, which ``twist`` does not call."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted does not annotate services
        if not self._ports:
            self.privilegedStartService()
        bound = tuple(_bound(port) for port in self._ports)
        everywhere = any(host.is_unspecified for host, _ in bound)
        observe = self._hosting.observe
        if not observe and everywhere:
            observe = tuple(address for address in own_addresses() if scope(address) == "public")
        self.server.start(Listening(bound, observe))
        self.address, *others = self._lines(bound)
        self.log.info("listening on {ports}", ports=", ".join(f"{host} port {port}" for host, port in bound))
        if self._metrics_port is not None:
            host, number = _bound(self._metrics_port)
            self.log.info("metrics at http://{host}:{port}/metrics", host=host, port=number)
        try:
            self._state.publish(self.address)
        except OSError as error:
            self.log.error("the address cannot be written: {why}", why=error.strerror)
        for line in (self.address, *others):
            self._announce(line)

    def stopService(self) -> Deferred[Any]:
        """Close ports, connections and the store; what a later start needs stays in the state directory."""
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        closing: list[Deferred[Any]] = []
        for port in (*self._ports, self._metrics_port):
            done = None if port is None else port.stopListening()
            if isinstance(done, Deferred):
                closing.append(done)
        self._ports, self._metrics_port = [], None
        self.server.stop()
        self._state.close()
        return DeferredList(closing)

    def _lines(self, bound: Sequence[tuple[Address, int]]) -> list[str]:
        """What clients may be given, the best first; with a certificate, whose name leads to one address, one line."""
        if self._host is not None:
            return [f"{self._host}:{bound[0][1]}"]
        found = reachable(bound, own_addresses())
        hosts = [(str(host) if host.version == 4 else f"[{host}]", port) for host, port in found]
        return [f"{host}:{port}#{self._identity.id}" for host, port in hosts]


def _endpoint(reactor: Any, text: str, option: str) -> IStreamServerEndpoint:
    try:
        endpoint: IStreamServerEndpoint = _parse(reactor, text)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{option} {_show(text)} is no endpoint such as tcp:8877") from error
    return endpoint


def _listen_now(endpoint: IStreamServerEndpoint, factory: Any, text: str, option: str) -> IListeningPort:
    """Open a port; TCP endpoints answer at once.

    Raises:
        ConfigError: it cannot be opened, or is not TCP.
    """
    results: list[Any] = []
    endpoint.listen(factory).addBoth(results.append)
    result = results[0] if results else None
    if isinstance(result, Failure):
        fault = result.value
        raise cannot_listen(text, option, fault.socketError if isinstance(fault, CannotListenError) else fault)
    if result is None or not isinstance(result.getHost(), tcp_address.IPv4Address | tcp_address.IPv6Address):
        raise ConfigError(f"{option} {_show(text)} is not TCP")
    port: IListeningPort = result
    return port


def _bound(port: Any) -> tuple[Address, int]:
    host = port.getHost()
    return ipaddress.ip_address(host.host.partition("%")[0]), host.port


def _show(text: str) -> str:
    return safe_text(text, 300)
