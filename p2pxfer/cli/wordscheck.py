"""Words that two people compare by voice before a command goes on, as ``--verify`` asks for."""

from __future__ import annotations

import sys

from p2pxfer.cli.newcontact import today
from p2pxfer.cli.questions import Questions
from p2pxfer.cli.report import Reporter
from p2pxfer.core.ids import PeerId
from p2pxfer.errors import IdentityMismatch, UsageError
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.status import Note

Words = tuple[str, ...]
REMOVE = "Remove the contact and pair again"


def check_answerable(verify: bool) -> None:
    """Fail early where nobody can say whether the words are the same.

    Raises:
        UsageError: standard input is neither a terminal nor a pipe that somebody writes to.
    """
    from p2pxfer.cli.receive import can_answer

    if verify and (sys.stdin is None or not can_answer(0)):
        raise UsageError("--verify needs somebody who compares words, and standard input is no terminal")


class WordsCheck:
    """Asks the user of a command; each peer once.  ``advice`` is what to do where the words differ."""

    def __init__(self, home: Home, questions: Questions, report: Reporter, advice: str = REMOVE) -> None:
        self._advice = advice
        self._home = home
        self._questions = questions
        self._report = report
        self._same: set[bytes] = set()
        self._shown: dict[bytes, Words] = {}
        """Words that a peer compares, newest last."""

    def show(self, key: bytes, shown: str, words: Words) -> None:
        """The peer compares these words; one that asks again and again changes nothing."""
        if key not in self._shown:
            while len(self._shown) >= 16:
                del self._shown[next(iter(self._shown))]
            self._shown[key] = words
            self._report.tell(Note(f"compare by voice with {shown}: {' '.join(words)}"))

    def shown_to(self, key: bytes) -> Words | None:
        """The words that this peer compares, if it does."""
        return self._shown.get(key)

    def passed(self, key: bytes) -> bool:
        """Whether the user said of this peer that the words are the same."""
        return key in self._same

    async def ask(self, key: bytes, shown: str, words: Words) -> None:
        """Show the words and ask.

        Raises:
            IdentityMismatch: they are not the same, or nobody answers.
        """
        said = f"compare by voice with {shown}: {' '.join(words)}"
        self._report.tell(Note(said), "")  # people see it in the question
        if not await self._questions.ask(lambda: f"{said}\ndoes the other one read the same words?"):
            raise IdentityMismatch(
                "the words differ, or nobody compared them: somebody may sit between this machine and"
                f" {shown}. {self._advice}"
            )
        self._same.add(key)
        self._note_it(PeerId(key))
        self._report.tell(Note(f"{shown} is verified by words"))

    def _note_it(self, peer: PeerId) -> None:
        """Only a contact that exists: whoever was removed meanwhile does not come back."""
        contact = self._home.contact_by_id(peer)
        if contact is not None:
            self._home.add_contact(Contact(contact.name, peer, "words", today()))
