"""Ports to dial from that are drawn by chance: each dial of a kind is to get a mapping of its own from the NAT.

Which port it is is no secret; it only has to be one that nothing else has, as far as one can tell beforehand.
"""

from __future__ import annotations

import random

from p2pxfer.core.addresses import DENIED_PORTS, PUNCH_PORTS


def fresh_port() -> int:
    """A port; it may be taken."""
    return random.choice(PUNCH_PORTS)  # noqa: S311  # not a secret


def fresh_ports(count: int) -> range:
    """So many contiguous ports, the first one by chance; each may be taken."""
    while True:
        first = fresh_port()
        found = range(first, first + count)
        if found[-1] <= PUNCH_PORTS[-1] and DENIED_PORTS.isdisjoint(found):
            return found
