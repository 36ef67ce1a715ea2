"""Why one side gives a path up: what it says of that, and what the other side makes of it."""

from __future__ import annotations

from p2pxfer.core.framing import FrameDecoder
from p2pxfer.core.session.records import MAX_LAST
from p2pxfer.core.session.wire import PEER, Problem
from p2pxfer.core.text import safe_text
from p2pxfer.errors import FrameError, P2pxferError, from_peer

_MOST = 1000
"""Characters of a reason that go over the wire."""
_CAPS = PEER.caps([Problem], MAX_LAST)


def problem(error: P2pxferError) -> Problem:
    """What is said of ``error`` to the peer."""
    return Problem(word=error.word, message=error.abroad[:_MOST])


def reported(message: Problem) -> P2pxferError:
    """The error that the peer says."""
    return from_peer(message.word, f"the peer reports: {safe_text(message.message)}")


def last_word(octets: bytes) -> P2pxferError | None:
    """The error in the last record of a path, which is whatever is wrong with it if it holds no Problem.

    ``None`` if there is nothing in it.
    """
    if not octets:
        return None
    decoder = FrameDecoder(_CAPS)
    try:
        said = [PEER.decode(frame) for frame in decoder.feed(octets)]
    except P2pxferError as error:
        return error
    match said:
        case [Problem() as message] if decoder.idle:
            return reported(message)
    return FrameError("what the peer said at the end is no whole message, or more than one")
