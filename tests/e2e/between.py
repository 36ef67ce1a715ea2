"""A program between everybody and the server, which passes what comes as the test wants it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from scripts.product import JsonEvent
from tests.e2e.conftest import Stage, end_of
from tests.scene import file_hash, random_file

PIECE = 1 << 16
"""Most bytes that are read at once."""
Way = Callable[[socket.socket, socket.socket], int]
"""Passes what has come to one socket to another one; how many segments it made of it, 0 at the end."""


class Between:
    """Accepts connections in the place of a server on this machine, and passes what comes in one way."""

    def __init__(self, way: Way, server: int) -> None:
        self._made: list[int] = []
        self._way = way
        self._server = server
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def segments(self) -> int:
        """How many it has made in both directions of all connections."""
        return sum(self._made)

    def close(self) -> None:
        """Everything ends, and with it the threads."""
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._server))
                for each in (near, far):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._open.append(each)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while made := self._way(source, sink):
                self._made.append(made)
            sink.shutdown(socket.SHUT_WR)


def relayed(pair: Stage, size: int) -> tuple[list[JsonEvent], list[JsonEvent]]:
    """A file of `size` bytes goes by the relay, and is right; returns what alice said and what bob did."""
    source = pair.folder / "file.bin"
    digest = random_file(source, size)
    bob = pair.receive("--once", "--no-code", "--path", "relay")
    alice = pair.send(source, "--path", "relay")
    (status, said), (other, heard) = end_of(alice), end_of(bob)
    assert (status, other) == (0, 0), (said, heard)
    assert file_hash(pair.inbox / source.name) == digest
    return said, heard


def relayed_through(pair: Stage, way: Way, size: int) -> tuple[Between, list[JsonEvent]]:
    """A file of `size` bytes goes by the relay, and all that both programs say to the server and that the relay carries
    passes `way`; the file is right.  Returns the program between and what alice said.
    """
    between = Between(way, pair.ports[0])
    pair.callback(between.close)
    pair.address = f"127.0.0.1:{between.port}#{pair.address.split('#')[1]}"
    return between, relayed(pair, size)[0]
