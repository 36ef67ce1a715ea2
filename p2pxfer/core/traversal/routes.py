"""The default gateway in the text of Linux's ``/proc/net/route``."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address
from typing import Final

MAX_TEXT: Final = 262_144
"""How much of the table is looked at, characters; a default route stands near its begin."""
_UP, _GATEWAY = 0x1, 0x2


def default_gateway(table: str) -> IPv4Address | None:
    """The gateway of the default route with the lowest metric; ``None`` if there is none with a gateway.

    The addresses in the table are in the byte order of the machine (``fib_route_seq_show`` of Linux).
    """
    found: list[tuple[int, IPv4Address]] = []
    for line in table[:MAX_TEXT].splitlines()[1:]:
        fields = line.split()
        try:
            target, gateway, flags, metric, mask = (
                int(fields[1], 16), int(fields[2], 16), int(fields[3], 16), int(fields[6]), int(fields[7], 16),
            )  # fmt: skip
        except (IndexError, ValueError):
            continue
        if target == mask == 0 and flags & (_UP | _GATEWAY) == _UP | _GATEWAY:
            found.append((metric, IPv4Address(gateway.to_bytes(4, sys.byteorder))))
    return min(found, default=(0, None))[1]
