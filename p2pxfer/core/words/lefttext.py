"""What a sender says at the end of a transfer from which files were left out."""

from __future__ import annotations

from collections.abc import Sequence

from p2pxfer.core.words.eventtext import some_of
from p2pxfer.errors import FilesLeftOut, P2pxferError, SourceChanged, SourceUnreadable


def left_out_error(why: P2pxferError, paths: Sequence[str]) -> SourceUnreadable:
    """The outcome for the sender, once everything but ``paths``, one at least, has arrived.

    ``why`` the first of them was left out decides the error's word.
    """
    if len(paths) > 1:
        said = f"{len(paths)} files changed or could not be read while they were being sent: {some_of(paths)}"
    else:
        said = what_happened(why)
    it, them = ("it was", "that file") if len(paths) == 1 else ("they were", "those files")
    message = f"{said}; {it} left out, and everything else has arrived: send {them} again"
    return FilesLeftOut(message) if isinstance(why, SourceChanged) else SourceUnreadable(message)


def what_happened(error: P2pxferError) -> str:
    """The sentence of an error without its end, which says what to do where nothing at all came."""
    return error.message.rpartition("; ")[0] or error.message
