"""Whom the receiving side of a machine lets in: who is met, who has to prove a code, who may bring what.

Laws of this file:

1. Nobody is dialled because a stranger asked: an introduction is taken up only for a contact, or while a code is open,
   or where the user said that everybody may send.
2. While nobody can say who is a contact, nobody new is welcome, and nothing is taken that is new; whoever asks is told
   to come back, and not that it is no contact.  What was taken before goes on: whoever brings it is met, as whom it was
   known before.
3. What a contact may is asked each time: the user may have said no since its session began.

It does not know paths, meetings and transfers.
"""

from __future__ import annotations

from typing import Literal, NoReturn

from p2pxfer.core.contact.codebook import CodeBook
from p2pxfer.errors import CodeNeeded, Refused, Unreachable
from p2pxfer.net.transfer.inboxowner import InboxOwner, Known

Acceptance = Literal["ask", "contacts", "all"]
"""From whom files are taken: from contacts, after a question; from contacts; from everybody."""


class Admittance:
    """Of the machine called ``name``, whose user is ``owner``."""

    def __init__(self, name: str, acceptance: Acceptance, codes: CodeBook, owner: InboxOwner) -> None:
        self._name = name
        self._acceptance = acceptance
        self._codes = codes
        self._owner = owner

    def contact(self, key: bytes, before: Known | None = None) -> Known | None:
        """The contact with this key; while nobody can say, what it was ``before`` holds, if that was a contact."""
        known = self._owner.known(key)
        held = known is None and self._owner.unread and before is not None and before.verified != "id"
        return before if held else known

    def known(self, key: bytes, before: Known | None = None) -> Known | None:
        """As whom a peer with this key may offer anything without a code; ``None`` if it may not.

        As whom it was known ``before`` holds while nobody can say.
        """
        known = self._owner.known(key)
        if known is None and self._owner.unread:
            return before
        return Known("", "id") if known is None and self._acceptance == "all" else known

    def welcome(self, key: bytes, now: float, *, goes_on: bool = False) -> bool:
        """Whether an introduction to this key is taken up; ``goes_on``: something of it was taken that may go on."""
        self._codes.expire(now)
        if self._owner.known(key) is not None:
            return True
        if self._owner.unread:
            # It may be a contact, or one that is denied files: whoever is told now that it is no contact would give up.
            return goes_on
        return self._acceptance == "all" or bool(self._codes.open_slots)

    def turn_away(self, key: bytes) -> NoReturn:
        """Refuse what only a peer may ask that is known.

        Raises:
            CodeNeeded: it is none.
            Unreachable: nobody can say that now.
        """
        self._check_contacts(self._owner.known(key))
        raise CodeNeeded(
            f"{self._name} does not know this key: ask for the one-time code that receive shows, and give"
            " it with --code-file or P2PXFER_CODE"
        )

    def check_offer(self, key: bytes, *, goes_on: bool) -> None:
        """Whether a peer with a session may bring this; ``goes_on``: it was taken before.

        Raises:
            Refused: it may bring no files.
            Unreachable: nobody can say that now.
        """
        now = self._owner.known(key)
        if not goes_on:
            self._check_contacts(now)
        if now is not None and not now.files:
            raise Refused(f"{self._name} takes no files from you")

    def _check_contacts(self, known: Known | None) -> None:
        """``known`` is what was said just now of the peer that asks."""
        if known is None and self._owner.unread:
            raise Unreachable(f"{self._name}'s contacts cannot be read now, and nothing new is taken")
