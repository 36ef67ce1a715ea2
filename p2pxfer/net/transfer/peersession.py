"""What an inbox knows of one peer while it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IDelayedCall

from p2pxfer.core.ids import PeerId
from p2pxfer.core.text import safe_text
from p2pxfer.net.connection.liveness import PATH
from p2pxfer.net.session.firstcontact import FirstContact
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer.arrivals import Arrivals
from p2pxfer.net.transfer.inboxowner import Known
from p2pxfer.status import Event, Peer


@dataclass(slots=True)
class PeerSession:
    """Everything of one peer key: its paths, what they bring, and whether it is verified.

    ``since``: when each path's meeting began.
    """

    key: bytes
    paths: PathSet
    known: Known | None
    arrivals: Arrivals = field(init=False)
    contacts: dict[PeerPath, FirstContact] = field(default_factory=dict)
    since: dict[PeerPath, float] = field(default_factory=dict)
    idle: IDelayedCall | None = None
    told: bool = False
    comparing: float = float("-inf")
    """When the peer began to compare words."""
    doubted: dict[PeerPath, float] = field(default_factory=dict)
    """Direct paths that a NAT has probably lost with another one, and when that one was lost."""
    sought: float = float("-inf")
    """When the peer was last introduced, or a meeting with it came to nothing."""

    @property
    def goes_on_as(self) -> Known | None:
        """As whom the peer is known, if it brought something that may go on."""
        return self.known if self.arrivals.unfinished else None

    def introduced(self, now: float, known: Known | None) -> None:
        """The peer asked for a meeting at this moment, and is ``known`` so."""
        self.sought = now
        if not self.paths:
            self.paths.introduced()
            # The user may have removed the contact since the last time.
            self.known, self.told = known, False

    def met(self, meeting: Meeting, now: float) -> None:
        """A meeting with the peer ended at this moment: where no path came of it, the peer may ask for another one."""
        if not meeting.had_path:
            self.sought = now

    def seeks(self, meetings: Iterable[Meeting], since: float) -> bool:
        """Whether the peer was introduced, or not met, after that moment, or one of these may still bring it."""
        pathless = any(each.party.peer_key == self.key and not each.had_path for each in meetings)
        return pathless or self.sought >= since

    def open(self, path: PeerPath, tell: Callable[[Event], None]) -> None:
        """The peer's key is verified: it may say what it wants on ``path``."""
        path.open_session()
        assert self.known is not None
        if self.known.verified != "id":  # who needs no code may still prove one
            self.introduce(path, tell)

    def introduce(self, path: PeerPath, tell: Callable[[Event], None]) -> None:
        """Tell once who brings something here, and how its key is known."""
        assert self.known is not None
        if not self.told:
            self.told = True
            tell(Peer(name=self.name(path), id=str(PeerId(self.key)), verified=self.known.verified))

    def wake(self) -> None:
        """It is not idle any more."""
        if self.idle is not None and self.idle.active():
            self.idle.cancel()
        self.idle = None

    def name(self, path: PeerPath) -> str:
        """What the peer is called."""
        return (self.known.name if self.known is not None else "") or safe_text(path.peer_name, 64)

    def compares(self, path: PeerPath) -> bool:
        """A code was proved on ``path``, and its users compare words before that makes the peer known."""
        contact = self.contacts.get(path)
        return contact is not None and contact.both is not None

    def nat_forgot(self, path: PeerPath, now: float) -> bool:
        """On ``path``, which is gone, packets got lost: whether that is the first sign that a NAT has lost all it knew.

        It is where no direct path is left, or none on which anything came lately: a receiver says little, and on a
        connection on which it says nothing the loss shows with its next ping, seconds later.
        """
        since = self.doubted.get(path)
        if since is not None and path.quiet_for > now - since:
            return False
        left = [other for other in self.paths if other.facts.kind != "relay"]
        if any(other.quiet_for < PATH.unanswered for other in left):
            return False
        self.doubted = dict.fromkeys(left, now)
        return True
