"""Where two machines meet that have nothing of each other but a code.

The number of a code that ``pair`` shows names its place at the server: whoever enters the code asks for the name that
follows from the number.  The place follows from the key of the machine that shows the code, so that one machine takes
one name and no more; where that place belongs to somebody else, the next one is tried.

Law: whoever has a place that he should not have gets what anybody gets who knows the number of a code: one guess at its
words.
"""

from __future__ import annotations

from typing import Final

from p2pxfer.core.contact.codes import Code
from p2pxfer.core.ownnames import PLACES

OWN_CODE: Final = "that is the code of this machine; it is to be entered on the other one"
CODES: Final = range(1, 10)
"""Numbers of the codes at one place, in the last digit."""


def slots_at(place: int) -> range:
    """The numbers of the codes that are shown at a place."""
    return range(10 * place + CODES[0], 10 * place + CODES[-1] + 1)


def place_in(code: Code) -> int | None:
    """The place that a code names; ``None`` for one that another command shows."""
    place = code.slot // 10
    return place if place in PLACES and code.slot in slots_at(place) else None
