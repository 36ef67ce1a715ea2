"""Bytes between OpenSSL and memory without a copy more than needed: what arrived, what it decrypted, what it sends.

``Connection.recv_into`` of pyOpenSSL reads into a buffer that it allocates for each call, then copies; its own comment
calls that annoying.  With a call for every 16 KiB record this costs a third of all receiving (over loopback: 0.9
against 0.6 s of processor time for a GiB).  Where pyOpenSSL's internals look as expected OpenSSL is called on the
caller's memory; anywhere else ``recv_into`` does the work, only slower.

The same holds for what arrived: ``bio_write`` copies it into a buffer of OpenSSL's, which copies it again when it
reads.  A BIO over the caller's memory saves the first of the two, which is 7 % of the time for receiving.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

Fill = Callable[[SSL.Connection, memoryview, int], tuple[int, SSL.Error | None]]
Drain = Callable[[SSL.Connection, memoryview], int]
Lend = Callable[[SSL.Connection, memoryview], None]
TakeBack = Callable[[SSL.Connection], None]


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
            if got > 0:
                size += got
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


def lend_by_copy(link: SSL.Connection, memory: memoryview) -> None:
    """Give a connection on memory BIOs the bytes in ``memory`` to read, when it has read all of before.

    They must not change until :func:`take_back_by_copy`.
    """
    link.bio_write(memory)


def lend_in_place(link: SSL.Connection, memory: memoryview) -> None:
    """As :func:`lend_by_copy`, and OpenSSL reads them where they are until :func:`take_back_in_place`.

    What is under ``memory`` must live until then, and not move.
    """
    with _FFI.from_buffer("char[]", memory) as start:
        _read_from(link, _LIBRARY.BIO_new_mem_buf(start, len(memory)))


def take_back_by_copy(link: SSL.Connection) -> None:
    """The memory that was lent is wanted back: OpenSSL has its own copy."""


def take_back_in_place(link: SSL.Connection) -> None:
    """As :func:`take_back_by_copy`: what OpenSSL has not read yet is copied now.

    In most cases that is nothing, and then its BIO is as good as an empty one of its own.
    """
    inside: Any = link
    start = _FFI.new("char **")
    left = _LIBRARY.BIO_get_mem_data(inside._into_ssl, start)
    if left <= 0:
        return
    own = _LIBRARY.BIO_new(_LIBRARY.BIO_s_mem())
    copied = 0 if own == _FFI.NULL else _LIBRARY.BIO_write(own, start[0], left)
    _read_from(link, own)
    if copied != left:
        raise MemoryError


def _read_from(link: SSL.Connection, bio: Any) -> None:
    """Let a connection read from ``bio`` from now on; the one before is freed."""
    inside: Any = link
    if bio == _FFI.NULL:
        raise MemoryError
    _LIBRARY.BIO_set_mem_eof_return(bio, -1)  # an empty one means that more will come
    _LIBRARY.SSL_set_bio(inside._ssl, bio, inside._from_ssl)
    inside._into_ssl = bio


_LIBRARY: Any = getattr(SSL, "_lib", None)
_FFI: Any = getattr(SSL, "_ffi", None)
_CALLS = (
    "SSL_read", "SSL_set_bio", "BIO_read", "BIO_write", "BIO_new", "BIO_new_mem_buf", "BIO_s_mem", "BIO_get_mem_data",
    "BIO_set_mem_eof_return",
)  # fmt: skip
_FAMILIAR = (
    all(hasattr(_LIBRARY, name) for name in _CALLS)
    and hasattr(_FFI, "from_buffer")
    and hasattr(SSL.Connection, "_raise_ssl_error")
)
fill: Fill = fill_in_place if _FAMILIAR else fill_by_copy
drain: Drain = drain_in_place if _FAMILIAR else drain_by_copy
lend: Lend = lend_in_place if _FAMILIAR else lend_by_copy
take_back: TakeBack = take_back_in_place if _FAMILIAR else take_back_by_copy
"""The faster of the two ways that this pyOpenSSL allows."""
