"""How long the side with a fresh port lets the other one dial first (:mod:`p2pxfer.net.session.siblings`, law 5)."""

from __future__ import annotations

from typing import Final

from p2pxfer.net.session.path import PeerPath

SILENT_TRIPS: Final = 6.0
"""Round trips beyond what the word to the other side waits for."""
SILENT_S: Final = 1.9
"""At most, seconds."""


def silence_s(beside: PeerPath) -> float:
    """The word goes over this path, behind the data that was written to it."""
    descriptor = beside.descriptor
    waits = descriptor.backlog_s if descriptor is not None else 0.0
    return min(SILENT_TRIPS * (beside.rtt or 0.0) + waits, SILENT_S)
