"""What the kernel knows of a connection: whether what was sent is acknowledged, how soon, and what was lost on the way
(``TCP_INFO``, tcp(7); ``struct tcp_info`` in linux/tcp.h).

A program sees only that nothing comes; the kernel tells a peer that is busy, which still acknowledges, from one that
packets do not reach any more.  Linux only: elsewhere nothing is known.
"""

from __future__ import annotations

import socket
import struct
import sys

from msgspec import Struct

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
_COUNTS = struct.Struct("=120xQ16xII4xI")
"""Of ``struct tcp_info`` in Linux 4.6 and later: bytes acknowledged, bytes that were not sent yet, the shortest round
trip in microseconds, segments with data that were sent."""
_TIMES = struct.Struct("=168xQQ")
"""Of the same in Linux 4.10 and later, in microseconds: how long something was to be sent or under way, and how long of
that the other end had no room for more."""
_NO_TRIP = 2**32 - 1
"""What the kernel says for the shortest round trip while it knows none."""
_ANOTHER = "reno"
"""A congestion control that every kernel has and allows."""
_MAX_PACE = 47
"""``SO_MAX_PACING_RATE`` (socket(7)) of nearly every processor that Linux runs on; Python has no name for it."""
_PACE = struct.Struct("@L")
_NO_CAP = 2 ** (8 * _PACE.size) - 1
_DELIVERED = struct.Struct("=160xQ")
"""Of the same in Linux 4.9 and later: ``tcpi_delivery_rate``, bytes a second."""
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


class Flow(Struct, frozen=True):
    """What went out over a connection since it stood: bytes ``acked``, segments ``sent`` and ``repeated``; its round
    ``trip``, smoothed, seconds; bytes ``waiting`` that were written and not sent once; the ``shortest`` round trip that
    the kernel knows, 0 for none; for how many seconds something was to be sent, or under way, for which the other end
    had room: ``at_work``, ``None`` where that is not known."""

    acked: int
    sent: int
    repeated: int
    trip: float
    waiting: int = 0
    shortest: float = 0.0
    at_work: float | None = None


def flow(sock: socket.socket) -> Flow | None:
    """See :class:`Flow`; ``None`` where the kernel does not tell so much."""
    return counted(_ask(sock, _TIMES.size))


def counted(raw: bytes) -> Flow | None:
    """As :func:`flow`, from the kernel's answer."""
    if len(raw) < _COUNTS.size:
        return None
    acked, waiting, shortest, sent = _COUNTS.unpack_from(raw)
    fields = _fields(raw)
    known = shortest if shortest != _NO_TRIP else 0
    busy, held = _TIMES.unpack_from(raw) if len(raw) >= _TIMES.size else (None, 0)
    at_work = (busy - held) / 1e6 if busy is not None else None
    return Flow(acked, sent, fields[_REPEATED], fields[_ROUND_TRIP] / 1e6, waiting, known / 1e6, at_work)


def delivery_rate(sock: socket.socket) -> int | None:
    """How fast the other end acknowledged what was sent lately, bytes a second; ``None`` where that is not known."""
    raw = _ask(sock, _DELIVERED.size)
    return int(_DELIVERED.unpack(raw)[0]) if len(raw) == _DELIVERED.size else None


def governor(sock: socket.socket) -> str | None:
    """The congestion control of a connection, ``None`` where that cannot be asked."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode("ascii")
    except (OSError, AttributeError, UnicodeDecodeError):
        return None


def govern(sock: socket.socket, name: str) -> bool:
    """Give a connection this congestion control; false where the system does not have or does not allow it."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode("ascii"))
    except (OSError, AttributeError):
        return False
    return True


def begin_anew(sock: socket.socket, name: str) -> bool:
    """Have the congestion control ``name``, which ``sock`` has, forget what it knows of the line; false where that
    cannot be had.

    It could not be given back where the system allows it as a route's own only, so another socket is asked first.
    """
    try:
        with socket.socket(sock.family, socket.SOCK_STREAM) as other:
            allowed = govern(other, name)
    except OSError:
        return False
    return allowed and govern(sock, _ANOTHER) and govern(sock, name)


def cap_pace(sock: socket.socket, rate: int) -> bool:
    """Have the kernel send no faster, bytes a second, 0 for as fast as it likes; false where that cannot be had."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, _MAX_PACE, _PACE.pack(min(rate, _NO_CAP) or _NO_CAP))
    except OSError:
        return False
    return True


def hold_unsent(sock: socket.socket, most: int) -> bool:
    """Have the kernel take no more than about ``most`` bytes beyond those that it has sent, 0 for as many as it likes
    (``TCP_NOTSENT_LOWAT``, tcp(7)); false where that cannot be had."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, most)
    except (OSError, AttributeError):
        return False
    return True


def judge(raw: bytes) -> float:
    """As :func:`silent_for`, from the kernel's answer."""
    fields = _fields(raw)
    if not fields or fields[_RETRANSMITS] < TIMEOUTS or not fields[_UNACKED]:
        return 0.0
    return float(fields[_LAST_ACK]) / 1000


def _ask(sock: socket.socket, size: int = _HEAD.size) -> bytes:
    if _OPTION is None or not sys.platform.startswith("linux"):  # others have the name for another structure
        return b""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, _OPTION, size)
    except (OSError, AttributeError):  # what is no socket stands for one inside a relay leg
        return b""


def _fields(raw: bytes) -> tuple[int, ...]:
    """The numbers of an answer; a short one is an older kernel's and says nothing."""
    return _HEAD.unpack(raw[: _HEAD.size]) if len(raw) >= _HEAD.size else ()
