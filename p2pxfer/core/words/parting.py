"""What people read when the other end takes its leave in the middle of something."""

from __future__ import annotations

from collections.abc import Sequence

from p2pxfer.core.text import few_of
from p2pxfer.core.words.eventtext import human_size
from p2pxfer.errors import PeerFailed, PeerStopped


def parted_text(peer: str, farewell: PeerStopped) -> str:
    """What became of the program of ``peer``, by its own farewell; both may be shown."""
    if isinstance(farewell, PeerFailed):
        return f"{peer} could not go on: {farewell.why}"
    return f"{peer} was stopped there"


def untaken_text(peer: str, farewell: PeerStopped, names: Sequence[str]) -> str:
    """The same where nothing had been taken of what was offered, which is called ``names``."""
    if isinstance(farewell, PeerFailed):
        return f"{parted_text(peer, farewell)}; nothing was taken of {few_of(names)}"
    return f"{parted_text(peer, farewell)} before anything was taken of {few_of(names)}"


def unanswered_text(peer: str) -> str:
    """What whoever has a code has to know while ``peer``, who is there, does not answer."""
    return (
        f"where no code is open any more, as it was used or has expired, no stranger is met: ask {peer} for a new one"
    )


def kept_text(have: int, whole: int | None, names: Sequence[str]) -> str:
    """How much is here of ``names``, in bytes, and of how many if that is known: the beginning of a sentence."""
    of_all = f" of {human_size(whole)}" if whole is not None else ""
    called = f" ({few_of(names)})" if names else ""
    return f"{human_size(have)}{of_all} are kept{called}"
