"""TCP services that tests put behind `p2pxfer expose`, and what they dial at the other end."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
from collections.abc import Callable

from scripts.product import Program
from tests.scene import Scene

Handler = Callable[[socket.socket], None]
RESET = struct.pack("ii", 1, 0)


class Service(contextlib.ExitStack):
    """A TCP server of the test; each connection gets a thread."""

    def __init__(self, handle: Handler) -> None:
        super().__init__()
        self._handle = handle
        self.connections = 0
        self._listener = self.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        self.address = "{}:{}".format(*self._listener.getsockname())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(120)
                self.connections += 1
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self._handle(connection)


def echo(connection: socket.socket) -> None:
    """Give back everything, and end when the other side has."""
    while data := connection.recv(65536):
        connection.sendall(data)


def digest_of_all(connection: socket.socket) -> None:
    """Hear everything out, then answer: works only if the two directions end by themselves."""
    digest = hashlib.sha256()
    while data := connection.recv(65536):
        digest.update(data)
    connection.sendall(digest.digest())


def dial(at: str) -> socket.socket:
    host, _, port = at.rpartition(":")
    made = socket.create_connection((host, int(port)), timeout=60)
    made.settimeout(120)
    return made


def everything(connection: socket.socket) -> bytes:
    heard = bytearray()
    while data := connection.recv(65536):
        heard += data
    return bytes(heard)


def expose(stage: Scene, target: str, *words: str) -> Program:
    """Alice exposes something to bob."""
    program = stage.program("alice", stage.alice, "expose", target, "--to", "bob", *words)
    program.wait_for("exposed")
    return program
