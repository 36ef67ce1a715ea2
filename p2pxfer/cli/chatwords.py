"""Comparing the words of a chat: what both people read to each other, and what follows from their answer.

Law: a plain yes is the answer only where the peer cannot have asked for one.  Whoever sits in between may show words
in the moment in which somebody types yes to something else, or put another question on the screen behind the words: in
a line, the name of a file, the reason why something ended.  So this side must have asked for the words, they must be
the last thing that was shown, no offer may wait for its answer, and the connection must stand since; elsewhere a yes is
a line like others, and the user is told how to answer, or asked once more where no line goes before the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pxfer.cli.wordscheck import REMOVE
from p2pxfer.core.contact.compare import DIFFER
from p2pxfer.core.ids import PeerId
from p2pxfer.core.words.eventtext import describe
from p2pxfer.errors import IdentityMismatch, P2pxferError, UsageError
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.services.chatting import Chatting
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.status import Event, Path

PLAIN: Final = {"yes": "/same", "y": "/same", "same": "/same", "no": "/differ", "n": "/differ", "differ": "/differ"}
"""What is typed as the answer to a question, and the command that it stands for."""


class ChatWords:
    """``say`` shows a line to the user; ``end`` ends the chat; ``asked_else``: whether another question is open."""

    def __init__(
        self,
        home: Home,
        peer: KnownPeer,
        chatting: Chatting,
        say: Callable[[str], None],
        end: Callable[[P2pxferError], None],
        asked_else: Callable[[], bool],
    ) -> None:
        self._home = home
        self._peer = peer
        self._chatting = chatting
        self._say = say
        self._end = end
        self._asked_else = asked_else
        self._words: tuple[str, ...] | None = None
        self._own = False
        self._last = False
        """Whether this side asked, and the words are the last thing that was shown since."""
        self._hinted = False
        self._answered = False
        self._before: Contact | None = None
        """What the contact was before the words of this chat."""

    def ask(self) -> None:
        """Show the words here and there."""
        words = self._chatting.compare()
        if words is None:
            self._say(f"{self._peer.shown} is not here now")
            return
        self._own = True
        self._show(words, plain=True)

    def asked(self, words: tuple[str, ...]) -> None:
        """The peer shows these; where both asked at once those of the side that asks for introductions count."""
        if words != self._words and not (self._own and self._chatting.asks):
            self._own = False
            self._show(words, plain=self._chatting.held)

    def told(self, event: Event) -> None:
        """Something is shown: a yes may be meant for that.  A path that is used has no text of the peer."""
        if describe(event) and not (isinstance(event, Path) and event.state == "active"):
            self._last = False

    def heard(self) -> None:
        """A line of the peer is shown: a yes may be meant for that."""
        self._last = False

    def gone(self) -> None:
        """The connection whose words were shown has ended."""
        self._own = self._last = False

    def answer(self, text: str) -> str:
        """What was typed; an answer to the question about the words becomes the command that it stands for."""
        command = PLAIN.get(text.strip().rstrip(".!").casefold())
        if command is None or self._words is None or self._answered:
            return text
        if self._last and not self._asked_else():
            return command
        if self._chatting.held:
            return "/verify"
        if not self._hinted:
            self._hinted = True
            self._say(f"this is said to {self._peer.shown}; the answer about the words is {command}")
        return text

    def _show(self, words: tuple[str, ...], plain: bool) -> None:
        self._hinted = self._hinted and words == self._words
        self._words, self._answered = words, False
        plain = plain and not self._asked_else()
        yes, no = ("yes, or /same,", "no, or /differ,") if plain else ("/same", "/differ")
        self._say(f"compare by voice with {self._peer.shown}: {' '.join(words)}")
        self._say(f"{yes} if the other one reads the same words; {no} if not")
        self._last = plain

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
        self._before = self._before or contact

    def differ(self) -> None:
        """The user heard other words."""
        if self._words is None:
            self._say("no words are shown; /verify shows some")
            return
        name = self._peer.shown
        here = IdentityMismatch(f"the words differ: somebody may sit between this machine and {name}. {REMOVE}")
        there = IdentityMismatch(DIFFER)
        self._withdraw()
        if not self._chatting.refuse(there, here):
            self._end(here)

    def denied(self, error: P2pxferError) -> P2pxferError:
        """The peer's user heard other words, and the chat ends with this; returns it with what is to be done."""
        self._withdraw()
        name = self._peer.shown
        return IdentityMismatch(f"{error.message}: between this machine and {name}. {REMOVE}")

    def _withdraw(self) -> None:
        """A yes of before, in this chat, counts no more; the chat ends also where that cannot be stored."""
        before, self._before = self._before, None
        if before is None:
            return
        try:
            self._home.withdraw_words(before)
        except P2pxferError as error:
            self._say(f"{self._peer.shown} stays verified by words: {error.message}")
        else:
            self._say(f"{self._peer.shown} is not verified by words any more")
