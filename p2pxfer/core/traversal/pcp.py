"""The datagrams of PCP (RFC 6887) and NAT-PMP (RFC 6886): asking a router to lead one outside port to this machine.

Laws of this file:

1. Only the MAP opcode for TCP and IPv4, and NAT-PMP's two opcodes that match it, exist here.
2. :func:`decode` never raises and never believes: what it gives is what a datagram says, whoever sent it.  Whether it
   answers anything that was asked is for :mod:`p2pxfer.core.traversal.portcontrol` to decide.

Both protocols share the server's port, 5351, and NAT-PMP is version 0 of what PCP is version 2 of, so one decoder tells
them apart by the first octet (RFC 6887, appendix A).
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from msgspec import Struct

from p2pxfer.core.addresses import canonical

SERVER_PORT: Final = 5351
MAX_DATAGRAM: Final = 1100
"""Longest PCP message, octets (RFC 6887, section 7)."""
NONCE_SIZE: Final = 12
TCP: Final = 6
UNSUPPORTED_VERSION: Final = 1
"""The result code with which both protocols say that they do not speak the version of a request."""

_PCP: Final = 2
_NAT_PMP: Final = 0
_ANSWER: Final = 0x80
_MAP: Final = 1
_PMP_ADDRESS: Final = 0
_PMP_MAP_TCP: Final = 2
_MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"
_HEADER: Final = struct.Struct("!BBxBII12x")
_MAP_BODY: Final = struct.Struct("!12sB3xHH16s")


class PcpMapped(Struct, frozen=True):
    """The answer to a MAP request; ``lifetime`` and ``epoch`` in seconds.  Of a refusal the external part is unset."""

    result: int
    lifetime: int
    epoch: int
    nonce: bytes
    protocol: int
    internal: int
    external_port: int
    external_host: IPv4Address | IPv6Address


class PmpAddress(Struct, frozen=True):
    """The router's outside address."""

    result: int
    epoch: int
    host: IPv4Address


class PmpMapped(Struct, frozen=True):
    """The answer to a NAT-PMP request for a TCP port."""

    result: int
    lifetime: int
    epoch: int
    internal: int
    external_port: int


class Unsupported(Struct, frozen=True):
    """The router does not speak the version of a request; ``version`` is the one in which it says so."""

    version: int


Answer = PcpMapped | PmpAddress | PmpMapped | Unsupported


def pcp_map(client: IPv4Address, nonce: bytes, internal: int, suggested: int, lifetime: int) -> bytes:
    """A MAP request (RFC 6887, sections 7.1 and 11.1) from the address ``client``; lifetime 0 deletes.

    ``suggested`` is the outside port that would be welcome, 0 for any; of the outside address nothing is wished.
    """
    header = struct.pack("!BBxxI16s", _PCP, _MAP, lifetime, _MAPPED_PREFIX + client.packed)
    return header + _MAP_BODY.pack(nonce, TCP, internal, suggested, _MAPPED_PREFIX + bytes(4))


def pmp_address() -> bytes:
    """Ask for the router's outside address (RFC 6886, section 3.2)."""
    return struct.pack("!BB", _NAT_PMP, _PMP_ADDRESS)


def pmp_map(internal: int, suggested: int, lifetime: int) -> bytes:
    """Ask for a TCP port (RFC 6886, section 3.3); to delete, ``suggested`` and ``lifetime`` are 0 (section 3.4)."""
    return struct.pack("!BBxxHHI", _NAT_PMP, _PMP_MAP_TCP, internal, suggested, lifetime)


def decode(datagram: bytes) -> Answer | None:
    """What a datagram from the router says; ``None`` where it is no answer that this program knows."""
    if not 4 <= len(datagram) <= MAX_DATAGRAM or not datagram[1] & _ANSWER:
        return None
    if datagram[0] == _NAT_PMP:
        return _decode_pmp(datagram)
    if datagram[3] == UNSUPPORTED_VERSION:
        return Unsupported(datagram[0])
    return _decode_pcp(datagram) if datagram[0] == _PCP else None


def _decode_pcp(datagram: bytes) -> PcpMapped | None:
    if datagram[1] != _ANSWER | _MAP or len(datagram) < _HEADER.size + _MAP_BODY.size:
        return None
    _, _, result, lifetime, epoch = _HEADER.unpack_from(datagram)
    nonce, protocol, internal, external_port, packed = _MAP_BODY.unpack_from(datagram, _HEADER.size)
    host = canonical(IPv6Address(packed))
    return PcpMapped(result, lifetime, epoch, nonce, protocol, internal, external_port, host)


def _decode_pmp(datagram: bytes) -> Answer | None:
    opcode = datagram[1] & ~_ANSWER
    (result,) = struct.unpack_from("!H", datagram, 2)
    if result == UNSUPPORTED_VERSION:
        return Unsupported(_NAT_PMP)
    if opcode == _PMP_ADDRESS and len(datagram) >= 12:
        epoch, packed = struct.unpack_from("!I4s", datagram, 4)
        return PmpAddress(result, epoch, IPv4Address(packed))
    if opcode == _PMP_MAP_TCP and len(datagram) >= 16:
        epoch, internal, external, lifetime = struct.unpack_from("!IHHI", datagram, 4)
        return PmpMapped(result, lifetime, epoch, internal, external)
    if result and len(datagram) >= 8:
        # A refusal may be shorter than the answer would be (RFC 6886, section 3.5).
        epoch = struct.unpack_from("!I", datagram, 4)[0]
        if opcode == _PMP_ADDRESS:
            return PmpAddress(result, epoch, IPv4Address(0))
        if opcode == _PMP_MAP_TCP:
            return PmpMapped(result, 0, epoch, 0, 0)
    return None
