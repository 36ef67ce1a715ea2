"""The end of a transfer at its receiver: what a Final brings to publication, and what stands from then on.

Laws of this file:

1. A Final is about everything but what was left out on its path, and where there are files about one at least.
2. What an earlier run has agreed to, and has published or begun to, stands whatever a later Final says: it is carried
   to its end and confirmed.  Nothing is needed for it of what it leaves out, nor of anything if it was published.
3. If that cannot be done any more, everything is begun anew under other names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from p2pxfer.core.session.leftwire import check_rest
from p2pxfer.core.session.transferwire import Final, FinalAck
from p2pxfer.core.transfer.inflow import Inflow
from p2pxfer.core.transfer.journal import Agreed
from p2pxfer.core.transfer.ranges import RangeSet
from p2pxfer.core.transfer.receiveeffect import Publish, ReceiverEffect
from p2pxfer.core.transfer.receivestate import Path, Talk
from p2pxfer.core.transfer.sendeffect import Send
from p2pxfer.errors import Damaged, ProtocolBreach


class Ending:
    """``outdated``: what was published is of another state of what is listed now, or cannot be completed."""

    def __init__(self) -> None:
        self.outdated = False
        self.begun = False
        """An earlier run has given names: the list is not to become another one."""
        self._published_earlier = False
        self._agreed: Agreed | None = None
        self._without = RangeSet()
        self._said = Agreed(b"")

    def stands(self, agreed: Agreed | None, flow: Inflow, *, published: bool, begun: bool) -> None:
        """An earlier run has ``published`` this, or ``begun`` to."""
        self._agreed, self._published_earlier, self.begun = agreed, published, published or begun
        left = [file for file in agreed.left if file < flow.table.files] if agreed is not None else []
        self._without = RangeSet(flow.table.chunks_in(left))

    def needs(self, numbers: range) -> bool:
        """Whether any of these chunks is of use, if it is not here."""
        return not self._published_earlier and not self._without.contains(numbers.start, numbers.stop)

    def judge(self, final: Final, left: Collection[int], flow: Inflow) -> Publish:
        """The sender is done, with these files left out, and told the whole list.

        Raises:
            ProtocolBreach: it is not, or leaves all files out, or what stands cannot be published.
            Damaged: its root is not that of what is here.
        """
        stands = self._agreed
        wanted = frozenset(left if stands is None else stands.left)
        check_rest(wanted, flow.table.files)
        complete = flow.is_complete_without(wanted)
        if not complete and stands is None:
            raise ProtocolBreach("Final came before every page was answered and every chunk acknowledged")
        root = flow.table.root(wanted) if complete else b""
        if stands is not None and root != stands.root:
            self.outdated = True
            raise ProtocolBreach("what was published by half has changed at both ends; everything is to be sent again")
        if stands is None and final.root != root:
            raise Damaged("the sender's root hash is not the receiver's; what arrived is kept and not published")
        self.published(Agreed(root, tuple(sorted(wanted))))
        return Publish(self._said)

    def published(self, agreed: Agreed) -> None:
        """This is what is to be confirmed."""
        self._said = agreed

    def confirmation(self, handle: int) -> FinalAck:
        """That it is published, and what is left out of it."""
        return FinalAck(handle, self._said.root, list(self._said.left))

    def confirm(self, paths: Mapping[int, Path]) -> list[ReceiverEffect]:
        """Tell whoever asked."""
        asked = ((path, state) for path, state in paths.items() if state.talk is Talk.FINAL)
        return [Send(path, self.confirmation(state.handle)) for path, state in asked]
