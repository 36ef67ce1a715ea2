"""Something between everybody and the server cuts what passes into single bytes, collects it, or holds it up."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Stage, end_of
from tests.scene import file_hash, last, random_file

SIZE = 150_000
"""Two chunks and a piece; all of it passes as single bytes, twice."""
PIECE = 1 << 16
QUIET_S = 0.05
"""What is collected goes on when nothing came for so long, seconds."""
LATE_S = 0.2
Way = Callable[[socket.socket, socket.socket], int]
"""Passes what has come to one socket to another one; how many segments it made of it, 0 at the end."""


def single_bytes(source: socket.socket, sink: socket.socket) -> int:
    """A segment for each byte: the kernel of the sink is asked not to wait for more."""
    data = source.recv(PIECE)
    for number in range(len(data)):
        sink.sendall(data[number : number + 1])
    return len(data)


def all_at_once(source: socket.socket, sink: socket.socket) -> int:
    """Everything that comes with no pause in between."""
    source.settimeout(None)
    data = bytearray(source.recv(PIECE))
    source.settimeout(QUIET_S)
    with contextlib.suppress(TimeoutError):
        while piece := source.recv(PIECE):
            data += piece
    sink.sendall(data)
    return bool(data)


def late(source: socket.socket, sink: socket.socket) -> int:
    """Each piece a fifth of a second later."""
    data = source.recv(PIECE)
    time.sleep(LATE_S)
    sink.sendall(data)
    return bool(data)


class Between:
    """Accepts connections in the place of a server on this machine, and passes what comes in one of the ways above."""

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


@pytest.mark.deadline(120)
@pytest.mark.parametrize(
    ("way", "least"), [(single_bytes, 2 * SIZE), (all_at_once, 1), pytest.param(late, 1, marks=pytest.mark.soak)]
)
def test_f49_however_bytes_are_cut_a_transfer_by_the_relay_is_the_same(pair: Stage, way: Way, least: int) -> None:
    """All of both programs goes through it: what they say to the server, and what the relay carries."""
    between = Between(way, pair.ports[0])
    pair.callback(between.close)
    pair.address = f"127.0.0.1:{between.port}#{pair.address.split('#')[1]}"
    source = pair.folder / "file.bin"
    digest = random_file(source, SIZE)
    bob = pair.receive("--once", "--no-code", "--path", "relay")
    alice = pair.send(source, "--path", "relay")
    (status, said), (other, _) = end_of(alice), end_of(bob)
    assert (status, other) == (0, 0)
    assert file_hash(pair.inbox / source.name) == digest
    assert last(said, "done")["bytes_by_path"] == {"relay": SIZE}
    assert [event["event"] for event in said].count("introduced") == 1
    print(f"{way.__name__}: {between.segments} segments")
    assert between.segments >= least
