"""A session with one contact, kept up from both sides: paths found again and again, channels over them.

Laws of this file:

1. Both sides run the same program.  The side with the lower key asks the server for introductions, the other one waits
   for them under a name that follows from its key, so that what else it has registered is not disturbed.
2. Only the one key that was verified before is met; introductions to anybody else are not taken up.
3. A meeting that has only the relay left ends when a newer one has its own relay path.  The side that asks ends it, so
   that the loss is none to it; the other one does so only for want of room.
4. The session fails once: when no path came about for as long as the patience lasts, when the peer's program is another
   one than before, or when the peer refuses.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.channel import ChannelEvent
from p2pxfer.core.channels import Channels
from p2pxfer.core.codec import Message
from p2pxfer.core.hello import Role
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Introduction, PathPolicy
from p2pxfer.core.names import MAX_CHARS
from p2pxfer.core.wire import Bye, Chunk, Problem
from p2pxfer.errors import IdentityMismatch, Incomplete, P2pxferError, ProtocolBreach, Refused, Unreachable
from p2pxfer.net.channelpaths import ChannelPaths
from p2pxfer.net.identity import Identity
from p2pxfer.net.liveness import PacketsLost
from p2pxfer.net.meeting import Meeting
from p2pxfer.net.parties import MeetingOwner, Party
from p2pxfer.net.path import PeerPath
from p2pxfer.net.pathset import PathSet
from p2pxfer.net.peercheck import Checkee
from p2pxfer.net.rendezvous import RendezvousClient
from p2pxfer.net.seeking import Seeking, Standing, Target, standing_of, wants_another
from p2pxfer.net.types import Reactor
from p2pxfer.status import Event, Introduced, Note, Peer

FAREWELL_S = 3.0
"""How long the end of a session may take, seconds."""
MAX_MEETINGS = 8
"""Most introductions at once, whatever the server sends: each one dials."""
REPLACED = "another connection has replaced it"
FATAL = (IdentityMismatch, Incomplete, ProtocolBreach, Refused)
"""What no other path would change."""


def pipe_name(key: bytes) -> str:
    """The name under which the peer with this key waits."""
    return ("pipe-" + str(PeerId(key)).replace("-", "")[5:])[:MAX_CHARS]


def only_relayed(meeting: Meeting) -> bool:
    """Whether a meeting came to something and has no direct path, nor will have one."""
    return {path.facts.kind for path in meeting.paths} == {"relay"} and not meeting.punching


class PairSession(MeetingOwner):
    """See the laws above.  ``on_event`` hears of the channels, ``on_settled`` when the peer has all that was said."""

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        identity: Identity,
        my_name: str,
        peer: Checkee,
        *,
        policy: PathPolicy,
        gentle: bool,
        patience: float,
        tell: Callable[[Event], None],
        on_event: Callable[[ChannelEvent], None],
        on_settled: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._identity = identity
        self._my_name = my_name
        self._peer = peer
        self._policy: PathPolicy = policy
        self._gentle = gentle
        self._patience = patience
        self._tell = tell
        self.asks = identity.id.digest < peer.key
        """Whether this side asks for introductions, and opens what is to be opened once."""
        self.channels = Channels(os.urandom(16), 0 if self.asks else 1)
        self.paths = PathSet(reactor.seconds, tell)
        self.link = ChannelPaths(reactor, self.channels, self.paths, on_event, on_settled, self.fail)
        self.failed: Deferred[P2pxferError] = Deferred()
        self._client: RendezvousClient | None = None
        self._seeking: Seeking | None = None
        self._search: Deferred[None] | None = None
        self._meetings: list[Meeting] = []
        self._doubted: set[PeerPath] = set()
        self._clock: IDelayedCall | None = None
        self._last: P2pxferError | None = None
        self._met = False
        self._over = False
        self._parted: Deferred[None] = Deferred()

    def start(self, client: RendezvousClient) -> None:
        """Begin to look for the peer; ``client`` hands introductions to :meth:`introduced`."""
        self._client = client
        self._without_path()
        if self.asks:
            key = self._peer.key
            target = Target(pipe_name(key), key, None, None, "contact", None)
            self._seeking = Seeking(self._reactor, client, target, self._policy, self)
            self._search = Deferred.fromCoroutine(self._seeking.run())
            self._search.addErrback(self._search_ended)

    async def finish(self) -> None:
        """All is said: part in good order.  The side that asks says so, the other one waits for it for a while."""
        self._over = True
        self.paths.finish()
        if self.asks:
            for path in self.paths.ordered():
                path.send(Bye())
                path.close()
        await self._until_parted()

    async def leave(self) -> None:
        """Part after an error, and give what was said last the time to arrive."""
        self._over = True
        self.paths.finish()
        for path in self.paths.ordered():
            path.close()
        await self._until_parted()

    async def _until_parted(self) -> None:
        if self.paths and not self._parted.called:
            self._parted.addTimeout(FAREWELL_S, self._reactor, lambda result, timeout: None)
            await self._parted

    def close(self) -> None:
        """End everything, whatever its state."""
        self._over = True
        self.paths.finish()
        self._with_path()
        self.link.stop()
        if self._search is not None:
            self._search.cancel()
        for meeting in list(self._meetings):
            meeting.close()

    def fail(self, error: P2pxferError) -> None:
        """End the session with this error."""
        if not self.failed.called and not self._over:
            self.failed.callback(error)

    # -- patience --------------------------------------------------------------------------------------------------

    def _without_path(self) -> None:
        if self._clock is None:
            self._clock = self._reactor.callLater(self._patience, self._out_of_patience)

    def _with_path(self) -> None:
        if self._clock is not None and self._clock.active():
            self._clock.cancel()
        self._clock = None

    def _out_of_patience(self) -> None:
        last = self._last.message if self._last is not None else "no path came about"
        shown = self._peer.shown
        if self._met:
            self.fail(Incomplete(f"{shown} has not been reachable for {self._patience:.0f} seconds ({last})"))
        else:
            self.fail(Unreachable(f"no connection to {shown} came about in {self._patience:.0f} seconds: {last}"))

    # -- the search ------------------------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """See :class:`~p2pxfer.net.seeking.SeekingOwner`."""
        return standing_of(self.paths, self._doubted)

    @property
    def begun(self) -> bool:
        """See :class:`~p2pxfer.net.seeking.SeekingOwner`: whoever starts first waits for the other."""
        return True

    @property
    def cut(self) -> bool:
        """See :class:`~p2pxfer.net.seeking.SeekingOwner`."""
        return self._met and self.standing in (Standing.NOTHING, Standing.DOUBTED)

    @property
    def trip(self) -> float:
        """See :class:`~p2pxfer.net.seeking.SeekingOwner`."""
        return self.paths.slowest_trip

    def not_met(self, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.seeking.SeekingOwner`."""
        there = self._client is not None and self._client.registered is not None
        absent = there and isinstance(error, Unreachable)
        self._last = Unreachable(f"{self._peer.shown} does not run p2pxfer pipe now") if absent else error

    def meet(self, introduction: Introduction) -> Meeting:
        """See :class:`~p2pxfer.net.seeking.SeekingOwner`."""
        if introduction.peer_id != self._peer.key:
            raise IdentityMismatch(f"the server presents another key as {self._peer.shown}")
        return self._meet(introduction, "initiator")

    def introduced(self, introduction: Introduction) -> None:
        """The server introduces somebody who asked."""
        if self.asks or self._over or self._client is None or introduction.peer_id != self._peer.key:
            self.log.info("an introduction that this session does not wait for was not taken up")
        elif len(self._meetings) < MAX_MEETINGS or self._made_room():
            self._client.introduced(introduction)
            self._meet(introduction, "responder")

    def _made_room(self) -> bool:
        """End the oldest meeting that has only the relay left; one that has no path gives no room to the server."""
        for meeting in self._meetings:
            if only_relayed(meeting):
                self._replace(meeting)
                return True
        return False

    def _replace(self, meeting: Meeting) -> None:
        """End a meeting and its paths at once; their orderly close takes a while."""
        self._meetings.remove(meeting)
        for path in meeting.paths:
            self.paths.remove(path, REPLACED)
            self._doubted.discard(path)
            self.link.close_path(path)
        if not self.paths:
            self._without_path()
        meeting.close()

    def _meet(self, introduction: Introduction, role: Role) -> Meeting:
        assert self._client is not None
        self._tell(Introduced(session=introduction.session.hex()[:16], peer=str(PeerId(introduction.peer_id))))
        if not self.paths:
            self.paths.introduced()
        party = Party(self._identity, role, self._my_name, None, self._peer.key, trusted=True, gentle=self._gentle)
        meeting = Meeting(self._reactor, introduction, party, self._client, self)
        self._meetings.append(meeting)
        meeting.start()
        return meeting

    def _search_ended(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            return
        if not isinstance(error, P2pxferError):
            self.log.failure("the search for the peer ended", failure)
            error = Unreachable("the search for the peer ended by a fault inside the program")
        self.fail(error)

    def _look_around(self) -> None:
        if self._seeking is not None and wants_another(self._meetings, self.paths, self._policy):
            self._seeking.wake()

    # -- from the meetings -------------------------------------------------------------------------------------------

    def path_up(self, meeting: Meeting, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.meeting.MeetingOwner`."""
        if self._over:
            path.close()
            return
        self._with_path()
        path.open_session()
        if not self._met:
            self._met = True
            self._tell(Peer(name=path.peer_name, id=str(PeerId(path.peer_key)), verified=self._peer.verified))
        self.paths.add(path)
        doubted, self._doubted = self._doubted, set()
        for old in doubted:
            old.fail(Unreachable(REPLACED))
        for late in [one for one in self._meetings if one.started < meeting.started and not one.paths]:
            self._meetings.remove(late)
            late.close()
        self.link.open_path(path)
        if self.asks and path.facts.kind == "relay":
            for older in filter(only_relayed, self._meetings[: self._meetings.index(meeting)]):
                self._replace(older)

    def path_down(self, meeting: Meeting, path: PeerPath, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.meeting.MeetingOwner`."""
        was_ours = self.paths.remove(path, error.message)
        self._doubted.discard(path)
        if self._over:
            if not self.paths and not self._parted.called:
                self._parted.callback(None)
            return
        if not was_ours:
            return
        self._last = error
        self.link.close_path(path)
        if isinstance(error, FATAL):
            self.fail(error)
            return
        if isinstance(error, PacketsLost) and not self.paths.direct:
            self._doubted = set(self.paths.ordered()) if self.asks else set()
            if not self.asks and self._client is not None:
                self._client.reconnect()
        if not self.paths:
            self._without_path()
            self._tell(Note(f"the connection was lost ({error.message}); reconnecting"))
        self._look_around()

    def meeting_failed(self, meeting: Meeting, reasons: list[P2pxferError]) -> None:
        """See :class:`~p2pxfer.net.meeting.MeetingOwner`."""
        if meeting in self._meetings:
            self._meetings.remove(meeting)
        self._last = reasons[-1] if reasons else self._last
        wrong = next((error for error in reasons if isinstance(error, IdentityMismatch)), None)
        if wrong is not None and not self.paths:
            self.fail(wrong)
        elif not self._over:
            self._look_around()

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.path.PathOwner`."""
        if isinstance(message, Bye):
            path.close()
        elif not self.failed.called and self.paths.get(path.facts.number) is not None:
            try:
                self.link.message(path, message)
            except P2pxferError as error:
                # The path is left open until the peer has heard of it: see leave.
                path.send(Problem(word=error.word, message=error.message[:1000]))
                self.fail(error)

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.path.PathOwner`."""
        raise ProtocolBreach("a chunk came among channels")

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.path.PathOwner`."""
        self.link.room(path)
