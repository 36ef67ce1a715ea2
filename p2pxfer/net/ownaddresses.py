"""This machine's own addresses, as candidates for a peer on the same network."""

from __future__ import annotations

import ifaddr

from p2pxfer.core.addresses import parse_endpoint, scope
from p2pxfer.core.messages import MAX_LAN

_ANY_PORT = 1024


def lan_candidates(first: str, port: int, loopback: bool) -> list[str]:
    """Endpoints of this machine with ``port``, the address ``first`` before all others, at most ``MAX_LAN``.

    ``first`` may be a public one: nobody is told of it, but the server sees that nothing translates it.
    ``loopback``: the server is on this very machine, so the only useful local network is the machine itself.
    """
    found = [first]
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            host = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            if host not in found:
                found.append(host)
    useful = [host for host in found if host == first or _useful(host, loopback)]
    return [endpoint_text(host, port) for host in useful][:MAX_LAN]


def _useful(host: str, loopback: bool) -> bool:
    if "%" in host:
        return False
    where = scope(parse_endpoint(endpoint_text(host, _ANY_PORT)).host)
    return where == "loopback" if loopback else where in ("private", "shared")


def endpoint_text(host: str, port: int) -> str:
    """``host:port``, with brackets round an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
