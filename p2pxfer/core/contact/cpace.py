"""CPace-X25519-SHA512: a balanced password-authenticated key exchange, one message each way.

Source: draft-irtf-cfrg-cpace-21, sections 7, 8.2 and 10.4, initiator/responder mode. Both sides hold a short
common secret (PRS), the same channel identifier (CI) and the same session id (sid). An observer learns nothing
about PRS, and somebody who takes part in a run can test exactly one guess.

Laws:

- Equal PRS, CI, sid and an equal view of both messages give equal keys; any difference gives unrelated keys.
- The secret point K never leaves this module; callers see the intermediate session key (ISK) only.
- A peer's share that is not a point or lies in a small subgroup gives `WrongCode`, the error of a wrong code, so
  the two cannot be told apart from outside.
- The scalar is an argument: 32 bytes from a secure source, used for one run only.

Timing: the two scalar multiplications are OpenSSL's constant-time X25519. The Elligator2 map works on Python
integers, whose running time depends on their values. That is acceptable here because its input is a hash over
a one-time secret *and* a session id fixed before by both sides: each secret is mapped once per side, is worthless
afterwards, and so leaves no second measurement to average noise away. Do not use this module with a password
that lives longer than one run.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from p2pxfer.errors import WrongCode

DSI: Final = b"CPace255"
DSI_ISK: Final = DSI + b"_ISK"
FIELD_BYTES: Final = 32
TAG_BYTES: Final = 64
NEUTRAL: Final = bytes(FIELD_BYTES)
WRONG_CODE_TEXT: Final = "wrong code: it was mistyped, or somebody in between tried to guess it; it is spent"

_HASH_BLOCK_BYTES: Final = 128  # input block of SHA-512
_P: Final = 2**255 - 19
_A: Final = 486662
_NON_SQUARE: Final = 2  # Z of RFC 9380 for curve25519


def prepend_len(data: bytes) -> bytes:
    """`data` behind its length in LEB128 (draft section 6.3)."""
    head = bytearray()
    rest = len(data)
    while rest >= 0x80:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    head.append(rest)
    return bytes(head) + data


def lv_cat(*parts: bytes) -> bytes:
    """Every part behind its length, joined: an encoding no two lists of parts share (draft section 6.3)."""
    return b"".join(prepend_len(part) for part in parts)


def transcript_ir(initiator_share: bytes, initiator_ad: bytes, responder_share: bytes, responder_ad: bytes) -> bytes:
    """Both messages, the initiator's first (draft section 6.3)."""
    return lv_cat(initiator_share, initiator_ad) + lv_cat(responder_share, responder_ad)


def generator_string(prs: bytes, ci: bytes, sid: bytes) -> bytes:
    """The string that the generator is hashed from (draft section 8.1).

    The zero padding makes DSI and PRS fill the first block of the hash, so that the number of blocks does not
    depend on the length of a short PRS.
    """
    padding = _HASH_BLOCK_BYTES - 1 - len(prepend_len(prs)) - len(prepend_len(DSI))
    return lv_cat(DSI, prs, bytes(max(0, padding)), ci, sid)


def map_to_curve(field_element: bytes) -> bytes:
    """Elligator2 for curve25519: 32 bytes to the u coordinate of a point (RFC 9380 section 6.7.1).

    The top bit is ignored, as RFC 7748 section 5 has it. 1 + 2r^2 is never zero since -1/2 is not a square.
    """
    r = int.from_bytes(field_element, "little") & (2**255 - 1)
    first = -_A * pow(1 + _NON_SQUARE * r * r, -1, _P) % _P
    curve = (first * first * first + _A * first * first + first) % _P
    is_square = pow(curve, (_P - 1) // 2, _P) <= 1
    u = first if is_square else (-first - _A) % _P
    return u.to_bytes(FIELD_BYTES, "little")


def calculate_generator(prs: bytes, ci: bytes, sid: bytes) -> bytes:
    """The secret base point of this run, as a u coordinate (draft section 8.2)."""
    digest = hashlib.sha512(generator_string(prs, ci, sid)).digest()
    return map_to_curve(digest[:FIELD_BYTES])


def scalar_mult_vfy(scalar: bytes, point: bytes) -> bytes:
    """X25519(scalar, point), with `NEUTRAL` for every low-order point (draft section 8.2).

    Raises `ValueError` if either argument is not 32 bytes long.
    """
    if len(scalar) != FIELD_BYTES or len(point) != FIELD_BYTES:
        raise ValueError("an X25519 scalar and point are 32 bytes each")
    private = X25519PrivateKey.from_private_bytes(scalar)
    public = X25519PublicKey.from_public_bytes(point)
    try:
        return private.exchange(public)
    except ValueError:
        # cryptography reports an all-zero result this way; lengths were checked above.
        return NEUTRAL


def public_share(prs: bytes, ci: bytes, sid: bytes, scalar: bytes) -> bytes:
    """The 32-byte message of one side (Ya or Yb). `ValueError` if the scalar is not 32 bytes."""
    return scalar_mult_vfy(scalar, calculate_generator(prs, ci, sid))


def session_key(sid: bytes, scalar: bytes, peer_share: bytes, transcript: bytes) -> bytes:
    """The intermediate session key ISK, 64 bytes (draft section 7.2).

    Raises `WrongCode` if the peer's share has a wrong length or leads to the neutral element, `ValueError` if
    the own scalar is not 32 bytes.
    """
    if len(peer_share) != FIELD_BYTES:
        raise WrongCode(WRONG_CODE_TEXT)
    secret_point = scalar_mult_vfy(scalar, peer_share)
    if hmac.compare_digest(secret_point, NEUTRAL):
        raise WrongCode(WRONG_CODE_TEXT)
    return hashlib.sha512(lv_cat(DSI_ISK, sid, secret_point) + transcript).digest()


def mac_key(sid: bytes, isk: bytes) -> bytes:
    """The key for key confirmation, 64 bytes (draft section 10.4)."""
    return hashlib.sha512(b"CPaceMac" + sid + isk).digest()


def confirmation_tag(key: bytes, share: bytes, associated_data: bytes) -> bytes:
    """HMAC-SHA-512 over the message its sender sent before (draft section 10.4), 64 bytes."""
    return hmac.digest(key, lv_cat(share, associated_data), "sha512")
