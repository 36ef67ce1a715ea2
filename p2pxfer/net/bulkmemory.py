"""Bytes from OpenSSL straight into memory: what it decrypted, and what it has to send.

``Connection.recv_into`` of pyOpenSSL reads into a buffer that it allocates for each call, then copies; its own comment
calls that annoying.  With a call for every 16 KiB record this costs a third of all receiving (over loopback: 0.9
against 0.6 s of processor time for a GiB).  Where pyOpenSSL's internals look as expected OpenSSL is called on the
caller's memory; anywhere else ``recv_into`` does the work, only slower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

Fill = Callable[[SSL.Connection, memoryview, int], tuple[int, SSL.Error | None]]
Drain = Callable[[SSL.Connection, memoryview], int]


def fill_by_copy(link: SSL.Connection, memory: memoryview, piece: int) -> tuple[int, SSL.Error | None]:
    """Fill ``memory`` by pieces of at most ``piece`` bytes; returns how much is in it and why there is no more."""
    size = 0
    last = len(memory) - piece
    try:
        while size <= last:
            size += link.recv_into(memory[size : size + piece])
    except SSL.Error as stop:
        return size, stop
    return size, None


def fill_in_place(link: SSL.Connection, memory: memoryview, piece: int) -> tuple[int, SSL.Error | None]:
    """As :func:`fill_by_copy`, without the copy."""
    inside: Any = link
    ssl, read = inside._ssl, _LIBRARY.SSL_read
    size = 0
    got = 1
    last = len(memory) - piece
    # Released before anything can be raised: an exception keeps this frame, and what cffi still holds of the memory
    # must not be left to the garbage collector, which takes the two apart in the wrong order and crashes.
    with _FFI.from_buffer("char[]", memory, require_writable=True) as start:
        while size <= last and got > 0:
            got = read(ssl, start + size, piece)
            size += max(got, 0)
    if got > 0:
        return size, None
    try:
        inside._raise_ssl_error(ssl, got)
    except SSL.Error as stop:
        return size, stop
    raise AssertionError("OpenSSL gave nothing and no reason")


def drain_by_copy(link: SSL.Connection, memory: memoryview) -> int:
    """Move what a connection on memory BIOs has to send to the start of ``memory``; returns how much that is."""
    try:
        data = link.bio_read(len(memory))
    except SSL.WantReadError:
        return 0
    memory[: len(data)] = data
    return len(data)


def drain_in_place(link: SSL.Connection, memory: memoryview) -> int:
    """As :func:`drain_by_copy`, without memory that is allocated for each call."""
    inside: Any = link
    with _FFI.from_buffer("char[]", memory, require_writable=True) as start:
        size: int = _LIBRARY.BIO_read(inside._from_ssl, start, len(memory))
    return max(size, 0)


_LIBRARY: Any = getattr(SSL, "_lib", None)
_FFI: Any = getattr(SSL, "_ffi", None)
_FAMILIAR = (
    hasattr(_LIBRARY, "SSL_read")
    and hasattr(_LIBRARY, "BIO_read")
    and hasattr(_FFI, "from_buffer")
    and hasattr(SSL.Connection, "_raise_ssl_error")
)
fill: Fill = fill_in_place if _FAMILIAR else fill_by_copy
drain: Drain = drain_in_place if _FAMILIAR else drain_by_copy
"""The faster of the two ways that this pyOpenSSL allows."""
