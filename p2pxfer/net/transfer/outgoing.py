"""The sending job: introductions, paths and the sender's core, until the receiver confirmed everything.

Laws of this file:

1. Whatever breaks, another introduction is asked for (:mod:`p2pxfer.net.session.seeking`), until the job is done,
   refused, or has been without any path for the allowed time.
2. While the data goes through the relay new punches from fresh ports are tried beside it, soon after a direct path
   died, and then more and more seldom.
3. A job ends in exactly one outcome: done, or one error; the receiver hears which, unless it said so itself
   (:mod:`p2pxfer.core.session.farewell`).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from p2pxfer.core.codec import Message
from p2pxfer.core.contact.pairing import Party as PairingParty
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Introduction
from p2pxfer.core.reported import not_now
from p2pxfer.core.session.farewell import last_word
from p2pxfer.core.session.pathchoice import FORGOTTEN
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.verdict import no_direct_path, should_meet
from p2pxfer.core.session.wire import Bye, Pair2, Paired
from p2pxfer.core.words.parting import unanswered_text
from p2pxfer.errors import (
    IdentityMismatch,
    Interrupted,
    ManifestRefused,
    NoDirectPath,
    P2pxferError,
    PeerStopped,
    ProtocolBreach,
    Refused,
    Unreachable,
    WrongCode,
)
from p2pxfer.net.connection.liveness import PacketsLost
from p2pxfer.net.session.acquaintance import Acquaintance
from p2pxfer.net.session.doubted import Doubted
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.meetings import Meetings
from p2pxfer.net.session.parties import introduced_event, nat_event
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.patience import Parting, Pathless
from p2pxfer.net.session.seeking import Patience, Seeking, Target
from p2pxfer.net.session.standing import Standing, standing_of, wants_another, when_relayed
from p2pxfer.net.session.widening import Widener
from p2pxfer.net.transfer.cargo import Cargo
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.status import Event, Note, Peer

TRUSTED_S = 1.0
"""How long after a first contact a direct path may still come of itself before the peers meet again, seconds: between
peers that have just come to know each other more may be tried."""
FATAL = (IdentityMismatch, ManifestRefused, Refused, WrongCode)
"""What no other path would change."""


class OutgoingJob:
    """One transfer to one peer.

    ``on_paired(key, name)`` is called when the code was proved, to store the contact; ``on_relayed(meeting)`` when one
    is left with the relay alone.  ``first``: an introduction to the peer that is there already.
    """

    def __init__(
        self, machine: Machine, client: RendezvousClient, target: Target, pump: Cargo, *, patience: Patience,
        tell: Callable[[Event], None], on_paired: Callable[[bytes, str], None],
        on_relayed: Callable[[Meeting], None], first: Introduction | None = None,
    ) -> None:  # fmt: skip
        reactor = self._reactor = machine.reactor
        self._machine = machine
        self._client = client
        self._target = target
        self._pump = pump
        policy = self._policy = machine.approach.policy
        self._patience = patience
        self._tell = tell
        self._on_relayed = on_relayed
        self.paths = PathSet(reactor.seconds, tell)
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`."""
        self._meetings = Meetings()
        own = PairingParty(machine.name, machine.identity.id.digest)
        self._peer = Acquaintance(
            reactor, own, target, on_paired=on_paired, met=self._met, failed=self.fail,
            forgotten=lambda text: tell(Note(text)),
        )  # fmt: skip
        self._seeking = Seeking(reactor, client, target, policy, self, first)
        self._widener = Widener(reactor, self.paths, self._open_beside, pump.is_idle if pump.spreads else None)
        self._doubted = Doubted()
        self._pathless = Pathless(
            reactor, target.shown, None if patience.wait else patience.without_path, self.fail,
            lambda: pump.after_cut if pump.accepted else None, lambda: self.paths.peer_left,
            unanswered_text(target.shown) if target.verified == "code" else "",
        )  # fmt: skip
        self._again: IDelayedCall | None = None
        self._tried_again = False
        self._outcome: Deferred[bytes] = Deferred()
        self._parting = Parting(reactor)

    @property
    def path_kind(self) -> str:
        """Kind of the path that carries the data."""
        return self.paths.active_kind

    @property
    def bytes_by_path(self) -> dict[str, int]:
        """Payload bytes sent, by kind of path."""
        return self.paths.bytes_by_path

    # -- the loop ------------------------------------------------------------------------------------------------

    async def run(self) -> bytes:
        """Send everything; returns the root hash.

        Raises:
            Exception: the outcome, when it is not success; what is no ``P2pxferError`` is a fault of the program.
        """
        self._pump.attach(self.paths, self._finished, self.fail)
        self._pathless.begin()
        self._widener.start()
        seeking = Deferred.fromCoroutine(self._seeking.run()).addErrback(self._give_up)
        root = word = None
        stopped = False
        try:
            root = await self._outcome
            # Let the receiver know that we know, and give the last bytes time to leave.
            self.paths.part(Bye())
            await self._until_parted()
            return root
        except Exception as error:  # the receiver hears of a fault of the program, too
            stopped = isinstance(error, (CancelledError, Interrupted))
            word = self._last_word(error) if root is None else None
            raise
        finally:
            # From here on this side ends the paths itself: that is no loss to report.
            self.paths.finish()
            self._widener.stop()
            self._pathless.end()
            if self._again is not None and self._again.active():
                self._again.cancel()
            seeking.cancel()
            self._pump.close()
            if word is not None:
                self.paths.part(word, at_once=self._pump.spreads)
                if stopped and not self._pump.parting:
                    self._parting.hurry(self.paths.acknowledged)
            self._meetings.close()
            if word is not None or self._pump.parting:
                await self._until_parted()

    def _last_word(self, error: Exception) -> Message | None:
        """What the receiver hears of an end that is not a good one."""
        if isinstance(error, (CancelledError, Interrupted)):
            error = PeerStopped("the sender was stopped")
        return last_word(error, offered=self._pump.offered)

    async def _until_parted(self) -> None:
        if self.paths:
            await self._parting.wait()

    # -- from the search -----------------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`."""
        return standing_of(self.paths, self._doubted)

    @property
    def begun(self) -> bool:
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`."""
        return bool(self._pump.accepted or self._meetings or self._patience.wait)

    @property
    def cut(self) -> bool:
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`."""
        return self._pump.accepted and self.standing in (Standing.NOTHING, Standing.DOUBTED)

    @property
    def confirmed(self) -> int:
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`."""
        return self._pump.acked_bytes

    def not_met(self, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`."""
        self._pathless.last = error

    def meet(self, introduction: Introduction, *, beside: bool) -> Meeting:
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`."""
        self._peer.introduced(introduction.peer_id)
        self._tell(introduced_event(introduction))
        self._tell(nat_event(introduction.my_nat))
        if not self.paths:
            self.paths.introduced()
        known = self._peer.key is not None
        party = self._machine.party(
            "initiator", introduction.peer_id, peer_name=self._target.name, trusted=known, beside=beside
        )
        meeting = Meeting(self._reactor, introduction, party, self._client, self)
        self._meetings.begin(meeting)
        Deferred.fromCoroutine(when_relayed(meeting, self.paths, self._on_relayed))
        return meeting

    def _look_around(self) -> None:
        if wants_another(self._meetings, self.paths, self._policy):
            self._seeking.wake()

    def _has_ended(self) -> bool:
        return bool(self._outcome.called)

    def _give_up(self, failure: Failure) -> None:
        if not self._outcome.called:
            self._outcome.errback(failure)

    def fail(self, error: Exception) -> None:
        """End the job with this error, or fault of the program."""
        self._give_up(Failure(error))

    def _finished(self, root: bytes) -> None:
        self.paths.finish()
        if not self._outcome.called:
            self._outcome.callback(root)

    # -- from the meetings ---------------------------------------------------------------------------------------

    def path_up(self, meeting: Meeting, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        if self._has_ended():
            # A path that comes when all is done would offer the files again.
            path.fail(Unreachable("the session is over"))
            return
        self._pathless.end()
        self.paths.add(path)
        self._doubted.drop()
        self._meetings.won(meeting)
        if self._peer.key == path.peer_key:
            self._use(path)
        else:
            self._peer.prove(path)

    async def _open_beside(self, path: PeerPath) -> PeerPath | None:
        """Another connection beside one, if it comes about."""
        meeting = self._meetings.of(path)
        return await meeting.siblings.open(path) if meeting is not None else None

    def _met(self, key: bytes) -> None:
        """The peer proved that it knows the code."""
        self._again = self._reactor.callLater(TRUSTED_S, self._meet_as_contacts)
        for path in self.paths.ordered():
            if path.peer_key == key:
                self._use(path)
            else:
                path.fail(IdentityMismatch("this path leads to another key than the one that knew the code"))

    def _meet_as_contacts(self) -> None:
        if self._policy == "auto" and not self.paths.direct:
            self.paths.upgrades.hurry(self._reactor.seconds())
            self._seeking.wake()

    def _use(self, path: PeerPath) -> None:
        path.open_session()
        if not self._pump.introduced:
            name = self._target.alias or path.peer_name
            self._tell(Peer(name=name, id=str(PeerId(path.peer_key)), verified=self._target.verified))
        self._pump.open_path(path)

    def path_down(self, meeting: Meeting, path: PeerPath, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        forgotten = not self._outcome.called and self._peer.may_prove_again(error)
        fatal = isinstance(error, FATAL) and not self._outcome.called and not forgotten
        if fatal:
            self.paths.finish()  # its reason is that of the job, and is told once
        # One that was closed for nothing to do is gone already.
        counted = self.paths.remove(path, FORGOTTEN) if forgotten else self.paths.lost(path, error)
        self._pump.close_path(path)
        self._pathless.last = error
        if self._outcome.called:
            (self._parting.heard if self.paths else self._parting.gone)()
            return
        if fatal:
            self.fail(error)
        self._peer.lost(path, error)
        if self._has_ended():
            return
        self._doubted.lost(path)
        if isinstance(error, PacketsLost) and not self.paths.direct:
            self._doubted.doubt(self.paths.ordered())
        if counted and not self.paths:
            self._pathless.begin(in_vain=not_now(error))
            if not forgotten:
                self._tell(Note(self._pathless.said()))
        self._look_around()

    def meeting_failed(self, meeting: Meeting, reasons: list[P2pxferError]) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        self._meetings.failed(meeting)
        self._pathless.last = reasons[-1] if reasons else self._pathless.last
        if self._outcome.called:
            return
        fatal = next((error for error in reasons if isinstance(error, FATAL)), None)
        if fatal is not None and not self.paths and not self._peer.may_prove_again(fatal):
            self.fail(fatal)
        elif self._is_final(meeting):
            self.fail(NoDirectPath(no_direct_path(self._target.shown, *meeting.punch.nats, meeting.punch.tried)))
        else:
            if meeting.unheard and self._patience.wait and not self.paths:
                self._tell(Note(f"{self._target.shown} lost its connection to the server; waiting for it to come back"))
            self._look_around()

    def _is_final(self, failed: Meeting) -> bool:
        """Only a direct path was wanted, the peer tried too, and none came about before anything was sent.

        Where one should have come about it is tried once more, from fresh ports.
        """
        only_direct = failed.introduction.relay_token is None and not failed.party.beside
        if not only_direct or failed.unheard or self.paths or self._pump.accepted:
            return False
        again, self._tried_again = not self._tried_again and should_meet(*failed.punch.nats), True
        return not again

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        if isinstance(message, (Pair2, Paired)):
            self._peer.receive(path, message)
            return
        try:
            for event in self._pump.message(path, message):
                self._tell(event)
            self._pump.push()
        except P2pxferError as error:
            ended = self._has_ended()
            self.fail(error)
            if ended and not error.reported:
                raise  # else the end by this very error says so on every path

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        raise ProtocolBreach("the receiver sent a chunk")

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        self.paths.room(path)
        self._pump.push()
