"""Words that two people compare by voice before a command goes on, as ``--verify`` asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.task import deferLater

from p2pxfer import status
from p2pxfer.cli.newcontact import today
from p2pxfer.cli.questions import Questions
from p2pxfer.cli.report import Reporter
from p2pxfer.core.contact.compare import Words
from p2pxfer.core.ids import PeerId
from p2pxfer.core.session.channelwire import Compare
from p2pxfer.core.words.eventtext import describe
from p2pxfer.errors import IdentityMismatch
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.pathwords import words_on
from p2pxfer.net.types import Reactor
from p2pxfer.status import Note

LOOK_S: Final = 0.25
"""How often it is looked whether there is a connection again whose words can be compared, seconds."""
REST_S: Final = 1.0
"""After what time the words of another connection are asked about, seconds: who goes takes all of its own along."""
SHOWS: Final = 20
"""Most words that are shown in :data:`SHOW_S`, whatever peers send."""
SHOW_S: Final = 60.0
"""In seconds."""
MOST_SHOWN: Final = 16
"""Most peers whose words are remembered, and most that are to become contacts."""
TRIES: Final = 5
"""How often it is asked before what is neither yes nor no counts as a no, which alarms both users."""
REMOVE = "Remove the contact and pair again: p2pxfer contacts remove, then p2pxfer pair --verify"


class SaidNo(IdentityMismatch):
    """It was the user here who did not call the words the same."""


async def ask_same(questions: Questions, report: Reporter, event: status.Words, advice: str, hint: str = "") -> None:
    """Show the words and ask; ``hint`` is said beside them, ``advice`` is what to do where they differ.

    Raises:
        SaidNo: they are not the same, or nobody answers.
    """
    report.tell(event, "")  # people see it in the question
    beside = f"\n{hint}" if hint else ""
    question = f"{describe(event)}{beside}\ndoes the other one read the same words?"
    if not await questions.ask(lambda: question, tries=TRIES):
        raise SaidNo(
            "the words differ, or nobody compared them: somebody may sit between this machine and"
            f" {event.peer}. {advice}"
        )


class WordsCheck:
    """Asks the user of a command; no peer again after a yes.  ``advice`` is what to do where the words differ.

    Words are those of one connection, and hold no longer than it: another one of the same peer has others.
    ``asks``: whether the user here is asked at all.
    """

    def __init__(
        self,
        home: Home,
        questions: Questions,
        report: Reporter,
        reactor: Reactor,
        advice: str = REMOVE,
        *,
        asks: bool = True,
    ) -> None:
        self._asks = asks
        self._advice = advice
        self._home = home
        self._questions = questions
        self._report = report
        self._same: set[bytes] = set()
        self._shown: dict[bytes, tuple[Words, object]] = {}
        """Words that a peer compares and their connection, newest last."""
        self._held: dict[bytes, Callable[[], object]] = {}
        self._reactor = reactor
        self._times: list[float] = []
        self._asked: list[tuple[bytes, Words, object, Deferred[None]]] = []
        self._lock = DeferredLock()

    def show(self, key: bytes, shown: str, words: Words, connection: object) -> None:
        """The peer compares these words, those of ``connection``; one that asks again and again changes nothing.

        What comes too often is not shown, and then nothing of that peer holds.
        """
        if self._shown.get(key, (None,))[0] == words:
            return
        self._shown.pop(key, None)
        now = self._reactor.seconds()
        self._times = [then for then in self._times if then > now - SHOW_S]
        if len(self._times) >= SHOWS:
            return
        self._times.append(now)
        while len(self._shown) >= MOST_SHOWN:
            del self._shown[next(iter(self._shown))]
        self._shown[key] = (words, connection)
        event = status.Words(shown, words)
        there = f"the user of {shown} is asked whether you read the same words; here nothing is asked"
        self._report.tell(event, None if self._asks else f"{describe(event)}\n{there}")

    def shown_to(self, key: bytes) -> tuple[Words, object] | None:
        """The words that this peer compares and their connection, if it does."""
        return self._shown.get(key)

    def gone(self, connection: object) -> None:
        """A connection is gone, and its words with it: whoever is asked about them is asked no more."""
        self._shown = {key: found for key, found in self._shown.items() if found[1] is not connection}
        for asked in [asked for asked in self._asked if asked[2] is connection]:
            asked[3].cancel()

    def outdate(self, key: bytes) -> None:
        """Whoever is asked about other words of this peer than it compares now is asked no more."""
        now = self._shown.get(key)
        for asked in [asked for asked in self._asked if now is not None and asked[0] == key and asked[1] != now[0]]:
            asked[3].cancel()

    def passed(self, key: bytes) -> bool:
        """Whether the user said of this peer that the words are the same."""
        return key in self._same

    async def same(self, paths: PathSet, shown: str, over: Callable[[], bool]) -> bool:
        """Whether the user hears the same words, those that the peer compares or else those of a path.

        Where a connection is gone before the answer, the words of the next one are asked about, until it is ``over``.

        Raises:
            IdentityMismatch: they are not the same, or nobody answers.
        """
        while not over():
            path = next(iter(paths.ordered()), None)
            if path is None:
                await deferLater(self._reactor, LOOK_S)
                continue
            found = self.shown_to(path.peer_key)
            if found is None and not self.passed(path.peer_key):
                path.send(Compare())
            words, connection = found or (words_on(path), path)
            try:
                await self.ask(path.peer_key, shown, words, connection)
            except CancelledError:
                await deferLater(self._reactor, REST_S)
            else:
                return True
        return False

    def hold(self, key: bytes, store: Callable[[], object]) -> None:
        """This peer proved a code; ``store`` makes it a contact, when the words are the same and not before."""
        self._held.pop(key, None)
        while len(self._held) >= MOST_SHOWN:
            del self._held[next(iter(self._held))]
        self._held[key] = store
        if key in self._same:
            self._settle(key)

    def holds(self, key: bytes) -> bool:
        """Whether this peer proved a code and its words are still to be compared."""
        return key in self._held

    async def ask(self, key: bytes, shown: str, words: Words, connection: object = None) -> None:
        """Show the words and ask, unless the user said yes of this peer meanwhile.

        Raises:
            IdentityMismatch: they are not the same, or nobody answers.
            CancelledError: the words do not hold any more, see :meth:`gone`; the next ones are to be compared.
        """
        asking = self._lock.run(lambda: Deferred.fromCoroutine(self._ask(key, shown, words)))
        asked = (key, words, connection, asking)
        self._asked.append(asked)
        try:
            await asking
        finally:
            self._asked.remove(asked)

    async def _ask(self, key: bytes, shown: str, words: Words) -> None:
        if key in self._same:
            return
        try:
            await ask_same(self._questions, self._report, status.Words(shown, words), self._advice)
        except IdentityMismatch:
            self._held.pop(key, None)
            raise
        self._same.add(key)
        self._settle(key)
        self._report.tell(Note(f"{shown} is verified by words"))

    def _settle(self, key: bytes) -> None:
        """Only a contact that exists, or waited for this: whoever was removed meanwhile does not come back."""
        peer, store = PeerId(key), self._held.pop(key, None)
        if store is not None:
            store()
        contact = self._home.contact_by_id(peer)
        if contact is not None:
            self._home.add_contact(Contact(contact.name, peer, "words", today()))
