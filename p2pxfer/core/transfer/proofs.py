"""What the receiver claims, and that it has published, as its sender proves it: with its own hashes.

Laws of this file:

1. A claim is believed when it comes, and what is wrong is taken back when the hashes are there that refute it.
2. Of a file that is left out hashes are used that are there, and none is waited for: a claim that cannot be proved
   without one counts as not made.
3. What is left out of a published transfer is for the receiver to say, since it may have published for another run of
   the sender; the root is proved for exactly that.  It holds for the process that said it, until it is proved.
"""

from __future__ import annotations

from p2pxfer.core.session.leftwire import check_left, check_rest
from p2pxfer.core.session.transferwire import FinalAck, Have
from p2pxfer.core.text import safe_text
from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.transfer.outflow import Outflow
from p2pxfer.core.transfer.sendeffect import Finished, HashChunks
from p2pxfer.errors import Damaged, DiskError


class Proofs:
    """The claims to chunks of ``table``, and what they mean for ``flow``."""

    def __init__(self, table: ChunkTable, flow: Outflow) -> None:
        self._table = table
        self._flow = flow
        self._waiting: list[Have] = []

    @property
    def pending(self) -> bool:
        """Whether a claim waits for hashes."""
        return bool(self._waiting)

    def forget(self) -> None:
        """Another process receives now."""
        self._waiting.clear()

    def take(self, path: int, claims: list[Have]) -> tuple[ChunkAddress, ...]:
        """The receiver claims these chunks on ``path``; what has to be hashed to prove it."""
        lacking: list[ChunkAddress] = []
        for have in claims:
            for span in have.ranges:
                self._flow.acknowledge(*span, path)
                unknown = (part for gap in self._table.known.missing(*span) for part in self._flow.wanted(*gap))
                lacking += [self._table.address(number) for part in unknown for number in range(*part)]
        self._judge(claims)
        return tuple(lacking)

    def judge(self) -> None:
        """Judge the claims for which all hashes are there that can come."""
        waiting, self._waiting = self._waiting, []
        self._judge(waiting)

    def _judge(self, claims: list[Have]) -> None:
        for have in claims:
            unknown = [gap for span in have.ranges for gap in self._table.known.missing(*span)]
            if any(True for gap in unknown for _ in self._flow.wanted(*gap)):
                self._waiting.append(have)
            elif unknown or self._table.claim_digest(have.ranges) != have.digest:
                # Another path may have made the same claim, which was refuted already.
                for span in have.ranges:
                    self._flow.refute(*span)


class Published:
    """What the receiver says that it has published of the files of ``table``."""

    def __init__(self, table: ChunkTable) -> None:
        self._table = table
        self._root = b""
        self.left: frozenset[int] | None = None
        """What is left out of it, once that was said."""
        self.proved = False

    def say(self, message: FinalAck) -> list[HashChunks | Finished]:
        """The receiver says so; what has to be hashed to prove it, or the end, unless that was proved.

        Raises:
            ProtocolBreach: what is left out of it is not part of the transfer, or all of that.
            Damaged: as :meth:`prove`.
        """
        if self.proved:
            return []
        left = check_left(message.left, self._table.files)
        check_rest(left, self._table.files)
        self._root, self.left = message.root, left
        lacking = tuple(self._table.address(number) for gap in self._table.unknown(self.left) for number in range(*gap))
        return [HashChunks(lacking)] if lacking else self.prove()

    def forget(self) -> None:
        """Another process receives now, and says for itself what it publishes; what was proved stands."""
        if not self.proved:
            self.left = None

    def prove(self) -> list[HashChunks | Finished]:
        """The end, as soon as all hashes are there.

        Raises:
            Damaged: what was published is something else.
        """
        if self.left is None or self._table.unknown(self.left):
            return []
        if self._root != self._table.root(self.left):
            raise Damaged("the receiver's root hash is not the sender's; the transfer is not confirmed, send it again")
        self.proved = True
        return [Finished(self._root, tuple(sorted(self.left)))]

    def cannot_be_read(self, file: int, path: str) -> None:
        """A file of which a hash is lacking cannot be read.

        Raises:
            DiskError: it is among what was published.
        """
        if self.left is not None and file not in self.left:
            raise DiskError(
                f"the receiver has published everything, but '{safe_text(path)}' changed or cannot be read any more: it"
                " is not proved to be the same there; compare it yourself or send it again by itself"
            )
