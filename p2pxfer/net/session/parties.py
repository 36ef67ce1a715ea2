"""The two ends of a meeting: who meets whom, and who hears what comes of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Protocol as Interface

from msgspec import Struct

from p2pxfer.core.codec import Message
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Introduction, NatSummary, Role
from p2pxfer.core.session.hello import Terms
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.wire import PathClass
from p2pxfer.core.traversal.ledger import Ledger
from p2pxfer.errors import P2pxferError
from p2pxfer.net.private.identity import Identity
from p2pxfer.net.session.path import PeerPath
from p2pxfer.status import Introduced, Nat

if TYPE_CHECKING:
    from p2pxfer.net.session.meeting import Meeting


class Party(Struct, frozen=True):
    """Who meets: this machine, and what it expects of the peer.

    ``peer_name`` is the name that the peer must have, ``None`` at a responder; ``peer_key`` is the digest that the
    contact list or, for a first contact, the server promised.  ``trusted``: that key was verified before, as a contact
    or by its id.  ``gentle``: the user wants no plans of many SYNs.  ``beside``: a relay of another meeting carries
    while they meet, and nothing but a direct path is looked for.
    """

    identity: Identity
    role: Role
    my_name: str
    peer_name: str | None
    peer_key: bytes
    trusted: bool = False
    gentle: bool = False
    beside: bool = False

    def terms(self, session: bytes, path: PathClass, random: bytes) -> Terms:
        """What is greeted with on one path of the meeting ``session``; ``random`` are 32 bytes that nobody knows."""
        return Terms(
            role=self.role,
            introduction=session,
            path=path,
            my_name=self.my_name,
            peer_name=self.peer_name,
            my_key=self.identity.id.digest,
            peer_key=self.peer_key,
            random=random,
        )


def why_gentle(party: Party, ledger: Ledger, now: float) -> str | None:
    """Why no plan of many SYNs may be followed for this party; asked once, when there is one."""
    if party.gentle:
        return "--gentle forbids the many dials that might find a way"
    if party.beside:
        return "beside a relay only single dials are repeated"
    if not party.trusted:
        return "the many dials that might find a way are made for known peers only"
    if not ledger.take(party.peer_key, now):
        return "many dials were made here lately, so they were not repeated"
    return None


def is_beside(introduction: Introduction, paths: Iterable[PeerPath]) -> bool:
    """Whether who is introduced is to look for nothing but a direct path, while of ``paths`` to the peer a relay's
    carries; a direct one may be dead, and who asks knows it."""
    return introduction.relay_token is None and any(path.facts.kind == "relay" for path in paths)


def nat_event(summary: NatSummary) -> Nat:
    """What is known of this side's NAT; filtering and hairpin are not measured."""
    return Nat(summary.mapping, "unknown", summary.ports, "unknown", summary.step, summary.low, summary.high)


def introduced_event(introduction: Introduction) -> Introduced:
    """That the server introduced a peer."""
    return Introduced(session=introduction.session.hex()[:16], peer=str(PeerId(introduction.peer_id)))


class MeetingOwner(Interface):
    """What a meeting tells."""

    def path_up(self, meeting: Meeting, path: PeerPath) -> None:
        """A path greeted and, if it is direct, was nominated.  Its messages go to ``path``'s owner from now on."""

    def path_down(self, meeting: Meeting, path: PeerPath, error: P2pxferError) -> None:
        """A path that was up is gone."""

    def meeting_failed(self, meeting: Meeting, reasons: list[P2pxferError]) -> None:
        """No path is up and none can come any more."""

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
