"""What the user agreed to: how much was offered when it was taken.

Laws:

- Whoever agreed to an amount is asked again before a larger one is taken, as when files were added between two runs of
  the sender.  Where nobody is asked, the answer is there at once.
- What another path offers while the question stands is no part of it: if that is more, it is asked about next.
- What is listed is held against the amount at each page, whatever was said.  A list that goes beyond it without being
  offered ends the transfer; what is here is kept for the next offer.
- Whoever agreed while the sender was still counting agreed to what it counts: the disk's free space is the limit then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from p2pxfer.core.codec import Message
from p2pxfer.core.session import transferwire
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import BeyondOffer, P2pxferError
from p2pxfer.net.transfer.tally import Tally
from p2pxfer.status import Offer


class Consent:
    """Of one transfer, whose offer is in ``tally``; ``decide(offer)`` asks, and nobody is asked when it is ``over``.

    Where ``decide`` raises a :class:`~p2pxfer.errors.P2pxferError` the answer is no, for that reason.
    """

    def __init__(self, decide: Callable[[Offer], Awaitable[bool]], tally: Tally, over: Callable[[], bool]) -> None:
        self._decide = decide
        self._tally = tally
        self._over = over
        self._agreed: Offer | None = None
        self._asked: Offer | None = None
        """What waits for an answer."""
        self.denied: P2pxferError | None = None
        """Why the answer was no, if it was not just that."""

    @property
    def awaited(self) -> bool:
        """Nothing was agreed to yet, and an answer is waited for."""
        return self._agreed is None and self._asked is not None

    async def ask(self) -> bool:
        """Whether the offer, with the numbers of now, is taken, and what was offered meanwhile."""
        while True:
            shown = self._asked = self._tally.now
            try:
                if not await self._decide(shown):
                    return False
            except P2pxferError as error:
                self.denied = error
                return False
            finally:
                self._asked = None
            # What was still being counted was shown as that, and is shown again when it is counted.
            self._agreed = self._tally.now if shown.counting else shown
            said = self._tally.announced
            if self._over() or not self._is_more(said.files, said.bytes):
                return True
            self._tally.grown(said.files, said.bytes, counting=said.counting)

    def withdraw(self) -> None:
        """Nothing is agreed to any more, and nobody is asked again."""
        self._agreed = None

    def exceeded(self, message: Message) -> bool:
        """Whether a message of the sender offers more than was agreed to."""
        return isinstance(message, (transferwire.Offer, transferwire.Tally)) and self._is_more(
            message.files, message.size
        )

    def _is_more(self, files: int, size: int) -> bool:
        agreed = self._agreed
        return agreed is not None and not agreed.counting and (files > agreed.files or size > (agreed.bytes or 0))

    def check(self, announced: Announced) -> None:
        """So much is announced, or listed.

        Raises:
            BeyondOffer: that is more than was agreed to.
        """
        if self._is_more(announced.files, announced.bytes):
            raise BeyondOffer(
                f"the file list goes beyond what was agreed to: {announced.files} files and {announced.bytes} bytes by"
                " now; send again to offer all of it"
            )

    async def ask_again(self, message: Message) -> bool:
        """Whether that is taken too."""
        assert isinstance(message, (transferwire.Offer, transferwire.Tally))
        self._tally.grown(message.files, message.size, counting=message.counting)
        return await self.ask()
