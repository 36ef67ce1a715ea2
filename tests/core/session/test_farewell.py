"""What a side says when it gives a path up, and what comes of whatever the other one says."""

from __future__ import annotations

import pytest

from p2pxfer.core.framing import encode_frame
from p2pxfer.core.session.farewell import last_word, problem
from p2pxfer.core.session.records import MAX_LAST
from p2pxfer.core.session.wire import PEER, Ping
from p2pxfer.errors import DiskError, FrameError, PeerStopped

STOPPED = PEER.encode(problem(PeerStopped("the sender was stopped")))


def test_nothing_is_no_reason() -> None:
    assert last_word(b"") is None


def test_a_farewell_is_the_error_of_the_peer() -> None:
    error = last_word(STOPPED)
    assert isinstance(error, PeerStopped) and error.message == "the peer reports: the sender was stopped"


def test_what_the_peer_says_is_escaped() -> None:
    error = last_word(PEER.encode(problem(PeerStopped("\x1b[31m\u202e"))))
    assert error is not None and error.message.isascii() and "\x1b" not in error.message


def test_the_longest_reason_has_room() -> None:
    assert len(PEER.encode(problem(DiskError("\U0001f600" * 5000)))) <= MAX_LAST


@pytest.mark.parametrize(
    "octets",
    [
        STOPPED[:-1],
        STOPPED[:3],
        STOPPED + b"\0",
        STOPPED * 2,
        PEER.encode(Ping(number=1)),
        encode_frame(PEER.kind_of(type(problem(PeerStopped("")))), b"\xc1"),
        b"\xff" * 20,
    ],
)
def test_anything_else_is_refused(octets: bytes) -> None:
    assert isinstance(last_word(octets), FrameError)
