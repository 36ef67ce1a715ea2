"""A session with one contact, kept up from both sides: paths found again and again, channels over them.

Laws of this file, beside those of :mod:`p2pxfer.net.session.channelsession`:

1. One side asks the server for introductions, the other one waits for them under a name that follows from its key, so
   that what else it has registered is not disturbed.  Where both sides run the same program, the lower key asks.
2. Only the one key that was verified before is met; introductions to anybody else are not taken up.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.messages import Introduction, Role
from p2pxfer.core.ownnames import common_name
from p2pxfer.core.session.channel import ChannelEvent
from p2pxfer.errors import IdentityMismatch, P2pxferError, Unreachable
from p2pxfer.net.private.identity import Identity
from p2pxfer.net.session.channelsession import ChannelSession, oldest_relayed
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.parties import introduced_event, is_beside
from p2pxfer.net.session.seeking import Seeking, Target
from p2pxfer.net.session.standing import Standing, standing_of, wants_another
from p2pxfer.net.traversal.rendezvous import RendezvousClient

MAX_MEETINGS = 8
"""Most introductions at once, whatever the server sends: each one dials."""


def pipe_name(key: bytes) -> str:
    """The name under which the peer with this key waits for a pipe."""
    return common_name("pipe", key)


class Appointment(Struct, frozen=True):
    """Who asks, and under which ``name`` the other one waits.

    ``absent`` is said of a peer that the server does not find.  ``expected``: it may still come, so its absence ends
    nothing.
    """

    asks: bool
    name: str
    absent: str
    expected: bool = True


def common_appointment(purpose: str, identity: Identity, peer: KnownPeer) -> Appointment:
    """Two that run the same program, in whichever order they start."""
    asks = identity.id.digest < peer.key
    waiting = peer.key if asks else identity.id.digest
    return Appointment(asks, common_name(purpose, waiting), f"{peer.shown} does not run p2pxfer {purpose} now")


def pipe_appointment(identity: Identity, peer: KnownPeer) -> Appointment:
    """The same for a pipe."""
    return common_appointment("pipe", identity, peer)


class PairSession(ChannelSession):
    """See the laws above; without an ``appointment`` both sides run ``pipe``."""

    log = Logger()

    def __init__(
        self,
        machine: Machine,
        peer: KnownPeer,
        *,
        on_event: Callable[[ChannelEvent], None],
        on_settled: Callable[[], None],
        appointment: Appointment | None = None,
    ) -> None:
        self.appointment = appointment or pipe_appointment(machine.identity, peer)
        asks = self.appointment.asks
        super().__init__(
            machine.reactor,
            peer,
            asks=asks,
            patience=machine.patience,
            tell=machine.tell,
            on_event=on_event,
            on_settled=on_settled,
        )
        self._machine = machine
        self._client: RendezvousClient | None = None
        self._seeking: Seeking | None = None
        self._search: Deferred[None] | None = None

    def start(self, client: RendezvousClient) -> None:
        """Begin to look for the peer; ``client`` hands introductions to :meth:`introduced`."""
        self._client = client
        if self.appointment.expected:  # the server waits with its answer, and who is waited for may never ask
            self._pathless.last = Unreachable(self.appointment.absent)
        self._pathless.begin()
        if self.asks:
            target = Target(self.appointment.name, self._peer.key, None, None, "contact", None)
            self._seeking = Seeking(self._reactor, client, target, self._machine.approach.policy, self)
            self._search = Deferred.fromCoroutine(self._seeking.run())
            self._search.addErrback(self._search_ended)

    def close(self) -> None:
        """End everything, whatever its state."""
        super().close()
        if self._search is not None:
            self._search.cancel()

    # -- the search ------------------------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`."""
        return standing_of(self.paths, self._doubted)

    @property
    def begun(self) -> bool:
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`."""
        return self.appointment.expected or self._met

    @property
    def cut(self) -> bool:
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`."""
        return self._met and self.standing in (Standing.NOTHING, Standing.DOUBTED)

    @property
    def confirmed(self) -> int:
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`: what was carried, both ways."""
        return sum(self.paths.bytes_by_path.values())

    def not_met(self, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`."""
        there = self._client is not None and self._client.registered is not None
        absent = there and isinstance(error, Unreachable)
        self._pathless.last = Unreachable(self.appointment.absent) if absent else error

    def meet(self, introduction: Introduction, *, beside: bool) -> Meeting:
        """See :class:`~p2pxfer.net.session.seeking.SeekingOwner`."""
        if introduction.peer_id != self._peer.key:
            raise IdentityMismatch(f"the server presents another key as {self._peer.shown}")
        return self._meet(introduction, "initiator", beside=beside)

    def introduced(self, introduction: Introduction) -> None:
        """The server introduces somebody who asked."""
        if self.asks or self._over or self._client is None or introduction.peer_id != self._peer.key:
            self.log.info("an introduction that this session does not wait for was not taken up")
        elif len(self._meetings) < MAX_MEETINGS or self._made_room():
            self._client.introduced(introduction)
            self._meet(introduction, "responder", beside=is_beside(introduction, self.paths))

    def _made_room(self) -> bool:
        oldest = oldest_relayed(self._meetings)
        if oldest is not None:
            self.replace(oldest)
        return oldest is not None

    def _meet(self, introduction: Introduction, role: Role, *, beside: bool) -> Meeting:
        assert self._client is not None
        self._tell(introduced_event(introduction))
        if not self.paths:
            self.paths.introduced()
        party = self._machine.party(role, self._peer.key, trusted=True, beside=beside)
        meeting = Meeting(self._reactor, introduction, party, self._client, self)
        self.adopt(meeting)
        meeting.start()
        return meeting

    def _search_ended(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            return
        if not isinstance(error, P2pxferError):
            self.log.failure("the search for the peer ended", failure)
            self._pathless.last = Unreachable("the search for the peer ended by a fault inside the program")
        self.fail(self._pathless.last or Unreachable(self.appointment.absent))

    def _look_around(self) -> None:
        if self._seeking is not None and wants_another(self._meetings, self.paths, self._machine.approach.policy):
            self._seeking.wake()

    def _nat_forgot(self) -> None:
        if self.asks:
            self._doubted.doubt(self.paths.ordered())
        elif self._client is not None:
            self._client.reconnect()
