"""This machine's own addresses, as candidates for a peer on the same network."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import ifaddr
from twisted.internet.address import IPv4Address, IPv6Address

from p2pxfer.core.addresses import Endpoint, canonical_endpoint, parse_endpoint, scope
from p2pxfer.core.messages import MAX_LAN

_ANY_PORT = 1024


def lan_candidates(first: str, port: int, loopback: bool) -> list[str]:
    """Endpoints of this machine with ``port``, the address ``first`` before all others, at most ``MAX_LAN``.

    ``first`` may be a public one: nobody is told of it, but the server sees that nothing translates it.
    ``loopback``: the server is on this very machine, so the only useful local network is the machine itself.
    """
    found = [first]
    for _, host in interface_addresses():
        if host not in found:
            found.append(host)
    useful = [host for host in found if host == first or _useful(host, loopback)]
    return [endpoint_text(host, port) for host in useful][:MAX_LAN]


def source_towards(target: Endpoint) -> str | None:
    """The own address from which this machine would dial ``target``; ``None`` if there is no way to it.

    A machine has several: privacy addresses (RFC 8981), several networks.  Which one is taken depends on the
    destination (RFC 6724, section 5), so whoever was seen with one has to dial from that one.  Nothing is sent.
    """
    family = socket.AF_INET6 if target.host.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(target.host), target.port))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def interface_towards(host: str) -> str | None:
    """The name of the network interface by which this machine reaches ``host``, an address as text.

    ``None`` where there is no way to it, or it is this machine.  Nothing is sent.
    """
    source = source_towards(parse_endpoint(endpoint_text(host, _ANY_PORT)))
    if source in (None, host):
        return None
    return next((name for name, address in interface_addresses() if address == source), None)


def interface_addresses() -> Iterator[tuple[str, str]]:
    """The name of each network interface with each of its addresses as text, in the order of the system."""
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            yield adapter.name, ip.ip if isinstance(ip.ip, str) else ip.ip[0]


def _useful(host: str, loopback: bool) -> bool:
    if "%" in host:
        return False
    where = scope(parse_endpoint(endpoint_text(host, _ANY_PORT)).host)
    return where == "loopback" if loopback else where in ("private", "shared")


def endpoint_text(host: str, port: int) -> str:
    """``host:port``, with brackets round an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def endpoint_of(address: IPv4Address | IPv6Address) -> Endpoint:
    """One end of a connection. Raises :class:`~p2pxfer.errors.AddressRefused` for a link-local one."""
    return canonical_endpoint(parse_endpoint(endpoint_text(address.host, address.port)))
