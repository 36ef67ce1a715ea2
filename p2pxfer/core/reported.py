"""What the other end reports as an error, as one of this program."""

from __future__ import annotations

from p2pxfer.errors import (
    ConfigError,
    Declined,
    DiskError,
    Incomplete,
    Interrupted,
    NameTaken,
    P2pxferError,
    PathRefused,
    PeerFailed,
    PeerStopped,
    Refused,
    RefusedForNow,
    Unreachable,
    UsageError,
    WrongCode,
)


def _all_classes(base: type[P2pxferError]) -> list[type[P2pxferError]]:
    """Of the tree in :mod:`p2pxfer.errors`; what other modules derive from it has no words of its own."""
    found = [base]
    for sub in base.__subclasses__():
        found += _all_classes(sub) if sub.__module__ == P2pxferError.__module__ else []
    return found


_BY_WORD: dict[str, type[P2pxferError]] = {}
for _cls in _all_classes(P2pxferError):
    _BY_WORD.setdefault(_cls.word, _cls)
_LOCAL = (UsageError, ConfigError, Interrupted, DiskError, Incomplete)
_BY_WORD["E_NAME"] = NameTaken
_BY_WORD["E_STOPPED"] = Unreachable  # see from_peer
_BY_WORD["E_CODE"] = WrongCode
_BY_WORD["E_INTERNAL"] = Refused
_BY_WORD["E_PATH"] = PathRefused


def from_peer(word: str, message: str, *, ends: bool = False) -> P2pxferError:
    """The same as :func:`from_wire` of what a peer says of itself: nobody else can say that its program was stopped.

    With ``ends`` it is by that error that the peer has ended what it was at.
    """
    if ends:
        error: P2pxferError = PeerFailed(message)
    else:
        error = PeerStopped(message) if word == PeerStopped.word else from_wire(word, message)
    error.reported = True
    return error


def from_receiver(word: str, message: str) -> P2pxferError:
    """The error by which a receiver refuses a transfer: what it decided is told from what it cannot do now.

    Who read what it received was one who may go away too, which ends the transfer as much as a no.
    """
    if word in (Refused.word, Interrupted.word):
        declined = Declined(message)
        declined.reported = True
        return declined
    return from_peer(word, message)


def not_now(error: P2pxferError) -> bool:
    """Whether the other end said by ``error`` that it cannot do now what it may do later, and goes on running."""
    return error.reported and error.retry and not isinstance(error, PeerStopped)


def from_wire(word: str, message: str) -> P2pxferError:
    """The error that a peer or server reported as ``word``; ``message`` must be escaped already.

    Where several classes share a word, the least derived one stands for it.  What is about the other end's own disk,
    settings or user, and what is unknown, is a refusal here: nobody else chooses this program's exit code.
    """
    chosen = _BY_WORD.get(word, Refused)
    if issubclass(chosen, _LOCAL):
        return RefusedForNow(message) if chosen.retry else Refused(message)
    return chosen(message)
