"""Sockets that find out how a NAT behaves, all in one process and without threads.

A socket belongs for life to the namespace in which it was made, so one test can hold both ends of
a connection and say in which order things happen.
"""

from __future__ import annotations

import enum
import errno
import select
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass

from tests.lab.topology import Lab

Endpoint = tuple[str, int]

PATIENCE = 0.35
"""Seconds after which a packet that met no delay is held for lost."""

SERVER_PORTS = (5000, 5001)

_REFUSALS = {errno.ECONNREFUSED, errno.ECONNRESET}
_NO_WAY = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}


class Answer(enum.Enum):
    """What became of a connection attempt."""

    CONNECTED = "connected"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Dial:
    """A connection attempt under way or done."""

    sock: socket.socket
    remote: Endpoint


def bound(lab: Lab, role: str, port: int = 0, address: str | None = None) -> socket.socket:
    """Return a non-blocking socket at `role` that shares its port with others of its kind."""
    family = socket.AF_INET6 if address is not None and ":" in address else socket.AF_INET
    sock = lab.socket(role, family=family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setblocking(False)
    sock.bind((address or lab.addr(role), port))
    return sock


def listen(lab: Lab, role: str, port: int, address: str | None = None) -> socket.socket:
    """Return a non-blocking listener at `role`."""
    sock = bound(lab, role, port, address)
    sock.listen(64)
    return sock


def dial(lab: Lab, role: str, remote: Endpoint, port: int = 0, address: str | None = None) -> Dial:
    """Send a SYN from `role`; `settle` tells what became of it."""
    sock = bound(lab, role, port, address)
    code = sock.connect_ex(remote)
    if code not in (0, errno.EINPROGRESS):
        raise OSError(code, f"connect to {remote} at once")
    return Dial(sock, remote)


def settle(dials: Iterable[Dial], patience: float = PATIENCE) -> list[Answer]:
    """Wait for all attempts together and return their answers in order.

    An attempt without an answer after `patience` seconds is SILENT. Raises `OSError` for an error
    that is none of a NAT's doing.
    """
    order = list(dials)
    answers: dict[int, Answer] = {}
    deadline = time.monotonic() + patience
    while waiting := [d.sock for d in order if d.sock.fileno() not in answers]:
        left = deadline - time.monotonic()
        _, ready, _ = select.select([], waiting, [], max(0.0, left))
        for sock in ready:
            answers[sock.fileno()] = _verdict(sock)
        if not ready and left <= 0:
            break
    return [answers.get(d.sock.fileno(), Answer.SILENT) for d in order]


def _verdict(sock: socket.socket) -> Answer:
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code == 0:
        return Answer.CONNECTED
    if code in _REFUSALS:
        return Answer.REFUSED
    if code in _NO_WAY:
        return Answer.UNREACHABLE
    raise OSError(code, "connection attempt")


def accept(listener: socket.socket, patience: float = 5.0) -> tuple[socket.socket, Endpoint]:
    """Return the next connection and its remote endpoint. Raises `TimeoutError`."""
    if not select.select([listener], [], [], patience)[0]:
        raise TimeoutError("nobody connected")
    return listener.accept()


def has_guest(listener: socket.socket) -> bool:
    """Return whether a connection waits to be accepted."""
    return bool(select.select([listener], [], [], 0)[0])


def receive(sock: socket.socket, patience: float = PATIENCE) -> bytes | None:
    """Return what arrives first, b"" at the end or after a reset, None for nothing in time."""
    if not select.select([sock], [], [], patience)[0]:
        return None
    try:
        return sock.recv(65536)
    except ConnectionError:
        return b""


def reset(sock: socket.socket) -> None:
    """Close a connection with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def icmp_tap(lab: Lab, role: str) -> socket.socket:
    """Return a socket that sees the ICMP packets which reach `role`."""
    tap = lab.socket(role, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    tap.setblocking(False)
    return tap


def icmp_seen(tap: socket.socket) -> set[tuple[int, int]]:
    """Return the (type, code) of every ICMP packet since the last call."""
    seen: set[tuple[int, int]] = set()
    while True:
        try:
            packet = tap.recv(2048)
        except BlockingIOError:
            return seen
        start = (packet[0] & 15) * 4
        seen.add((packet[start], packet[start + 1]))


class Server:
    """Listeners on two addresses and two ports of the server, which tell what they observe."""

    def __init__(self, lab: Lab) -> None:
        self.endpoints = [(a, p) for a in lab.server_addresses for p in SERVER_PORTS]
        self._lab = lab
        self._listeners = {e: listen(lab, "srv", e[1], e[0]) for e in self.endpoints}

    def observe(self, role: str, port: int, endpoint: Endpoint) -> Connection:
        """Connect from `port` at `role` to one of `endpoints` and return both ends."""
        attempt = dial(self._lab, role, endpoint, port)
        sock, seen = accept(self._listeners[endpoint])
        if settle([attempt], 5.0) != [Answer.CONNECTED]:
            raise TimeoutError(f"{role} cannot reach the server")
        sock.setblocking(False)
        return Connection(attempt.sock, sock, seen)


@dataclass(frozen=True, slots=True)
class Connection:
    """Both ends of a connection to the server, and the endpoint that the server saw."""

    client: socket.socket
    server: socket.socket
    seen: Endpoint

    def close(self) -> None:
        """Reset the connection from the client's side."""
        reset(self.client)
        self.server.close()
