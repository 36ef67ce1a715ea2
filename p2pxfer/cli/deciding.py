"""Whether what is offered to ``receive`` is taken: the words first, where they are compared, then the question.

Laws of this file:

1. Where words are compared nothing is asked and nothing taken before the user said that they are the same.  A no to
   them holds for all that this run does, and the sender hears of it.
2. A question says how much it is as far as that is counted by then.  It is withdrawn when its transfer is over, the
   words were denied, or the run ends.
3. What was agreed to begins at once, and only then other transfers of the same files are looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from p2pxfer.cli.elsewhere import Elsewhere
from p2pxfer.cli.questions import Questions, compose_question
from p2pxfer.cli.watching import Watch
from p2pxfer.cli.wordscheck import WordsCheck
from p2pxfer.core.contact.compare import DIFFER
from p2pxfer.core.text import safe_text
from p2pxfer.errors import IdentityMismatch
from p2pxfer.status import Offer

DIFFER_HERE = f"{DIFFER}; nothing was taken"
"""What the sender hears of a no to the words."""


class Deciding:
    """For one run, over its ``watches`` of that moment; ``asks``: there is a question, ``verify``: words are compared.

    ``place`` is what the user is shown of the destination.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        words: WordsCheck,
        questions: Questions,
        elsewhere: Elsewhere,
        place: str,
        *,
        asks: bool,
        verify: bool,
    ) -> None:
        self._watches = watches
        self._words = words
        self._questions = questions
        self._elsewhere = elsewhere
        self._place = place
        self._asks = asks
        self._verify = verify
        self._leaving = False
        self.denied: IdentityMismatch | None = None
        """The user said that words are not the same."""

    def close(self) -> None:
        """The run ends: nothing is asked any more."""
        self._leaving = True

    async def decide(self, peer: str, offer: Offer) -> bool:
        """Whether ``peer``'s offer is taken.

        Raises:
            IdentityMismatch: the words are not the same.
        """
        watch = next((watch for watch in self._watches if watch.transfer.offer is offer), None)
        if self._verify and not await self._same_words(watch, peer):
            return False
        if self._asks:
            offer = await watch.counted(offer) if watch is not None else offer
            if not await self._ask(watch, lambda: compose_question(peer, offer, self._place)):
                return False
        if watch is not None:
            watch.accepted()
            self._elsewhere.look(watch)
        return True

    async def _ask(self, watch: Watch | None, compose: Callable[[], str]) -> bool:
        ask = partial(self._questions.ask, compose)
        return await watch.asked(ask, lambda: self._is_over(watch)) if watch is not None else await ask()

    async def _same_words(self, watch: Watch | None, peer: str) -> bool:
        if watch is None:
            return False
        try:
            return await self._words.same(watch.paths, safe_text(peer), lambda: self._is_over(watch))
        except IdentityMismatch as error:
            self.denied = error
            raise IdentityMismatch(error.message, DIFFER_HERE) from error

    def _is_over(self, watch: Watch) -> bool:
        return self.denied is not None or self._leaving or watch.transfer.ended
