"""Something between everybody and the server cuts what passes into single bytes, collects it, or holds it up."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from tests.e2e.between import PIECE, Way, relayed_through
from tests.e2e.conftest import Stage
from tests.scene import last

SIZE = 150_000
"""Two chunks and a piece; all of it passes as single bytes, twice."""
QUIET_S = 0.05
"""What is collected goes on when nothing came for so long, seconds."""
LATE_S = 0.2


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


@pytest.mark.deadline(120)
@pytest.mark.parametrize(
    ("way", "least"), [(single_bytes, 2 * SIZE), (all_at_once, 1), pytest.param(late, 1, marks=pytest.mark.soak)]
)
def test_f49_however_bytes_are_cut_a_transfer_by_the_relay_is_the_same(pair: Stage, way: Way, least: int) -> None:
    """All of both programs goes through it: what they say to the server, and what the relay carries."""
    between, said = relayed_through(pair, way, SIZE)
    assert last(said, "done")["bytes_by_path"] == {"relay": SIZE}
    assert [event["event"] for event in said].count("introduced") == 1
    print(f"{way.__name__}: {between.segments} segments")
    assert between.segments >= least
