"""The receiving side of a machine: introductions in, transfers out.

Laws of this file:

1. Who is met, and who may bring what, is said by :mod:`p2pxfer.net.transfer.admittance`; while nobody can say that, who
   asks hears it (:mod:`p2pxfer.net.transfer.declining`).
2. A peer whose key is not verified may prove that it knows the code, and take leave; nothing else.  One that is denied
   files may prove as much as it likes.
3. What a verified peer's paths bring is kept by its key and not by connection (:mod:`p2pxfer.net.transfer.arrivals`).
4. A check of the network is answered for contacts only, costs no code, and is no transfer.
5. Nobody keeps a place for nothing: a pairing that failed ends its path, :mod:`p2pxfer.net.transfer.idlers` ends the
   others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from p2pxfer.core.codec import Message
from p2pxfer.core.contact.codebook import CodeBook
from p2pxfer.core.contact.pairing import Party as PairingParty
from p2pxfer.core.messages import Introduction
from p2pxfer.core.session.channelwire import Attach, Compare
from p2pxfer.core.session.pathchoice import OVER
from p2pxfer.core.session.transferwire import Chunk, Offer
from p2pxfer.core.session.wire import Bye, Check, Pair1, PairConfirm, SameWords
from p2pxfer.errors import P2pxferError, PeerStopped, ProtocolBreach, WrongCode
from p2pxfer.net.connection.liveness import PacketsLost
from p2pxfer.net.session.bothsame import COMPARE_S
from p2pxfer.net.session.checkanswer import CheckAnswers
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.parties import introduced_event, is_beside, nat_event
from p2pxfer.net.session.path import CLOSE_S, PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.patience import STOPPED_S
from p2pxfer.net.transfer.admittance import Acceptance, Admittance
from p2pxfer.net.transfer.arrivals import Arrivals
from p2pxfer.net.transfer.codeproofs import CodeProofs
from p2pxfer.net.transfer.declining import Declining
from p2pxfer.net.transfer.idlers import QUIET_S, NothingOffered, QuietPaths, giving_way
from p2pxfer.net.transfer.inboxowner import InboxOwner
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.instream import IncomingStream
from p2pxfer.net.transfer.landing import DiskThreads
from p2pxfer.net.transfer.listbudget import ListBudget
from p2pxfer.net.transfer.peersession import PeerSession
from p2pxfer.net.transfer.places import Place
from p2pxfer.net.transfer.undecided import Undecided
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.status import Event, Note

IDLE_S = 120.0
"""How long a transfer without a path keeps its staging place locked, seconds."""
MAX_MEETINGS = 64
"""Most introductions at once, whatever the server sends: each one dials."""


class Inbox:
    """Receives from anybody who may send; see the laws above."""

    log = Logger()

    def __init__(
        self,
        machine: Machine,
        place_for: Callable[[bytes], Place],
        acceptance: Acceptance,
        codes: CodeBook,
        owner: InboxOwner,
        tell: Callable[[Event], None],
        *,
        limit: int = 0,
        patience: float = IDLE_S,
    ) -> None:
        """``place_for``: by a sender's key; ``patience``: how long a stream may be without a path, seconds."""
        reactor = self._reactor = machine.reactor
        self._machine = machine
        self._limit = limit
        self._place_for = place_for
        self._patience = patience
        self._admittance = Admittance(machine.name, acceptance, codes, owner)
        self._owner = owner
        self._tell = tell
        self._instance = os.urandom(16)
        self._sessions: dict[bytes, PeerSession] = {}
        self._meetings: set[Meeting] = set()
        self._client: RendezvousClient | None = None
        self._disk = DiskThreads(reactor)
        self._checks = CheckAnswers(reactor)
        self._quiet = QuietPaths(reactor, self._needed)
        self._declining = Declining(machine)
        own = PairingParty(machine.name, machine.identity.id.digest)
        self._proofs = CodeProofs(reactor, own, codes, owner, tell, self._needed)
        self._parted: Deferred[None] | None = None

    def attach(self, client: RendezvousClient) -> None:
        """The connection to the server over which introductions come."""
        self._client = client

    # -- introductions -------------------------------------------------------------------------------------------

    def introduced(self, introduction: Introduction) -> None:
        """The server introduces somebody who wants to send."""
        client = self._client
        assert client is not None
        if self._parted is not None:
            return  # whoever is met now would not be ended any more
        key, now = introduction.peer_id, self._reactor.seconds()
        before = self._sessions[key].goes_on_as if key in self._sessions else None
        welcome = self._admittance.welcome(key, now, goes_on=before is not None)
        if key == self._machine.identity.id.digest or not welcome:
            self.log.info("an introduction to a stranger was not taken up")
            if self._owner.unread:
                self._declining.decline(introduction, client)
            return
        contact = self._admittance.contact(key, before) is not None
        self._make_room(key, contact)
        if len(self._meetings) >= MAX_MEETINGS:
            self.log.warn("an introduction was not taken up: {count} are under way", count=MAX_MEETINGS)
            return
        client.introduced(introduction)
        session = self._session(key)
        self._tell(introduced_event(introduction))
        self._tell(nat_event(introduction.my_nat))
        session.introduced(now, self._admittance.known(key, before))
        beside = is_beside(introduction, session.paths)
        party = self._machine.party("responder", key, trusted=contact, beside=beside)
        meeting = Meeting(self._reactor, introduction, party, client, self)
        self._meetings.add(meeting)
        meeting.start()

    def _make_room(self, key: bytes, contact: bool) -> None:
        """End the meeting of which another one with this peer takes the place, if there are enough."""
        quiet = (meeting for meeting in self._meetings if not any(map(self._brings, meeting.paths)))
        oldest = giving_way(quiet, key, contact)
        if oldest is not None:
            self.log.info("a meeting that brought nothing gave way to another one")
            self._meetings.discard(oldest)
            oldest.close()

    def _brings(self, path: PeerPath) -> bool:
        """A transfer or a check came over this very path, or its words are compared."""
        session = self._session(path.peer_key)
        return session.arrivals.brings(path) or path in self._checks or session.compares(path)

    def _needed(self, path: PeerPath) -> bool:
        """The path may stay: its session carries something, or did a moment ago, or the peer is proving a code."""
        session = self._session(path.peer_key)
        return (
            path in session.contacts
            or any(map(self._brings, session.paths.ordered()))
            or session.arrivals.confirmed_since(self._reactor.seconds() - QUIET_S)
            or self._reactor.seconds() < session.comparing + COMPARE_S
        )

    def _session(self, key: bytes) -> PeerSession:
        session = self._sessions.get(key)
        if session is None:
            paths = PathSet(self._reactor.seconds, self._tell)
            session = self._sessions[key] = PeerSession(key, paths, self._admittance.known(key))
            undecided = Undecided(
                self._reactor, lambda: self._client and self._client.registered, partial(session.seeks, self._meetings)
            )
            session.arrivals = Arrivals(partial(self._begin, session), partial(self._begin_stream, session), undecided)
        return session

    async def close(self, farewell: PeerStopped | None = None, *, stopped: bool = False) -> None:
        """End every meeting and transfer, and let the senders hear of it; what arrived stays.

        A program that was ``stopped`` waits less for them; ``farewell`` is what they are told of that.
        """
        parted: Deferred[None] = Deferred()
        self._parted = parted
        self._checks.close()
        self._quiet.close()
        self._declining.close()
        for session in self._sessions.values():
            session.paths.finish()
            session.arrivals.end_streams()
            if farewell is not None:
                session.paths.leave(farewell)
        for meeting in list(self._meetings):
            meeting.close()
        for session in list(self._sessions.values()):
            session.wake()
            for transfer in session.arrivals.unended():
                await transfer.close()
        if any(session.paths for session in self._sessions.values()):
            patience = STOPPED_S if stopped or farewell is not None else CLOSE_S
            parted.addTimeout(patience, self._reactor, lambda result, timeout: None)
            await parted
        self._sessions.clear()
        self._disk.stop()

    # -- from the meetings ---------------------------------------------------------------------------------------

    def path_up(self, meeting: Meeting, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        session = self._session(meeting.party.peer_key)
        session.wake()
        session.since[path] = meeting.started
        session.paths.add(path)
        self._quiet.watch(path)
        if session.known is not None:
            session.open(path, self._tell)
        else:
            self._proofs.expect(session, path)

    def path_down(self, meeting: Meeting, path: PeerPath, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        session = self._session(meeting.party.peer_key)
        self._quiet.forget(path)
        # Of a wrong code its desk tells; where nothing was offered there is nothing to tell.
        told = isinstance(error, (WrongCode, NothingOffered)) or self._checks.ended(path, meeting)
        self._owner.path_ends(path, session.name(path), error, session.arrivals.on(path))
        if told:
            session.paths.remove(path, OVER)
        else:
            session.paths.lost(path, error)
        self._proofs.lost(session, path, error)
        session.arrivals.close_path(path, error)
        session.since.pop(path, None)
        # Anybody may greet, and then drop our packets; with ``--accept all`` anybody has a session.
        verified = self._admittance.contact(session.key) is not None
        lost = isinstance(error, PacketsLost) and session.nat_forgot(path, self._reactor.seconds())
        session.doubted.pop(path, None)
        if lost and verified and self._parted is None and self._client is not None:
            self._client.reconnect()
        if not session.paths:
            session.told = False
        if self._parted is not None:
            if not self._parted.called and not any(other.paths for other in self._sessions.values()):
                self._parted.callback(None)
        elif not session.paths:
            session.idle = self._reactor.callLater(IDLE_S, self._idle, session)
        self._owner.path_gone(path)

    def _idle(self, session: PeerSession) -> None:
        """Nothing came back: unlock the staging places."""
        self._sessions.pop(session.key, None)
        session.arrivals.abandon()

    def meeting_failed(self, meeting: Meeting, reasons: list[P2pxferError]) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        self._meetings.discard(meeting)
        for reason in reasons:
            self.log.info("no path: {reason}", reason=reason)
        session = self._sessions.get(meeting.party.peer_key)
        if session is None:
            return
        session.met(meeting, self._reactor.seconds())
        if not session.paths and not session.arrivals.unfinished and session.idle is None:
            del self._sessions[session.key]

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        session = self._session(path.peer_key)
        if isinstance(message, (Pair1, PairConfirm, SameWords)):
            self._proofs.receive(session, path, message)
        elif isinstance(message, Bye):
            session.paths.said_bye(path)
            session.arrivals.bye(path)
            path.close()
        elif session.known is None or (isinstance(message, Check) and self._admittance.contact(session.key) is None):
            self._admittance.turn_away(session.key)
        elif isinstance(message, Check):
            self._check(session, path)
        elif isinstance(message, Compare):
            session.introduce(path, self._tell)
            session.comparing = self._reactor.seconds()
            self._owner.compared(path, session.name(path))
        elif isinstance(message, (Offer, Attach)):
            self._brought(session, path, message)
        else:
            session.arrivals.message(path, message)

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        self._session(path.peer_key).arrivals.chunk(path, chunk)

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        self._session(path.peer_key).arrivals.room(path)

    def _check(self, session: PeerSession, path: PeerPath) -> None:
        """Say what the network is like here, and expect no offer on this path."""
        meeting = next((meeting for meeting in self._meetings if path in meeting.paths), None)
        if path in session.arrivals or meeting is None or self._client is None:
            raise ProtocolBreach("a path that carries a transfer cannot be checked")
        self._checks.asked(path, meeting, self._client.discovery)
        assert session.known is not None
        self._tell(Note(f"{session.known.name or 'a peer'} checks the network; nothing is offered"))

    # -- transfers -----------------------------------------------------------------------------------------------

    def _brought(self, session: PeerSession, path: PeerPath, message: Offer | Attach) -> None:
        if path in self._checks:
            raise ProtocolBreach("an offer came on a path that was for a check")
        session.introduce(path, self._tell)
        self._admittance.check_offer(session.key, goes_on=session.arrivals.goes_on(message))
        if isinstance(message, Attach):
            return session.arrivals.attach(path, message)
        return session.arrivals.offer(path, session.since[path], message)

    def _begin(self, session: PeerSession, path: PeerPath, number: bytes, budget: ListBudget) -> IncomingTransfer:
        name, known = session.name(path), self._admittance.contact(session.key) is not None
        ask = session.arrivals.undecided.ask
        transfer: IncomingTransfer = IncomingTransfer(
            self._reactor, session.key, number, self._instance, self._place_for(session.key), session.paths, self._disk,
            lambda offer: ask(transfer, self._owner.decide(name, offer)), self._tell, budget, self._limit, known=known,
        )  # fmt: skip
        self._owner.transfer_started(name, transfer, session.paths)
        return transfer

    def _begin_stream(self, session: PeerSession, path: PeerPath) -> IncomingStream:
        name, ask = session.name(path), session.arrivals.undecided.ask
        stream: IncomingStream = IncomingStream(
            self._reactor, session.paths, self._place_for(session.key),
            decide=lambda offer: ask(stream, self._owner.decide(name, offer)),
            started=lambda stream: self._owner.transfer_started(name, stream, session.paths),
            tell=self._tell, limit=self._limit, patience=self._patience,
        )  # fmt: skip
        return stream
