"""A relay that carries so much for a session and no more: it ends in the middle of a chunk, again and again."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.e2e.between import PIECE, relayed, relayed_through
from tests.e2e.conftest import MIB, Stage, fast_stage
from tests.scene import last

SIZE = 16 * MIB
QUOTA = 3 * MIB + 100_000
"""What passes a connection, bytes: not a whole number of chunks."""
OVER = "the session is over"
TWICE = 4 * MIB
"""Most bytes a session that are sent again: what was under way when it ended."""


class Quota:
    """Passes :data:`QUOTA` bytes from each socket, and then ends it and the other one."""

    def __init__(self) -> None:
        self._passed: dict[socket.socket, int] = {}
        self._lock = threading.Lock()
        self.ended = 0

    def __call__(self, source: socket.socket, sink: socket.socket) -> int:
        """See :data:`~tests.e2e.between.Way`."""
        data = source.recv(PIECE)
        with self._lock:
            left = QUOTA - self._passed.setdefault(source, 0)
            self._passed[source] += len(data)
        sink.sendall(data[:left])
        if len(data) <= left:
            return bool(data)
        self.ended += 1
        source.shutdown(socket.SHUT_RDWR)
        return 0


@pytest.mark.deadline(120)
def test_f44_a_relay_that_ends_in_the_middle_of_a_chunk_is_asked_for_again(pair: Stage) -> None:
    """The transfer goes on by itself with another reservation each time, with pauses, and the file is right."""
    quota = Quota()
    _, said = relayed_through(pair, quota, SIZE)
    introduced = [event["t"] for event in said if event["event"] == "introduced"]
    carried = sum(last(said, "done")["bytes_by_path"].values())
    ends = [event["why"] for event in said if event["event"] == "path" and event["state"] == "down"]
    lost = [event["message"] for event in said if event["event"] == "note" and "reconnecting" in event["message"]]
    print(f"{quota.ended} ended, introduced at {introduced}, {(carried - SIZE) / MIB:.1f} MiB twice; {lost}")
    assert quota.ended >= SIZE // QUOTA
    assert len(introduced) <= quota.ended + 2
    assert len(lost) == len(ends) - 1
    assert SIZE <= carried < SIZE + TWICE * quota.ended


@pytest.mark.deadline(120)
def test_f44_a_limit_of_relayed_bytes_is_announced_and_said_and_the_transfer_goes_on() -> None:
    """Both ends know why each relay ended, and the next one brings little of what came over it once more."""
    with fast_stage() as stage:
        stage.start_server("--relay-bytes", "3M")
        stage.make_contacts()
        said, heard = relayed(stage, SIZE)
        places = SIZE // (4 * MIB)  # with what it takes at once beyond the limit
        for events in (said, heard):
            ends = [event["why"] for event in events if event["event"] == "path" and event["state"] == "down"]
            assert ends == ["the server relays 3.0 MiB a session and no more"] * (len(ends) - 1) + [OVER], ends
            assert len(ends) >= places
        told = [event["event"] for event in heard if event["event"] in ("accepted", "resumed")]
        assert told == ["accepted"]  # nobody had missed the sender
        assert last(said, "done")["bytes_by_path"]["relay"] < SIZE + TWICE * len(ends)
        print(len(ends), "places,", [event["t"] for event in said if event["event"] == "introduced"])
