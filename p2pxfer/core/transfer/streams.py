"""A stream: bytes whose number nobody knows before they end, over one channel from a sender to a receiver.

Law: a stream lives in two processes and nowhere else.  While both live no byte is lost or doubled; when one of them
ends, the stream has ended, and nobody may take what came for the whole of it.

The rest is that of :mod:`p2pxfer.core.session.channels`; ``docs/protocol.rst`` has the dialogue.
"""

from __future__ import annotations

import hmac
from typing import Final

from p2pxfer.core.transfer.pathrules import check_component
from p2pxfer.errors import Damaged, Incomplete, P2pxferError, PeerStopped, ProtocolBreach

SERVICE: Final = "stream"
"""What the sender opens a channel to."""
DEFAULT_NAME: Final = "stdin"
"""What a stream without a name is called at the receiver."""
CANNOT_GO_ON: Final = "a stream cannot go on later; send it again from its beginning"
"""What to tell a user of a stream that was cut."""
DIGEST_SIZE: Final = 32


def check_stream_name(name: str) -> None:
    """Whether a stream may be stored under this name, which came from a user or a peer.

    Raises:
        PathRefused: it may not.
    """
    check_component(name)


def outcome_of(error: P2pxferError) -> P2pxferError:
    """What this side ends with where the peer gave the channel up for this reason.

    Nobody has refused anything where its program was stopped: the stream is not whole, and may be sent again.
    """
    if not isinstance(error, PeerStopped):
        return error
    outcome = Incomplete(f"{error.message}; {CANNOT_GO_ON}")
    outcome.reported = error.reported
    return outcome


def check_end(said: bytes, seen: bytes) -> None:
    """Whether the peer, whose End brought the BLAKE3 hash ``said``, means the same bytes as this side.

    Raises:
        ProtocolBreach: it said none.
        Damaged: it means others.
    """
    if len(said) != DIGEST_SIZE:
        raise ProtocolBreach("the end of a stream came without its hash")
    if not hmac.compare_digest(said, seen):
        raise Damaged("what arrived of the stream is not what was sent; send it again")
