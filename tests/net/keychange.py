"""A TLS client that changes its keys as often as it likes, which neither pyOpenSSL nor any honest peer can."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.private.identity import Identity

KEY_UPDATE = b"\x18\x00\x00\x01"
"""The message of RFC 8446 section 4.6.3, without its only byte: 1 asks the other end to change its keys as well."""
HANDSHAKE, DATA = 22, 23
RECORD_SIZE = 27
"""A KeyUpdate on the wire: 5 bytes of header, 5 of message, 1 of type, 16 of tag."""


class KeyChanger:
    """The client's half of a connection; OpenSSL makes the handshake, and from then on every record is made here."""

    def __init__(self, identity: Identity, alpn: bytes) -> None:
        creator = PeerTLS(identity, None, alpn)
        creator.context(True).set_keylog_callback(self._note)
        self.link = creator.link(True)
        self._secret = b""
        self._number = 0

    def change(self, count: int, *, asks: bool) -> bytes:
        """So many changes of keys in a row, as they go over the line."""
        return b"".join(self._changes(count, KEY_UPDATE + bytes([asks])))

    def data(self, text: bytes) -> bytes:
        """A record with ``text``, under the newest keys."""
        return self._record(DATA, text)

    def _changes(self, count: int, message: bytes) -> Iterable[bytes]:
        for _ in range(count):
            yield self._record(HANDSHAKE, message)
            self._secret = self._expand(b"traffic upd", 32)
            self._number = 0

    def _note(self, link: SSL.Connection, line: bytes) -> None:
        label, _, secret = line.split()
        if label == b"CLIENT_TRAFFIC_SECRET_0":
            self._secret = bytes.fromhex(secret.decode())

    def _record(self, kind: int, content: bytes) -> bytes:
        """RFC 8446 sections 5.2 and 5.3, with TLS_AES_128_GCM_SHA256."""
        header = struct.pack(">BHH", DATA, 0x0303, len(content) + 17)
        iv = int.from_bytes(self._expand(b"iv", 12)) ^ self._number
        self._number += 1
        sealed = AESGCM(self._expand(b"key", 16)).encrypt(iv.to_bytes(12), content + bytes([kind]), header)
        return header + sealed

    def _expand(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label of RFC 8446 section 7.1 without context."""
        full = b"tls13 " + label
        info = struct.pack(">HB", size, len(full)) + full + b"\0"
        return HKDFExpand(SHA256(), size, info).derive(self._secret)
