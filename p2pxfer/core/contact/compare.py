"""Words that two people read to each other: equal at both ends if nobody sits between them.

The words follow from the keying material of one TLS connection and from both keys, so whoever sits in between has two
connections and two rows of words.  Eight words are 82 bits, and what they follow from is fixed before either side shows
them: the keys by the introduction or the contact list, the rest by the handshake.  So there is nothing to vary and try
afterwards, and no commitment is needed.
"""

from __future__ import annotations

import hashlib
from typing import Final

from p2pxfer.core.contact.wordlist import WORDS

Words = tuple[str, ...]
DIFFER: Final = "the words that were compared differ: somebody may sit in between"
"""What the other side is told where its words are others."""
LABEL: Final = b"EXPORTER-p2pxfer-words"
SECRET_BYTES: Final = 32
COUNT: Final = 8


def context(initiator: bytes, responder: bytes) -> bytes:
    """The context for the TLS exporter: the key digests of both ends, in the order of their roles."""
    return hashlib.sha256(b"p2pxfer-words" + initiator + responder).digest()


def words_of(secret: bytes) -> Words:
    """The words for :data:`SECRET_BYTES` bytes of the exporter.

    Raises:
        ValueError: it is not as many.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"the words follow from {SECRET_BYTES} bytes, not {len(secret)}")
    # 256 bits, of which 82 are used: no word is more likely than another by more than 2**-170.
    rest = int.from_bytes(secret, "big")
    words = []
    for _ in range(COUNT):
        rest, place = divmod(rest, len(WORDS))
        words.append(WORDS[place])
    return tuple(words)
