"""What a router answers that is asked over PCP or NAT-PMP."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

OUTSIDE = IPv4Address("198.18.1.1")
NONCE = bytes(range(12))
PORT = 23456
WRAPPED = bytes(10) + b"\xff\xff"


def pcp_answer(
    *, result: int = 0, lifetime: int = 3600, nonce: bytes = NONCE, protocol: int = 6, internal: int = PORT,
    external: int = 40000, host: bytes = WRAPPED + OUTSIDE.packed, epoch: int = 7,
) -> bytes:  # fmt: skip
    head = struct.pack("!BBBBII", 2, 0x81, 0, result, lifetime, epoch) + bytes(12)
    return head + nonce + struct.pack("!B3xHH", protocol, internal, external) + host


def pmp_address_answer(result: int = 0, host: IPv4Address = OUTSIDE) -> bytes:
    return struct.pack("!BBHI4s", 0, 128, result, 7, host.packed)


def pmp_answer(result: int = 0, internal: int = PORT, external: int = 40001, lifetime: int = 3600) -> bytes:
    return struct.pack("!BBHIHHI", 0, 130, result, 7, internal, external, lifetime)


PCP_UNKNOWN = struct.pack("!BBHI", 0, 0x81, 1, 7)
"""What a router that knows NAT-PMP only says to PCP (RFC 6887, section 9)."""
