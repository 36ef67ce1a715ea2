"""Sealed records: what carries everything behind the greeting on a path, one direction at a time.

::

    u8 kind | u24 size | size octets, encrypted | tag (16)

Laws of this file:

1. A direction of a connection has a secret of its own, from the TLS exporter over both Hellos, so no key is ever used
   in two connections or in two directions.
2. A nonce is never used twice: it is the key's IV xor the number of the record, which counts from 0 without a gap and
   is never sent.  What is lost, repeated, put in another order or taken from elsewhere therefore does not open.
3. After :data:`KEY_RECORDS` records both ends take the next key, without a word; the one before cannot be computed from
   it.
4. The header is authenticated with the content, and judged before anything is kept or opened.  A record of data is not
   empty, so no flood costs nothing.
5. The last record says so.  A stream that ends without it was cut; nothing may follow it.  The few words that may be in
   it are no part of the stream, which may have ended anywhere.
6. What does not open is never tried again, with no other key either: the direction is dead.

Sources: the nonces are those of RFC 8446 section 5.3, the change of keys is that of its section 7.2 with plain
HKDF-Expand (RFC 5869), the mark on the last record is that of STREAM (Hoang and others 2015).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Literal, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from msgspec import Struct

from p2pxfer.errors import Unreachable

EXPORTER_LABEL: Final = b"EXPORTER-p2pxfer-records"
SECRET_SIZE: Final = 32
MAX_RECORD: Final = 1024 * 1024
"""Largest plaintext of a record, bytes.  Nothing of it is opened before all of it came, so a large one holds part of a
single frame, of a chunk or a patch as a rule, which is of no use either before it is whole."""
HEADER_SIZE: Final = 4
OVERHEAD: Final = HEADER_SIZE + 16
"""What a record takes beside its plaintext, bytes."""
MAX_SEALED: Final = MAX_RECORD + OVERHEAD
KEY_RECORDS: Final = 1 << 13
"""Records under one key: 8 GiB at most.  AES-GCM is good for forty times as much (RFC 8446 section 5.5)."""

MAX_LAST: Final = 4096 + 5
"""Largest plaintext of the last record, bytes: one frame as before anybody is known."""

_DATA: Final = 0
_LAST: Final = 1
_HEADER: Final = struct.Struct(">I")

Direction = Literal["initiator", "responder"]
"""Who sends in it."""
Plain = bytes | bytearray | memoryview


class Aead(Protocol):
    """A cipher with a key that works on memory of the caller's, as those of ``cryptography`` do."""

    def encrypt_into(self, nonce: bytes, data: Plain, associated_data: bytes, buf: memoryview) -> int:
        """Write ciphertext and tag to ``buf``, which has exactly room for them."""

    def decrypt_into(self, nonce: bytes, data: memoryview, associated_data: bytes, buf: memoryview) -> int:
        """Write the plaintext to ``buf``; ``InvalidTag`` if it is not what was encrypted."""


class Suite(Struct, frozen=True):
    """An AEAD cipher with 12 octets of nonce and 16 of tag, and the length of its key."""

    make: Callable[[bytes], Aead]
    key_size: int


SUITES: Final = {
    "TLS_AES_128_GCM_SHA256": Suite(AESGCM, 16),
    "TLS_AES_256_GCM_SHA384": Suite(AESGCM, 32),
    "TLS_CHACHA20_POLY1305_SHA256": Suite(ChaCha20Poly1305, 32),
}
"""By the TLS cipher suite of the connection: the two ends agreed on one already."""


def is_last(record: Plain) -> bool:
    """Whether a record with this header, which was judged, ends the direction."""
    return record[0] == _LAST


class RecordBroken(Unreachable):
    """What came is not what the other end sent next: the connection cannot be used any more."""


def exporter_context(transcript: bytes, direction: Direction) -> bytes:
    """The context for the TLS exporter; ``transcript`` is SHA-256 of both Hellos in role order."""
    return transcript + (b"i" if direction == "initiator" else b"r")


class _Keys:
    """The keys of one direction, one after the other."""

    def __init__(self, secret: bytes, suite: Suite) -> None:
        self._secret = secret
        self._suite = suite
        self._take()

    def _take(self) -> None:
        """Derive the key and what the next one comes from."""
        self.cipher = self._suite.make(self._expand(b"key", self._suite.key_size))
        self._iv = int.from_bytes(self._expand(b"iv", 12), "big")
        self._secret = self._expand(b"next", SECRET_SIZE)
        self._number = 0

    def _expand(self, purpose: bytes, size: int) -> bytes:
        return HKDFExpand(SHA256(), size, b"p2pxfer 1 record " + purpose).derive(self._secret)

    def nonce(self) -> bytes:
        """The nonce of the next record, for :attr:`cipher`; each call is for another record."""
        if self._number == KEY_RECORDS:
            self._take()
        nonce = (self._iv ^ self._number).to_bytes(12, "big")
        self._number += 1
        return nonce


class Sealer:
    """Makes the records of one direction."""

    def __init__(self, secret: bytes, suite: Suite) -> None:
        """``secret`` is of :data:`SECRET_SIZE` and used for nothing else."""
        self._keys = _Keys(secret, suite)
        self.finished = False
        """The last record was made."""

    def seal(self, plain: Plain, into: memoryview) -> int:
        """Write the next record to the start of ``into``; returns its size, :data:`OVERHEAD` more than ``plain``.

        ``ValueError`` if there is nothing to seal, too much of it, or too little room.
        """
        if not 0 < len(plain) <= MAX_RECORD:
            raise ValueError("a record holds at least one byte and has a largest size")
        return self._seal(_DATA, plain, into)

    def seal_last(self, into: memoryview, words: Plain = b"") -> int:
        """Write the record that ends the direction to the start of ``into``; returns its size.

        ``ValueError`` if ``words`` are longer than :data:`MAX_LAST`.
        """
        if len(words) > MAX_LAST:
            raise ValueError("the last record has a largest size")
        size = self._seal(_LAST, words, into)
        self.finished = True
        return size

    def _seal(self, kind: int, plain: Plain, into: memoryview) -> int:
        if self.finished:
            raise ValueError("nothing may follow the last record")
        size = len(plain) + OVERHEAD
        header = _HEADER.pack(kind << 24 | len(plain))
        into[:HEADER_SIZE] = header
        nonce = self._keys.nonce()
        self._keys.cipher.encrypt_into(nonce, plain, header, into[HEADER_SIZE:size])
        return size


class Opener:
    """Opens the records of one direction, in their order."""

    def __init__(self, secret: bytes, suite: Suite) -> None:
        """As for the :class:`Sealer` at the other end."""
        self._keys = _Keys(secret, suite)
        self._error: RecordBroken | None = None
        self.finished = False
        """The last record was opened."""

    def size(self, header: Plain) -> int:
        """How many bytes the record with this header will give.

        Raises:
            RecordBroken: no record may begin like this, or none may come.
        """
        if self.finished:
            raise self._broken("something follows the end of what the other end sends")
        (word,) = _HEADER.unpack(header)
        kind, size = word >> 24, word & 0xFFFFFF
        legal = 0 < size <= MAX_RECORD if kind == _DATA else kind == _LAST and size <= MAX_LAST
        if not legal:
            raise self._broken("what came is no record")
        return int(size)

    def open(self, record: memoryview, into: memoryview) -> None:
        """Write what is in a whole record to ``into``, which is as long as :meth:`size` says.

        Raises:
            RecordBroken: it is not the next record that the other end made.
        """
        header = bytes(record[:HEADER_SIZE])
        if self.size(header) != len(into) or len(record) != len(into) + OVERHEAD:
            raise ValueError("a record is opened whole, into as much room as it needs")
        if self._error is not None:
            raise self._error
        nonce = self._keys.nonce()
        try:
            self._keys.cipher.decrypt_into(nonce, record[HEADER_SIZE:], header, into)
        except InvalidTag:
            raise self._broken("what came was changed on the way") from None
        self.finished = is_last(header)

    def _broken(self, reason: str) -> RecordBroken:
        self._error = self._error or RecordBroken(reason)
        return self._error
