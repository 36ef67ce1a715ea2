"""Channels with one peer over paths that meetings bring: one session, whoever asks for the meetings.

Laws of this file:

1. A meeting that has only the relay left ends when a newer one has its own relay path.  The side that asks ends it, so
   that the loss is none to it; the other one does so only for want of room.
2. The session fails once: when no path came about for as long as the patience lasts, when the peer's program is another
   one than before, or when the peer refuses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred

from p2pxfer.core.codec import Message
from p2pxfer.core.ids import PeerId
from p2pxfer.core.session.channel import ChannelEvent
from p2pxfer.core.session.channels import LIMITS, Channels
from p2pxfer.core.session.channelwire import Compare
from p2pxfer.core.session.farewell import problem
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.windows import Limits
from p2pxfer.core.session.wire import Bye
from p2pxfer.errors import (
    IdentityMismatch,
    Incomplete,
    LimitReached,
    P2pxferError,
    PeerStopped,
    ProtocolBreach,
    Refused,
)
from p2pxfer.net.connection.liveness import PacketsLost
from p2pxfer.net.session.channelpaths import ChannelPaths
from p2pxfer.net.session.doubted import REPLACED, Doubted
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.parties import MeetingOwner
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.pathwords import words_on
from p2pxfer.net.session.patience import Parting, Pathless
from p2pxfer.net.types import Reactor
from p2pxfer.status import Event, Note, Peer

FATAL = (IdentityMismatch, Incomplete, LimitReached, ProtocolBreach, Refused)
"""What no other path would change."""


def only_relayed(meeting: Meeting) -> bool:
    """Whether a meeting came to something and has no direct path, nor will have one."""
    return {path.facts.kind for path in meeting.paths} == {"relay"} and not meeting.punching


def oldest_relayed(meetings: Iterable[Meeting]) -> Meeting | None:
    """Who gives way where there is no room; a meeting that has no path gives none to the server."""
    return next(filter(only_relayed, meetings), None)


class ChannelSession(MeetingOwner):
    """See the laws above.  ``on_event`` hears of the channels, ``on_settled`` when the peer has all that was said.

    ``asks``: this side asks for the introductions, and its channels have even numbers.
    """

    def __init__(
        self,
        reactor: Reactor,
        peer: KnownPeer,
        *,
        asks: bool,
        patience: float,
        tell: Callable[[Event], None],
        on_event: Callable[[ChannelEvent], None],
        on_settled: Callable[[], None],
        limits: Limits = LIMITS,
    ) -> None:
        self._reactor = reactor
        self._peer = peer
        self._tell = tell
        self.asks = asks
        """Whether this side asks for introductions, and opens what is to be opened once."""
        self.channels = Channels(os.urandom(16), 0 if asks else 1, limits)
        self.paths = PathSet(reactor.seconds, tell)
        self.link = ChannelPaths(reactor, self.channels, self.paths, on_event, on_settled, self.fail)
        self.met: Deferred[None] = Deferred()
        """Fires when the first path is up."""
        self.failed: Deferred[P2pxferError] = Deferred()
        self.on_compare: Callable[[tuple[str, ...]], None] | None = None
        """Gets the words that the peer shows; where nobody wants them, its asking is a breach."""
        self._meetings: list[Meeting] = []
        self._doubted = Doubted()
        self._pathless = Pathless(
            reactor, peer.shown, patience, self.fail,
            lambda: "" if self._met else None, lambda: self.paths.peer_left,
        )  # fmt: skip
        self._over = False
        self._parting = Parting(reactor)

    @property
    def peer(self) -> KnownPeer:
        """With whom."""
        return self._peer

    @property
    def _met(self) -> bool:
        return self.met.called

    # -- hooks -----------------------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """Something was lost: whoever asks may want another meeting."""

    def _nat_forgot(self) -> None:
        """The NAT lost the last direct path, and perhaps more."""

    def _dropped(self, meeting: Meeting) -> None:
        """This meeting was ended from here; nothing more is heard of it."""

    def compare(self) -> tuple[str, ...] | None:
        """Ask the peer to show the words of a connection, and return them; ``None`` without one."""
        path = next(iter(self.paths.ordered()), None)
        if path is None:
            return None
        path.send(Compare())
        return words_on(path)

    # -- the end ---------------------------------------------------------------------------------------------------

    async def finish(self, *, stopped: bool = False) -> None:
        """All is said: part in good order.  The side that asks says so, the other one waits for it for a while.

        A program that was ``stopped`` waits less for the end of it.
        """
        if stopped:
            self._parting.hurry()
        self._over = True
        self.paths.finish()
        if self.asks:
            for path in self.paths.ordered():
                path.send(Bye())
                path.close()
        await self._until_parted()

    async def leave(self, farewell: PeerStopped | None = None) -> None:
        """Part after an error, and give what was said last the time to arrive.

        ``farewell`` is what the peer is told where the program was stopped, which then waits less.
        """
        self._over = True
        self.paths.finish()
        if farewell is not None:
            self.paths.leave(farewell)
            self._parting.hurry()
        for path in self.paths.ordered():
            path.close()
        await self._until_parted()

    async def _until_parted(self) -> None:
        if self.paths:
            await self._parting.wait()

    def close(self) -> None:
        """End everything, whatever its state."""
        self._over = True
        self.paths.finish()
        self._pathless.end()
        self.link.stop()
        for meeting in list(self._meetings):
            self._drop(meeting)

    def fail(self, error: P2pxferError) -> None:
        """End the session with this error."""
        if not self.failed.called and not self._over:
            self.failed.callback(error)

    # -- meetings --------------------------------------------------------------------------------------------------

    def adopt(self, meeting: Meeting) -> None:
        """What comes of this meeting belongs to the session from here on."""
        self._meetings.append(meeting)

    def replace(self, meeting: Meeting) -> None:
        """End a meeting and its paths at once; their orderly close takes a while."""
        for path in meeting.paths:
            self.paths.remove(path, REPLACED)
            self._doubted.lost(path)
            self.link.close_path(path)
        if not self.paths and not self._over:
            self._pathless.begin()
        self._drop(meeting)

    def _drop(self, meeting: Meeting) -> None:
        self._meetings.remove(meeting)
        self._dropped(meeting)
        meeting.close()

    # -- from the meetings -------------------------------------------------------------------------------------------

    def path_up(self, meeting: Meeting, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        if self._over:
            path.close()
            return
        self._pathless.end()
        path.open_session()
        if not self._met:
            name = self._peer.name or path.peer_name
            self._tell(Peer(name=name, id=str(PeerId(path.peer_key)), verified=self._peer.verified))
            self.met.callback(None)
        self.paths.add(path)
        self._doubted.drop()
        for late in [one for one in self._meetings if one.started < meeting.started and not one.paths]:
            self._drop(late)
        self.link.open_path(path)
        if self.asks and path.facts.kind == "relay":
            for older in filter(only_relayed, self._meetings[: self._meetings.index(meeting)]):
                self.replace(older)

    def path_down(self, meeting: Meeting, path: PeerPath, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        was_ours = self.paths.lost(path, error)
        self._doubted.lost(path)
        if self._over:
            if not self.paths:
                self._parting.gone()
            return
        if not was_ours:
            return
        self._pathless.last = error
        self.link.close_path(path)
        if isinstance(error, FATAL):
            self.fail(error)
            return
        if isinstance(error, PacketsLost) and not self.paths.direct:
            self._nat_forgot()
        if not self.paths:
            self._pathless.begin()
        if not self.paths and not self.paths.over:
            self._tell(Note(self._pathless.said()))
        self._look_around()

    def meeting_failed(self, meeting: Meeting, reasons: list[P2pxferError]) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        if meeting in self._meetings:
            self._meetings.remove(meeting)
        self._pathless.last = reasons[-1] if reasons else self._pathless.last
        wrong = next((error for error in reasons if isinstance(error, IdentityMismatch)), None)
        if wrong is not None and not self.paths:
            self.fail(wrong)
        elif not self._over:
            self._look_around()

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        if isinstance(message, Bye):
            self.paths.finish()  # the peer has parted: what it closes is not lost
            path.close()
        elif isinstance(message, Compare) and self.on_compare is not None:
            self.on_compare(words_on(path))
        elif not self.failed.called and self.paths.get(path.facts.number) is not None:
            try:
                self.link.message(path, message)
            except P2pxferError as error:
                # The path is left open until the peer has heard of it: see leave.
                path.send(problem(error))
                self.fail(error)

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        raise ProtocolBreach("a chunk came among channels")

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        self.link.room(path)
