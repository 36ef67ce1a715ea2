"""Codes that peers prove to an inbox, one on each path.

Laws of this file:

1. A code is proved on one path; what it makes of the peer is true on all of them.
2. A proof that failed ends its path, unless that carries something.
3. Where words are to be compared first, the path stays with the comparison until that is over.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from p2pxfer.core.codec import Message
from p2pxfer.core.contact.codebook import CodeBook
from p2pxfer.core.contact.pairing import Party
from p2pxfer.errors import P2pxferError, WrongCode
from p2pxfer.net.session.firstcontact import FirstContact
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathwords import words_on
from p2pxfer.net.transfer.inboxowner import InboxOwner
from p2pxfer.net.transfer.peersession import PeerSession
from p2pxfer.net.types import Reactor
from p2pxfer.status import Event


class CodeProofs:
    """What the peers of an inbox prove; ``needed(path)``: the path may stay whatever becomes of its proof."""

    def __init__(
        self,
        reactor: Reactor,
        own: Party,
        codes: CodeBook,
        owner: InboxOwner,
        tell: Callable[[Event], None],
        needed: Callable[[PeerPath], bool],
    ) -> None:
        self._reactor = reactor
        self._own = own
        self._codes = codes
        self._owner = owner
        self._tell = tell
        self._needed = needed

    def expect(self, session: PeerSession, path: PeerPath) -> FirstContact:
        """The peer may prove a code on ``path``."""
        contact = FirstContact(
            self._reactor, path, self._own, Party(path.peer_name, session.key), partial(self._verdict, session, path),
            self._owner.compares,
        )  # fmt: skip
        contact.show(lambda slot: self._codes.take(slot, self._reactor.seconds()))
        session.contacts[path] = contact
        return contact

    def receive(self, session: PeerSession, path: PeerPath, message: Message) -> None:
        """A message of a pairing came.

        A contact proves a code as well; that costs the code and changes nothing.

        Raises:
            P2pxferError: the code was not proved, or the owner makes no contact.
        """
        contact = session.contacts.get(path) or self.expect(session, path)
        contact.receive(message)

    def lost(self, session: PeerSession, path: PeerPath, error: P2pxferError) -> None:
        """The path is gone."""
        contact = session.contacts.get(path)
        if contact is not None:
            # A reason that a stranger gave is none for calling a code wrong.
            contact.lost(error if contact.both is not None else None)
            session.contacts.pop(path, None)

    def _verdict(self, session: PeerSession, path: PeerPath, error: P2pxferError | None) -> None:
        """The code was proved, or not, for this reason."""
        contact = session.contacts.get(path)
        tried = contact is not None and (error is None or isinstance(error, WrongCode))
        if contact is None or contact.both is None:
            session.contacts.pop(path, None)
        try:
            if error is None:
                self._proved(session, path, contact)
        finally:
            # Also where the contact cannot be stored: the code is spent.
            if tried:
                self._owner.code_tried(path)
                self._owner.code_used(error)
        up = session.paths.get(path.facts.number) is path
        if error is not None and up and not self._needed(path):
            path.refuse(error)

    def _proved(self, session: PeerSession, path: PeerPath, contact: FirstContact | None) -> None:
        if contact is not None and contact.both is not None:
            self._owner.to_compare(session.key, path.peer_name, contact.both)
            return
        session.known = self._owner.paired(session.key, path.peer_name, partial(words_on, path))
        for greeted in session.paths.ordered():
            session.open(greeted, self._tell)
