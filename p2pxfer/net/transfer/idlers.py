"""Who has to go: paths and meetings that bring nothing to an inbox.

Laws of this file:

1. A path over which nothing is offered ends in a bounded time; a spare one beside a transfer may stay.
2. What brings something never gives way, and no contact gives way to a stranger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pxfer.errors import Unreachable
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.path import PeerPath

QUIET_S = 60.0
"""How long a path may stay that nothing comes over, seconds: a sender offers at once, after a pairing if there is one.
"""
MAX_OF_CONTACT = 16
"""Most meetings with one contact that bring nothing; it may send several things at once."""
MAX_OF_STRANGER = 4
"""The same with one key that is no contact's."""
MAX_OF_STRANGERS = 8
"""The same with all keys that are no contacts': half of the relayed connections that the server allows a receiver, so
that the others are left for contacts."""


class NothingOffered(Unreachable):
    """A path was ended from here, since nothing came over it."""


class QuietPaths:
    """Ends paths that bring nothing; ``needed(path)`` is asked every :data:`QUIET_S` seconds."""

    def __init__(self, clock: IReactorTime, needed: Callable[[PeerPath], bool]) -> None:
        self._clock = clock
        self._needed = needed
        self._looks: dict[PeerPath, IDelayedCall] = {}

    def watch(self, path: PeerPath) -> None:
        """The path is up."""
        self._looks[path] = self._clock.callLater(QUIET_S, self._look, path)

    def forget(self, path: PeerPath) -> None:
        """The path is gone."""
        look = self._looks.pop(path, None)
        if look is not None and look.active():
            look.cancel()

    def close(self) -> None:
        """Every path ends now."""
        for path in list(self._looks):
            self.forget(path)

    def _look(self, path: PeerPath) -> None:
        if self._needed(path):
            self.watch(path)
        else:
            path.refuse(NothingOffered(f"nothing was offered here within {QUIET_S:.0f} seconds"))


def giving_way(quiet: Iterable[Meeting], key: bytes, contact: bool) -> Meeting | None:
    """Which of the meetings that bring nothing gives way to one more with ``key``; ``None`` if there is room.

    The oldest of those that have no path, or else of all.  ``contact``: the key is a contact's.
    """
    meetings = sorted(quiet, key=lambda meeting: (bool(meeting.paths), meeting.started))
    own = [meeting for meeting in meetings if meeting.party.peer_key == key]
    if len(own) >= (MAX_OF_CONTACT if contact else MAX_OF_STRANGER):
        return own[0]
    strangers = [meeting for meeting in meetings if not meeting.party.trusted]
    return strangers[0] if not contact and len(strangers) >= MAX_OF_STRANGERS else None
