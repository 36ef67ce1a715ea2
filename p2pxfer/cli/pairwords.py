"""The words of a pairing: either user may want them compared, and then both are asked before there is a contact."""

from __future__ import annotations

import sys
from functools import partial

from p2pxfer import status
from p2pxfer.cli.inputs import can_answer
from p2pxfer.cli.questions import Questions
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.wordscheck import SaidNo, ask_same
from p2pxfer.core.contact.compare import Words
from p2pxfer.errors import IdentityMismatch, Refused
from p2pxfer.net.session.bothsame import BothSame
from p2pxfer.status import Note

BOTH = "the other machine shows its words now, and asks the same; if it shows none, say no"
NOTHING = "Nothing was stored here"
ADVICE = (
    f"{NOTHING}.  If the other machine did not ask, remove there what it has stored, and pair anew with"
    " --verify on both"
)


class PairWords:
    """Asks the user of ``pair``, and waits for the one of the other machine."""

    def __init__(self, questions: Questions, report: Reporter) -> None:
        self._questions = questions
        self._report = report

    async def compare(self, shown: str, both: BothSame) -> None:
        """Come back when both have said yes; ``shown`` is the other machine for people.

        Raises:
            P2pxferError: see :meth:`~p2pxfer.net.session.bothsame.BothSame.agree`.
        """
        try:
            await both.agree(partial(self._ask, shown))
        except SaidNo:  # which has its advice
            raise
        except IdentityMismatch as error:
            raise IdentityMismatch(f"{error.message}. {NOTHING}") from None

    async def _ask(self, shown: str, words: Words) -> None:
        if sys.stdin is None or not can_answer(0):
            raise Refused(
                "one of the two machines compares words (--verify), and nobody is there to answer at the other one:"
                " nothing was stored"
            )
        await ask_same(self._questions, self._report, status.Words(shown, words), ADVICE, BOTH)
        self._report.tell(Note(f"waiting for the answer at {shown}"))
