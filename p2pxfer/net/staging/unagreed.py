"""What a killed receiver left of a transfer that nobody had agreed to: an empty file in the private directory says so.

Laws:

- The mark is made with the first journal, or one that begins anew with what was published and taken away; it goes when
  somebody agrees or after the journal, and does not come again with that one.
- It alone is not enough: where the journal claims anything, or names were about to be published, somebody agreed.
- What is removed is judged and removed under the lock of the private directory.
"""

from __future__ import annotations

import os
from contextlib import suppress

from p2pxfer.core.transfer.journal import JournalState, read_journal
from p2pxfer.net.disk import OPEN_INNER_DIRECTORY, stat_or_none
from p2pxfer.net.private.privatedir import remove
from p2pxfer.net.staging.journalfile import MAX_JOURNAL, UNAGREED, JournalFile, removal_order
from p2pxfer.net.staging.owning import EVERYBODYS, is_anothers, take_unmarked


def agreed(place: str, owner: bytes = EVERYBODYS) -> None:
    """Somebody agreed, for the identity ``owner``, to the transfer whose private directory ``place`` is, while its lock
    is held: what is everybody's there is that one's then.

    A disk that refuses leaves it as it was.
    """
    with suppress(OSError):
        fd = os.open(os.fsencode(place), OPEN_INNER_DIRECTORY)
        try:
            with suppress(FileNotFoundError):
                os.unlink(UNAGREED, dir_fd=fd)
            take_unmarked(fd, owner)
        finally:
            os.close(fd)


def is_unagreed(place: int, state: JournalState | None) -> bool:
    """Whether nobody agreed to what lies in the private directory ``place``, a descriptor, with this journal.

    Raises ``OSError``.
    """
    if state is None or stat_or_none(place, UNAGREED) is None:
        return False
    nothing = state.agreed is None and not state.publishing and state.published_root is None
    return nothing and next(state.chunks(), None) is None


def remove_unagreed(destination: str, name: str, owner: bytes = EVERYBODYS) -> None:
    """Remove the private directory called ``name``, if nobody agreed to what it is for and it is not another's.

    Raises:
        P2pxferError: a process holds it, or it is gone.
        OSError: what the system refuses.
    """

    def wanted(held: int) -> bool:
        """That is still so."""
        state = read_journal(JournalFile(held, lambda _: None).read(MAX_JOURNAL))
        return not is_anothers(held, owner) and is_unagreed(held, state)

    remove(destination, name, name, wanted, removal_order)
