"""Comparing the words of a chat: what both people read to each other, and what follows from their answer.

Law: a plain yes is the answer only where the peer cannot have asked for one.  Whoever sits in between may show words
in the moment in which somebody types yes to something else.  So this side must have asked for the words, and no line of
the peer may have come since; elsewhere a yes is a line like others, and the user is told how to answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pxfer.core.ids import PeerId
from p2pxfer.errors import IdentityMismatch, P2pxferError, UsageError
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.services.chatting import Chatting
from p2pxfer.net.session.peercheck import Checkee

PLAIN: Final = {"yes": "/same", "y": "/same", "same": "/same", "no": "/differ", "n": "/differ", "differ": "/differ"}
"""What is typed as the answer to a question, and the command that it stands for."""


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
        self._last = False
        """Whether this side asked, and the words are the last thing that was said since."""
        self._answered = False

    def ask(self) -> None:
        """Show the words here and there."""
        words = self._chatting.compare()
        if words is None:
            self._say(f"{self._peer.shown} is not here now")
            return
        self._own = self._last = True
        self._show(words)

    def asked(self, words: tuple[str, ...]) -> None:
        """The peer shows these; where both asked at once those of the side that asks for introductions count."""
        if not (self._own and self._chatting.asks):
            self._own = self._last = False
            self._show(words)

    def heard(self) -> None:
        """A line of the peer was shown: a yes may be meant for that."""
        self._last = False

    @property
    def _takes_plain(self) -> bool:
        return self._last or self._chatting.held

    def answer(self, text: str) -> str:
        """What was typed; an answer to the question about the words becomes the command that it stands for."""
        command = PLAIN.get(text.strip().rstrip(".!").casefold())
        if command is None or self._words is None or self._answered:
            return text
        if self._takes_plain:
            return command
        self._say(f"this is said to {self._peer.shown}; the answer about the words is {command}")
        return text

    def _show(self, words: tuple[str, ...]) -> None:
        if words == self._words:
            return
        self._words, self._answered = words, False
        yes, no = ("yes, or /same,", "no, or /differ,") if self._takes_plain else ("/same", "/differ")
        self._say(f"compare by voice with {self._peer.shown}: {' '.join(words)}")
        self._say(f"{yes} if the other one reads the same words; {no} if not")

    def same(self, today: str) -> None:
        """The user heard the same words: nobody sits in between, and the key is the contact's."""
        if self._words is None:
            self._say("no words are shown; /verify shows some")
            return
        if self._peer.name is not None:
            self._strengthen(PeerId(self._peer.key), today)
        self._answered = True
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
