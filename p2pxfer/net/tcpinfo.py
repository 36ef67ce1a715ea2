"""What the kernel knows of a connection: whether what was sent is acknowledged, and how soon (``TCP_INFO``, tcp(7)).

A program sees only that nothing comes; the kernel tells a peer that is busy, which still acknowledges, from one that
packets do not reach any more.  Linux only: elsewhere nothing is known.
"""

from __future__ import annotations

import socket
import struct

_OPTION: int | None = getattr(socket, "TCP_INFO", None)
_HEAD = struct.Struct("=8B24I")
"""``struct tcp_info`` as far as it is read: eight bytes, then 32-bit numbers."""
_RETRANSMITS = 2
"""Index of ``tcpi_retransmits``: time-outs in a row without an acknowledgement."""
_UNACKED = 8 + 4
"""Index of ``tcpi_unacked``: segments on their way."""
_LAST_ACK = 8 + 12
"""Index of ``tcpi_last_ack_recv``: milliseconds since the last acknowledgement."""
_ROUND_TRIP = 8 + 15
"""Index of ``tcpi_rtt``: the smoothed round trip, microseconds."""
_REPEATED = 8 + 23
"""Index of ``tcpi_total_retrans``: segments that were sent again, since the first SYN."""
TIMEOUTS = 2
"""Time-outs in a row before silence counts: one may be a lost packet."""


def silent_for(sock: socket.socket) -> float:
    """Seconds since the other end acknowledged anything, if the kernel repeats data in vain; 0.0 otherwise."""
    return judge(_ask(sock))


def round_trip(sock: socket.socket) -> float:
    """The smoothed round trip, seconds; 0.0 where nothing is known."""
    fields = _fields(_ask(sock))
    return fields[_ROUND_TRIP] / 1e6 if fields else 0.0


def retransmissions(sock: socket.socket) -> int | None:
    """How many segments of a connection were sent again, its SYN included; ``None`` where nothing is known."""
    fields = _fields(_ask(sock))
    return fields[_REPEATED] if fields else None


def judge(raw: bytes) -> float:
    """As :func:`silent_for`, from the kernel's answer."""
    fields = _fields(raw)
    if not fields or fields[_RETRANSMITS] < TIMEOUTS or not fields[_UNACKED]:
        return 0.0
    return float(fields[_LAST_ACK]) / 1000


def _ask(sock: socket.socket) -> bytes:
    if _OPTION is None:
        return b""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, _OPTION, _HEAD.size)
    except OSError:
        return b""


def _fields(raw: bytes) -> tuple[int, ...]:
    """The numbers of an answer; a short one is an older kernel's and says nothing."""
    return _HEAD.unpack(raw[: _HEAD.size]) if len(raw) >= _HEAD.size else ()
