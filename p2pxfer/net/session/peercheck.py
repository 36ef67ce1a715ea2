"""A check of the network with one peer: an introduction, a real punch, and nothing offered.

Laws of this file:

1. The peer is asked what it found only after the punch is over on this side: measuring takes ports of a NAT, and a
   punch may aim at the next ones.
2. Only a key that was verified before is met, so no code is ever used up.
3. A check ends in findings or in one error, and leaves no connection behind; whoever runs it limits the time.
"""

from __future__ import annotations

from msgspec import Struct
from twisted.internet.defer import Deferred

from p2pxfer.core.codec import Message
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Introduction, NatSummary
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.wire import Bye, Check, Checked, PlanState
from p2pxfer.errors import CodeNeeded, IdentityMismatch, P2pxferError, ProtocolBreach, Unreachable
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.parties import MeetingOwner, introduced_event
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.patience import Parting
from p2pxfer.net.session.seeking import introduced_to
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.status import Note, PathKind, Peer

ANSWER_S = 45.0
"""How long the peer may take to finish its own punch and measurements, seconds; both have limits of their own."""
MEETINGS = 3
"""How many introductions are asked for where the peer read none: its connection to the server may have been dead."""
FAREWELL_S = 2.0
"""How long the end of the paths may take, seconds."""


class Findings(Struct, frozen=True):
    """What came of it.  ``path``: the best one that stood, ``after`` the introduction and with a round trip in seconds.

    ``nats`` are what came to be known in the punch, of this side and of the peer; ``plan`` and ``tried`` what this side
    dialled beyond the candidates, ``answer`` is the peer's.
    """

    introduction: Introduction
    path: PathKind | None
    after: float | None
    round_trip: float | None
    nats: tuple[NatSummary, NatSummary]
    plan: PlanState
    tried: str
    answer: Checked | None


class PeerCheck(MeetingOwner):
    """One check.  ``tell`` hears of each step."""

    def __init__(
        self,
        machine: Machine,
        client: RendezvousClient,
        peer: KnownPeer,
    ) -> None:
        self._machine = machine
        self._reactor = machine.reactor
        self._tell = machine.tell
        self._client = client
        self._peer = peer
        self._paths = PathSet(machine.reactor.seconds, machine.tell)
        self._after: dict[PeerPath, float] = {}
        self._asked: PeerPath | None = None
        self._first: Deferred[None] = Deferred()
        self._answer: Deferred[Checked | None] = Deferred()
        self._last: P2pxferError | None = None
        self._parting = Parting(machine.reactor, FAREWELL_S)
        self._over = False

    async def run(self) -> Findings:
        """Meet, punch, ask, part.

        Raises:
            Unreachable: the peer is not there, does not take part, or was lost.
            P2pxferError: the server or the peer refused, or the peer has another key.
        """
        try:
            for _ in range(MEETINGS):
                findings = await self._meet(await self._introduce())
                if findings is not None:
                    return findings
        finally:
            self._finish()
        raise Unreachable(f"{self._peer.shown} loses its connection to the server again and again")

    async def _meet(self, introduction: Introduction) -> Findings | None:
        """What came of one introduction; ``None`` if the peer never read it."""
        self._tell(introduced_event(introduction))
        self._paths.introduced()
        self._first = Deferred()
        party = self._machine.party("initiator", self._peer.key, trusted=True)
        meeting = Meeting(self._reactor, introduction, party, self._client, self)
        try:
            meeting.start()
            if introduction.dial:
                self._note(f"introduced to {self._peer.shown}; both dial each other now")
            await meeting.decided()
            if introduction.relay_token is not None and not self._paths:
                await self._first
            return None if meeting.unheard else await self._findings(meeting)
        finally:
            meeting.close()

    async def _findings(self, meeting: Meeting) -> Findings:
        found = self._best()
        if found is None and self._last is not None:
            raise self._lost(self._last)
        answer = await self._ask() if found is not None else None
        await self._part()
        return Findings(
            meeting.introduction,
            None if found is None else found.facts.kind,
            None if found is None else self._after[found],
            None if found is None else found.rtt,
            meeting.punch.nats,
            meeting.punch.plan_state,
            meeting.punch.tried,
            answer,
        )

    async def _introduce(self) -> Introduction:
        """Ask for the peer, who must have the key that was verified."""
        self._note(f"asking the server for {self._peer.shown}")
        await self._client.when_registered()
        absent = f"{self._peer.shown} is not here now: start p2pxfer receive there"
        to = str(PeerId(self._peer.key))
        found = await introduced_to(self._client, to, self._peer.name, self._machine.approach.policy, absent)
        if found.peer_id != self._peer.key:
            raise IdentityMismatch(
                f"the server presents {PeerId(found.peer_id)} as {self._peer.shown}, but {PeerId(self._peer.key)} was"
                " verified before"
            )
        return found

    def _best(self) -> PeerPath | None:
        return next(iter(self._paths.ordered()), None)

    # -- the question ----------------------------------------------------------------------------------------------

    async def _ask(self) -> Checked | None:
        """What the peer found; ``None`` if it says nothing in time.

        Raises:
            Unreachable: the peer was lost.
        """
        self._note(f"asking {self._peer.shown} what it finds on its side")
        self._send_question()
        self._answer.addTimeout(ANSWER_S, self._reactor, lambda result, timeout: None)
        return await self._answer

    def _send_question(self) -> None:
        self._asked = self._best()
        if self._asked is not None:
            self._asked.send(Check())

    async def _part(self) -> None:
        """End the paths, and wait until the peer's side of them has ended too."""
        self._finish()
        for path in self._paths.ordered():
            path.send(Bye())
            path.close()
        if self._paths:
            await self._parting.wait()

    def _finish(self) -> None:
        """That paths go away now is no loss."""
        self._over = True
        self._paths.finish()

    def _note(self, text: str) -> None:
        self._tell(Note(text))

    # -- from the meeting --------------------------------------------------------------------------------------------

    def path_up(self, meeting: Meeting, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        if self._over:
            path.close()
            return
        self._after[path] = self._reactor.seconds() - meeting.started
        path.open_session()
        if not self._first.called:
            name = self._peer.name or path.peer_name
            self._tell(Peer(name=name, id=str(PeerId(self._peer.key)), verified=self._peer.verified))
        self._paths.add(path)
        self._note(f"a path stands: {path.facts.kind}, after {self._after[path]:.2f} s")
        if not self._first.called:
            self._first.callback(None)

    def path_down(self, meeting: Meeting, path: PeerPath, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        self._paths.remove(path, error.message)
        self._last = error
        if self._over:
            if not self._paths:
                self._parting.gone()
        elif path is self._asked and not self._answer.called:
            if not self._paths or isinstance(error, CodeNeeded):
                self._answer.errback(self._lost(error))
            else:
                self._send_question()

    def _lost(self, error: P2pxferError) -> P2pxferError:
        if isinstance(error, (CodeNeeded, IdentityMismatch)):
            return error
        return Unreachable(f"{self._peer.shown} was lost in the middle of the check: {error.message}")

    def meeting_failed(self, meeting: Meeting, reasons: list[P2pxferError]) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        if self._first.called or meeting.introduction.relay_token is None:
            return
        if meeting.unheard:
            self._first.callback(None)
            return
        why = next((error for error in reasons if isinstance(error, IdentityMismatch)), None)
        last = reasons[-1].message if reasons else "nothing came about"
        silent = Unreachable(
            f"{self._peer.shown} did not take part in the check ({last}): does it have this machine in its contacts?"
        )
        self._first.errback(why or silent)

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        if not isinstance(message, Checked) or path is not self._asked:
            raise ProtocolBreach(f"{type(message).__name__} came in a check")
        if not self._answer.called:
            self._answer.callback(message)

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        raise ProtocolBreach("a chunk came in a check")

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
