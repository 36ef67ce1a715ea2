"""What a chat that ends leaves of the lines that were not delivered, in words and as its outcome."""

from __future__ import annotations

from typing import Final

from p2pxfer.errors import DiskError, Incomplete, P2pxferError, Unreachable

KEPT: Final = "lines that wait are kept"


def lines_text(count: int) -> str:
    """So many lines."""
    return f"{count} line{'' if count == 1 else 's'}"


def waiting_text(count: int) -> str:
    """What the greeting says of so many lines of earlier chats."""
    lines = "1 earlier line is" if count == 1 else f"{count} earlier lines are"
    return f"; {lines} waiting to be delivered" if count else ""


def unserved(error: P2pxferError, peer: str, kept: int, whole: bool) -> P2pxferError:
    """The outcome where there was no server, for ``error``, and so many lines for ``peer`` are kept.

    ``whole``: the input was read to its end.  A server that is not reached is like a peer that is not there; what else
    is wrong with it has its own exit code.
    """
    if not kept and whole:
        return error
    them = "it" if kept == 1 else "them"
    text = f"{lines_text(kept)} for {peer} kept, and the next chat delivers {them}"
    if not whole:
        text += "; what the input has beyond is not kept"
    text += f"; {error.message}"
    return Incomplete(text) if isinstance(error, Unreachable) else _reworded(error, text)


def lost_text(peer: str, lost: int, kept: int, why: str) -> str:
    """What is said where the disk did not take so many lines for ``peer``, for ``why``; empty where none is lost."""
    if not lost:
        return ""
    is_, it = ("is", "it") if lost == 1 else ("are", "them")
    text = f"{lines_text(lost)} for {peer} {is_} lost: not delivered, and the disk does not take {it} ({why})"
    return f"{text}; {lines_text(kept)} kept, and delivered by the next chat" if kept else text


def with_lost(error: P2pxferError, lost: str) -> P2pxferError:
    """``error``, and what :func:`lost_text` says: that outweighs a peer or a server that is not there."""
    if not lost or lost in error.message:
        return error
    if isinstance(error, Incomplete):
        return DiskError(lost)
    if isinstance(error, Unreachable):
        return DiskError(f"{lost}; {error.message}")
    return _reworded(error, f"{error.message}; {lost}")


def _reworded(error: P2pxferError, text: str) -> P2pxferError:
    """The same kind of error in other words, also where its class makes its own."""
    other = type(error).__new__(type(error))
    P2pxferError.__init__(other, text)
    return other
