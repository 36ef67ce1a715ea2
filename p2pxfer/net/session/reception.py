"""Sessions with many contacts at once: one side waits under a name, and whoever may use what it has asks.

Laws of this file:

1. Nobody is dialled because a stranger asked.  A contact that may use nothing here is met, since it was verified, told
   so and left.  While nobody can say who is one nobody new is met.  Whose session stands is, so that it goes on when it
   was cut, and hears that of what is new.
2. A session belongs to a key and to one running program of it, which its Attach names.  So one contact may run several,
   and one that was started anew gets a new session while the old one ends for want of paths.
3. Meetings, sessions, and paths that have not said to which session they belong are bounded, each contact's by itself.
4. Who asks keeps the session up; here it is waited for as long as the patience lasts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Protocol as Interface

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from p2pxfer.core.codec import Message
from p2pxfer.core.messages import Introduction
from p2pxfer.core.session.channel import ChannelEvent
from p2pxfer.core.session.channelwire import Attach
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.windows import Limits
from p2pxfer.core.session.wire import Bye
from p2pxfer.errors import LimitReached, P2pxferError, PeerStopped, ProtocolBreach, Refused, Unreachable
from p2pxfer.net.session.channelsession import ChannelSession, oldest_relayed
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.parties import MeetingOwner, introduced_event, is_beside
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.status import Event

MAX_MEETINGS = 128
"""Most introductions at once, whatever the server sends: each one dials."""
MEETINGS_EACH = 32
"""The same of one contact."""
MAX_SESSIONS = 64
SESSIONS_EACH = 16
"""Most running programs of one contact at once."""
ATTACH_S = 15.0
"""How long a path may leave open to which session it belongs, seconds."""
FIRST_LIMITS = Limits(channels=128, smallest=128 * 1024, total=32 * 1024 * 1024, share=2)
"""What the session of a contact may hold here: less than where there is only one."""
FURTHER_LIMITS = Limits(channels=128, smallest=32 * 1024, total=8 * 1024 * 1024, share=2)
"""The same of every further program of that contact."""


class ChannelUser(Interface):
    """Who uses the channels of one session."""

    def attach(self, session: ChannelSession) -> None:
        """The session whose events come here."""

    def event(self, event: ChannelEvent) -> None:
        """Something happened to a channel."""

    def settled(self) -> None:
        """The peer has received everything that was said."""

    def lost(self, error: P2pxferError) -> None:
        """The session is over: say what there is to be said to the peer now, and use it no more."""


class Guest(ChannelSession):
    """The session of one running program of a contact, see the laws above."""

    def __init__(
        self, reception: Reception, number: tuple[bytes, bytes], user: ChannelUser, peer: KnownPeer, limits: Limits
    ) -> None:
        self.number = number
        self.user = user
        self._reception = reception
        super().__init__(
            reception.reactor,
            peer,
            asks=False,
            patience=reception.patience,
            tell=partial(reception.tell, peer),
            on_event=user.event,
            on_settled=user.settled,
            limits=limits,
        )

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`; with Bye the peer has said all."""
        if isinstance(message, Bye):
            self._reception.parted(self)
        else:
            super().path_message(path, message)

    def _nat_forgot(self) -> None:
        self._reception.nat_forgot()

    def _dropped(self, meeting: Meeting) -> None:
        self._reception.dropped(meeting)


class Reception(MeetingOwner):
    """See the laws above.

    ``admit(key)`` says who that is: ``None`` for a stranger; it raises :class:`~p2pxfer.errors.Refused` for a contact
    that may use nothing, and :class:`~p2pxfer.errors.Unreachable` while nobody can say.  ``user_for(peer)`` makes the
    user of a new session.  ``tell`` hears with whom something was.
    """

    log = Logger()

    def __init__(
        self,
        machine: Machine,
        admit: Callable[[bytes], KnownPeer | None],
        user_for: Callable[[KnownPeer], ChannelUser],
        tell: Callable[[KnownPeer, Event], None],
    ) -> None:
        self.reactor = machine.reactor
        self.patience = machine.patience
        self.tell = tell
        self._machine = machine
        self._admit = admit
        self._user_for = user_for
        self._client: RendezvousClient | None = None
        self._meetings: dict[Meeting, Guest | None] = {}
        self._met_by: dict[PeerPath, Meeting] = {}
        self._silent: dict[PeerPath, IDelayedCall] = {}
        self._sessions: dict[tuple[bytes, bytes], Guest] = {}
        self._leaving: set[Deferred[None]] = set()
        self._over = False

    def start(self, client: RendezvousClient) -> None:
        """The connection to the server over which introductions come to :meth:`introduced`."""
        self._client = client

    @property
    def sessions(self) -> list[Guest]:
        """Those that stand, or wait for a path."""
        return list(self._sessions.values())

    # -- introductions -----------------------------------------------------------------------------------------------

    def introduced(self, introduction: Introduction) -> None:
        """The server introduces somebody who asked."""
        key, client = introduction.peer_id, self._client
        try:
            peer, trusted = self._admitted(key), True
        except Refused:
            peer, trusted = KnownPeer(key, None, "contact"), False
        except Unreachable:
            peer, trusted = None, False
        if client is None or self._over or peer is None or key == self._machine.identity.id.digest:
            self.log.info("an introduction to a stranger was not taken up")
            return
        if not self._room_for(key):
            self.log.warn("an introduction was not taken up: too many are under way")
            return
        client.introduced(introduction)
        self.tell(peer, introduced_event(introduction))
        paths = (path for meeting in self._meetings if meeting.party.peer_key == key for path in meeting.paths)
        beside = is_beside(introduction, paths)
        party = self._machine.party("responder", key, trusted=trusted, beside=beside)
        meeting = Meeting(self.reactor, introduction, party, client, self)
        self._meetings[meeting] = None
        meeting.start()

    def _admitted(self, key: bytes) -> KnownPeer | None:
        """Who that is, as ``admit`` says; while nobody can say, with whom a session stands."""
        try:
            return self._admit(key)
        except Unreachable:
            standing = next((session for (whose, _), session in self._sessions.items() if whose == key), None)
            if standing is None:
                raise
            return standing.peer

    def _room_for(self, key: bytes) -> bool:
        of_key = [meeting for meeting in self._meetings if meeting.party.peer_key == key]
        if len(of_key) < MEETINGS_EACH:
            return len(self._meetings) < MAX_MEETINGS
        oldest = oldest_relayed(of_key)
        if oldest is None:
            return False
        session = self._meetings[oldest]
        if session is not None:
            session.replace(oldest)
        else:
            self.dropped(oldest)
            oldest.close()
        return True

    # -- sessions ----------------------------------------------------------------------------------------------------

    def _attach(self, path: PeerPath, attach: Attach) -> None:
        meeting = self._met_by[path]
        session = self._sessions.get((path.peer_key, attach.instance))
        if session is None and attach.peer:
            # It had a session here that is over; by another instance it sees that.
            path.send(Attach(instance=os.urandom(16)))
            path.close()
            return
        session = session or self._begin(path.peer_key, attach.instance)
        self._meetings[meeting] = session
        session.adopt(meeting)
        for one in [one for one in self._silent if self._met_by[one] is meeting]:
            self._silent.pop(one).cancel()
            session.path_up(meeting, one)
        session.path_message(path, attach)

    def _begin(self, key: bytes, instance: bytes) -> Guest:
        peer = self._admit(key)
        if peer is None:
            raise Refused("this machine is no contact here any more")
        of_key = [session for (whose, _), session in self._sessions.items() if whose == key]
        if len(of_key) >= SESSIONS_EACH:
            gone = next((session for session in of_key if not session.paths), None)
            if gone is None:
                raise LimitReached(f"at most {SESSIONS_EACH} programs of one contact are served at once")
            gone.fail(Unreachable("another program of this contact took its place"))
        if len(self._sessions) >= MAX_SESSIONS:
            raise LimitReached("too many programs are served at once")
        user = self._user_for(peer)
        session = Guest(self, (key, instance), user, peer, FURTHER_LIMITS if of_key else FIRST_LIMITS)
        user.attach(session)
        session.failed.addCallback(partial(self._end, session))
        self._sessions[session.number] = session
        return session

    def parted(self, session: Guest) -> None:
        """The peer says that it is done."""
        self._end(session, Unreachable("the peer ended the session"))

    def _end(self, session: Guest, error: P2pxferError, farewell: PeerStopped | None = None) -> None:
        if self._sessions.pop(session.number, None) is None:
            return
        session.user.lost(error)  # resets of channels go before the farewell
        leaving = Deferred.fromCoroutine(session.leave(farewell))
        self._leaving.add(leaving)

        def left(_: object) -> None:
            """The peer has heard the end, or had the time to."""
            self._leaving.discard(leaving)
            session.close()

        leaving.addBoth(left)

    def nat_forgot(self) -> None:
        """A contact's packets were lost: the NAT may have lost the connection to the server as well."""
        if self._client is not None and not self._over:
            self._client.reconnect()

    def dropped(self, meeting: Meeting) -> None:
        """A meeting was ended from here."""
        self._meetings.pop(meeting, None)

    async def close(self, farewell: PeerStopped) -> None:
        """The program was stopped: end every session, and let the peers hear of it in the words of ``farewell``."""
        self._over = True
        for session in self.sessions:
            self._end(session, farewell, farewell)
        await gatherResults(list(self._leaving))
        for path in list(self._silent):
            path.refuse(farewell)
        for meeting in list(self._meetings):
            self.dropped(meeting)
            meeting.close()

    # -- from the meetings -------------------------------------------------------------------------------------------

    def _of(self, path: PeerPath) -> Guest | None:
        meeting = self._met_by.get(path)
        return None if meeting is None else self._meetings.get(meeting)

    def path_up(self, meeting: Meeting, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        self._met_by[path] = meeting
        session = self._meetings.get(meeting)
        if session is not None:
            session.path_up(meeting, path)
            return
        try:
            self._admitted(path.peer_key)
        except (Refused, Unreachable) as error:
            path.refuse(error)
            return
        path.open_session()
        late = Unreachable("the peer did not say what it wants")
        self._silent[path] = self.reactor.callLater(ATTACH_S, path.fail, late)

    def path_down(self, meeting: Meeting, path: PeerPath, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        session = self._of(path)
        self._met_by.pop(path, None)
        timer = self._silent.pop(path, None)
        if timer is not None and timer.active():
            timer.cancel()
        if session is not None:
            session.path_down(meeting, path, error)

    def meeting_failed(self, meeting: Meeting, reasons: list[P2pxferError]) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        session = self._meetings.pop(meeting, None)
        if session is not None:
            session.meeting_failed(meeting, reasons)
        for reason in reasons:
            self.log.info("no path: {reason}", reason=reason)

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        session = self._of(path)
        if session is not None:
            session.path_message(path, message)
        elif isinstance(message, Attach):
            self._attach(path, message)
        elif isinstance(message, Bye):
            path.close()
        else:
            raise ProtocolBreach(f"{type(message).__name__} came before Attach")

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        raise ProtocolBreach("a chunk came among channels")

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        session = self._of(path)
        if session is not None:
            session.path_writable(path)
