"""Peer ids: what a public key looks like as text.

A peer id is the SHA-256 of the key's SubjectPublicKeyInfo in DER. Its text is `p2px1-` and 56 characters in eight
groups of seven: the 52 base32 characters of the digest (RFC 4648 section 6, lower case, no padding), where every
13 are followed by a check character (Luhn modulo 32). A server's pin has the same form.

Laws:

- `parse_id(str(id)) == id`, and every digest has one canonical text.
- Any single wrong character is detected, and so are most swaps of two neighbours.
- Parsing ignores ASCII case and dashes, nothing else.
"""

from __future__ import annotations

from base64 import b32decode, b32encode
from typing import Final

from msgspec import Struct

from p2pxfer.errors import IdInvalid

PREFIX: Final = "p2px1"
DIGEST_BYTES: Final = 32

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_VALUE: Final = {character: value for value, character in enumerate(_ALPHABET)}
_DIGEST_CHARS: Final = 52
_CHECKED_CHARS: Final = 13
_TEXT_CHARS: Final = _DIGEST_CHARS + _DIGEST_CHARS // _CHECKED_CHARS
_GROUP_CHARS: Final = 7
_INPUT_LIMIT: Final = 256


class PeerId(Struct, frozen=True, order=True):
    """The identity of a peer or a server: 32 bytes, SHA-256 of its public key (SPKI DER)."""

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != DIGEST_BYTES:
            raise ValueError("a peer id is 32 bytes")

    @property
    def short(self) -> str:
        """The first group, seven characters: for display only, never for a decision."""
        return _checked_text(self.digest)[:_GROUP_CHARS]

    def __str__(self) -> str:
        text = _checked_text(self.digest)
        groups = [text[at : at + _GROUP_CHARS] for at in range(0, _TEXT_CHARS, _GROUP_CHARS)]
        return "-".join([PREFIX, *groups])

    def __repr__(self) -> str:
        return f"PeerId({self})"


def parse_id(text: str, what: str = "peer id") -> PeerId:
    """The id that `text` spells, whatever its ASCII case and dashes; errors call it `what`.

    Raises `IdInvalid` for a wrong prefix, length, character or check character.
    """
    if len(text) > _INPUT_LIMIT or not text.isascii():
        raise IdInvalid(f"not a {what}: too long, or characters other than letters, digits and dashes")
    plain = text.lower().replace("-", "")
    if not plain.startswith(PREFIX):
        raise IdInvalid(f"not a {what}: it must begin with {PREFIX}-")
    body = plain[len(PREFIX) :]
    if len(body) != _TEXT_CHARS:
        raise IdInvalid(f"not a {what}: {_TEXT_CHARS} characters must follow {PREFIX}-")
    if not _VALUE.keys() >= set(body):
        raise IdInvalid(f"not a {what}: only the letters a to z and the digits 2 to 7 occur in one")
    return PeerId(_digest(body, what))


def _checked_text(digest: bytes) -> str:
    """56 characters: the digest in base32 with a check character behind every 13."""
    plain = b32encode(digest).decode("ascii").rstrip("=").lower()
    blocks = (plain[at : at + _CHECKED_CHARS] for at in range(0, _DIGEST_CHARS, _CHECKED_CHARS))
    return "".join(block + _check_character(block) for block in blocks)


def _digest(body: str, what: str) -> bytes:
    """The digest in 56 valid characters; `IdInvalid` if a check fails or spare bits are set."""
    plain = ""
    step = _CHECKED_CHARS + 1
    for number, at in enumerate(range(0, _TEXT_CHARS, step), start=1):
        block, check = body[at : at + _CHECKED_CHARS], body[at + _CHECKED_CHARS]
        if _check_character(block) != check:
            groups = f"{2 * number - 1} and {2 * number}"
            raise IdInvalid(f"the {what} has a typing error in groups {groups} after {PREFIX}-")
        plain += block
    digest = b32decode(plain.upper() + "====")
    # 52 characters hold 260 bits: without this, 16 texts would name the same key.
    if b32encode(digest).decode("ascii").rstrip("=").lower() != plain:
        raise IdInvalid(f"not a {what}: unused bits are set")
    return digest


def _check_character(block: str) -> str:
    """The Luhn modulo 32 check character of a block; the rightmost character counts twice."""
    total = 0
    factor = 2
    for character in reversed(block):
        product = _VALUE[character] * factor
        total += product // 32 + product % 32
        factor = 3 - factor
    return _ALPHABET[-total % 32]
