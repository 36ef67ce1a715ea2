"""The message by which a sender leaves files out of its transfer, and what both ends say of these.

Transcript of one path, within the dialogue of a transfer (:mod:`p2pxfer.core.session.transferwire`)::

    > LeftOut              of a page that was answered here: these files cannot be read as they were listed
    > Final                the root over everything but what was left out on this path
    < FinalAck             what is published, and what was left out of that

LeftOut is a word about the Final of its own path and about nothing else: it stops no chunk, takes nothing back, and
nobody has to remember it when the path has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Final

from msgspec import Meta

from p2pxfer.core.codec import Message, Number
from p2pxfer.errors import ProtocolBreach

MAX_LEFT: Final = 1024
"""Most files that a transfer may do without: whoever cannot read more has lost a disk, not a file."""
LeftFiles = Annotated[list[Number], Meta(max_length=MAX_LEFT)]
"""Numbers of files, strictly increasing."""


class LeftOut(Message, frozen=True):
    """These files do not come: they changed while they were sent, or cannot be read."""

    handle: Number
    files: LeftFiles


LEFT_ROWS: Final[list[tuple[int, type[Message]]]] = [(56, LeftOut)]
"""Kinds of these messages in the peer protocol."""


def check_left(files: Sequence[int], listed: int) -> frozenset[int]:
    """The files that the other end says are left out, of which it may name the first ``listed`` ones.

    Raises:
        ProtocolBreach: they are not in order, one is named twice, or one was not listed.
    """
    if any(one >= other for one, other in pairwise(files)) or (files and files[-1] >= listed):
        raise ProtocolBreach("files are said to be left out that were not listed, or not in order")
    return frozenset(files)


def check_rest(left: frozenset[int], files: int) -> None:
    """Without the ``left`` ones something of a transfer of so many ``files`` has to remain, unless it has none.

    Raises:
        ProtocolBreach: nothing would be published.
    """
    if len(left) == files > 0:
        raise ProtocolBreach("all files are said to be left out: none of them would be published")
