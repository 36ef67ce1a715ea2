"""What a sender says of the whole list: in its offers, and again while it is still counting."""

from __future__ import annotations

from p2pxfer.core.session.transferwire import Offer, Tally
from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.listing import ListTeller
from p2pxfer.core.transfer.manifest import Manifest


def tally(handle: int, told: ListTeller, table: ChunkTable, holes: int) -> Tally:
    """How much there is by now in the files of ``table``, of which ``holes`` bytes are not sent."""
    files = table.files
    return Tally(handle=handle, files=files, size=table.bytes_of(files), counting=not told.complete, holes=holes)


def offer(now: Tally, manifest: Manifest, *, more: bool, delta: bool, instance: bytes) -> Offer:
    """The offer of a manifest, of which there is so much ``now``; ``more`` pages than one are known.

    ``delta``: older versions are wanted; ``instance``: of this attempt to send.
    """
    return Offer(
        handle=now.handle,
        transfer=manifest.transfer_id,
        files=now.files,
        size=now.size,
        page=manifest.page(0),
        more=more or now.counting,
        counting=now.counting,
        holes=now.holes,
        delta=delta,
        instance=instance,
    )
