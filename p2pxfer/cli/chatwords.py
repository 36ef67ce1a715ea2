"""Comparing the words of a chat: what both people read to each other, and what follows from their answer."""

from __future__ import annotations

from collections.abc import Callable

from p2pxfer.core.ids import PeerId
from p2pxfer.errors import IdentityMismatch, P2pxferError, UsageError
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.services.chatting import Chatting
from p2pxfer.net.session.peercheck import Checkee


class ChatWords:
    """``say`` shows a line to the user; ``end`` ends the chat."""

    def __init__(
        self,
        home: Home,
        peer: Checkee,
        chatting: Chatting,
        say: Callable[[str], None],
        end: Callable[[P2pxferError], None],
    ) -> None:
        self._home = home
        self._peer = peer
        self._chatting = chatting
        self._say = say
        self._end = end
        self._words: tuple[str, ...] | None = None
        self._own = False

    def ask(self) -> None:
        """Show the words here and there."""
        words = self._chatting.compare()
        if words is None:
            self._say(f"{self._peer.shown} is not here now")
            return
        self._own = True
        self._show(words)

    def asked(self, words: tuple[str, ...]) -> None:
        """The peer shows these; where both asked at once those of the side that asks for introductions count."""
        if not (self._own and self._chatting.asks):
            self._own = False
            self._show(words)

    def _show(self, words: tuple[str, ...]) -> None:
        if words == self._words:
            return
        self._words = words
        self._say(f"compare by voice with {self._peer.shown}: {' '.join(words)}")
        self._say("/same if the other one reads the same words, /differ if not")

    def same(self, today: str) -> None:
        """The user heard the same words: nobody sits in between, and the key is the contact's."""
        if self._words is None:
            self._say("no words are shown; /verify shows some")
            return
        if self._peer.name is not None:
            self._strengthen(PeerId(self._peer.key), today)
        self._say(f"{self._peer.shown} is verified by words")
        self._chatting.release()

    def _strengthen(self, peer: PeerId, today: str) -> None:
        """Only a contact that exists: one that was removed meanwhile does not come back."""
        contact = self._home.contact_by_id(peer)
        if contact is None:
            raise UsageError(f"{self._peer.shown} is not a contact any more")
        self._home.add_contact(Contact(contact.name, peer, "words", today))

    def differ(self) -> None:
        """The user heard other words."""
        if self._words is None:
            self._say("no words are shown; /verify shows some")
            return
        name = self._peer.shown
        here = IdentityMismatch(
            f"the words differ: somebody may sit between this machine and {name}. Remove the contact and pair again"
        )
        there = IdentityMismatch("the words that were compared differ: somebody may sit in between")
        if not self._chatting.refuse(there, here):
            self._end(here)
