"""The last word of a side that gives a path up, and what the other side makes of it.

Laws of this file:

1. Who was stopped says so, and no more.
2. Who ends by an error of its own says which, in the sentence that is meant for the other end; to a peer that was not
   offered anything yet, only that there is one.  Of a fault of its program nobody hears more than that it is one.
3. What the other end said itself it does not hear again: the answer to that is Bye.  Nor is anything said of keys and
   codes, of which the greeting and the pairing say what there is to be said.
4. In the last record of a path, behind which nothing is sent and before which a frame may have ended anywhere, there is
   one whole Problem or nothing.
"""

from __future__ import annotations

from typing import Final

from p2pxfer.core.codec import Message
from p2pxfer.core.framing import FrameDecoder
from p2pxfer.core.reported import from_peer
from p2pxfer.core.session.records import MAX_LAST
from p2pxfer.core.session.wire import PEER, Bye, Problem
from p2pxfer.core.text import safe_text
from p2pxfer.errors import PEER_REPORTS, CodeNeeded, FrameError, IdentityMismatch, P2pxferError, PeerStopped, WrongCode

MAX_REASON: Final = 500
"""Most characters of a reason, which is to be one line at the other end."""
WITHHELD: Final = "its user is told why"
FAULT: Final = "a fault inside its program"
_SAID_ELSEWHERE: Final = (CodeNeeded, IdentityMismatch, WrongCode)
_CAPS: Final = PEER.caps([Problem], MAX_LAST)


def problem(error: P2pxferError) -> Problem:
    """What is said of ``error``, for which a path is given up."""
    return Problem(word=error.word, message=error.abroad[:MAX_REASON])


def last_word(error: Exception, *, offered: bool) -> Message | None:
    """What a side says that ends by ``error``; ``offered``: the peer was told what this is about."""
    if not isinstance(error, P2pxferError):
        error = P2pxferError.plain(FAULT)
    if isinstance(error, PeerStopped) and not error.reported:
        return problem(error)
    if error.reported:
        return Bye()
    if isinstance(error, _SAID_ELSEWHERE):
        return None
    return Problem(word=error.word, message=error.abroad[:MAX_REASON] if offered else WITHHELD, ends=True)


def reported(message: Problem) -> P2pxferError:
    """The error that the peer says."""
    said = f"{PEER_REPORTS}{safe_text(message.message, MAX_REASON)}"
    return from_peer(message.word, said, ends=message.ends)


def in_last_record(octets: bytes) -> P2pxferError | None:
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
