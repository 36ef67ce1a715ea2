"""Where a receiving transfer stands, and the dialogue on each of its paths."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct, field

from p2pxfer.core.session.leftwire import MAX_LEFT
from p2pxfer.core.session.transferwire import Ack, Offer, Tally
from p2pxfer.core.transfer.listing import Heard
from p2pxfer.core.transfer.ranges import RangeSet
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import BeyondOffer, ProtocolBreach

ACKS_PER_MESSAGE = 1024
OVERTAKEN = "another attempt to send this came after it"


class Phase(Enum):
    """Of a transfer."""

    NEW = "nothing was offered"
    DECIDING = "the user decides"
    RECEIVING = "chunks are welcome"
    PUBLISHING = "the files are being published"
    PUBLISHED = "the files are published"
    REFUSED = "the transfer was refused"


class Talk(Enum):
    """Of the dialogue on one path."""

    OFFERED = "the offer stands"
    OPEN = "chunks are welcome"
    FINAL = "the sender is done"


class Total:
    """What the sender says of the whole list, on all paths; ``holes``: the most bytes that it told to be holes."""

    def __init__(self) -> None:
        self.holes = 0
        self._last = Announced(0, 0, 0, counting=True)

    def said(self, path: Path, said: Offer | Tally) -> Announced:
        """The sender tells how much there is.  Raises as :meth:`Path.says`."""
        path.says(said)
        self.holes = max(self.holes, said.holes)
        self._last = Announced(said.files, said.size, said.holes, said.counting)
        return self._last

    def listed(self, path: Path, files: int, size: int) -> Announced:
        """So much was listed on ``path`` by now, which may be more than was said.  Raises as :meth:`Path.judge`."""
        path.judge(files, size)
        last = self._last
        if files > last.files or size > last.bytes:
            self._last = Announced(max(files, last.files), max(size, last.bytes), last.holes, counting=True)
        return self._last


class Senders:
    """Which of the attempts to send a transfer counts: the one whose offer came on the newest path."""

    def __init__(self) -> None:
        self._newest = 0
        self._instance = b""

    def offered(self, path: int, offer: Offer) -> Path:
        """An offer came on ``path``: the dialogue that begins with it."""
        if path >= self._newest:
            self._newest, self._instance = path, offer.instance
        return Path(offer.handle, Talk.OFFERED, offer.instance)

    def may_list_anew(self, path: int) -> bool:
        """Whether another list on ``path`` is news, and not a late word of a sender that is gone."""
        return path >= self._newest

    def is_late(self, state: Path) -> bool:
        """Whether this dialogue is that of an attempt after which another one came."""
        return state.instance != self._instance


class Path(Struct):
    """A path and what waits for it.

    ``instance``: of the attempt that offered on it; ``acks``: numbers of chunks to be acknowledged; ``told``: chunks
    that were said to be holes; ``awaited``: those of them that were being stored already; ``heard`` of the list;
    ``left``: files that this path's Final is not about.
    """

    handle: int
    talk: Talk
    instance: bytes = b""
    acks: RangeSet = field(default_factory=RangeSet)
    told: int = 0
    awaited: RangeSet = field(default_factory=RangeSet)
    heard: Heard = field(default_factory=Heard)
    left: frozenset[int] = frozenset()
    most: tuple[int, int] | None = None
    """Files and bytes of the whole list, once the sender says that it has counted."""

    def says(self, said: Offer | Tally) -> None:
        """The sender tells how much there is.

        Raises:
            ProtocolBreach: it had counted before.
        """
        if self.most is not None:
            raise ProtocolBreach("the sender counts again what it has counted")
        if not said.counting:
            self.most = said.files, said.size

    def judge(self, files: int, size: int) -> None:
        """So many files and bytes are listed on this path by now.

        Raises:
            BeyondOffer: more than the sender said here.
        """
        if self.most is not None and (files > self.most[0] or size > self.most[1]):
            raise BeyondOffer(
                f"the file list goes beyond what was offered: {files} files and {size} bytes are listed so far, and"
                f" {self.most[0]} files and {self.most[1]} bytes were offered"
            )

    def leaves_out(self, files: frozenset[int]) -> None:
        """The sender leaves these out.

        Raises:
            ProtocolBreach: too many by now.
        """
        self.left |= files
        if len(self.left) > MAX_LEFT:
            raise ProtocolBreach("the sender leaves too many files out")

    def take_acks(self) -> list[Ack]:
        """The acknowledgements that wait, as messages."""
        acks, self.acks = self.acks, RangeSet()
        joined = acks.to_list()
        portions = range(0, len(joined), ACKS_PER_MESSAGE)
        return [Ack(self.handle, joined[at : at + ACKS_PER_MESSAGE]) for at in portions]
