"""Names at the server that commands take by themselves: each follows from the key of the machine that waits under it.

==============================  =============================================================================
name                            who waits there
==============================  =============================================================================
``pair-`` place                 ``pair``, for whoever enters the code (:mod:`p2pxfer.core.contact.pairplace`)
``pipe-``, ``chat-`` id         the same command of one peer (:func:`common_name`)
``svc-`` digest                 ``expose``, for the users of one service (:func:`waiting_name`)
==============================  =============================================================================

Law: who does not know the key cannot say whose name it is, but the server, which knows it, can say that it is not
somebody else's (:func:`follows_from`).  The name of a service is the exception, since the server never learns which
service it is: any name of its form passes.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode
from typing import Final

from p2pxfer.core.ids import PREFIX, PeerId
from p2pxfer.core.names import MAX_CHARS

PLACES: Final = range(10_000, 100_000)
PLACES_EACH: Final = 8
"""So many places follow from one key; the later ones are for where others have the first."""
_ID_CHARS_LEAST: Final = 16
"""Of a name that shows a part of an id: with fewer, other people's words would pass for one."""
_SERVICE_FORM: Final = re.compile(r"svc-[a-z2-7]{28}")


def place_of(key: bytes, attempt: int) -> int:
    """A place of the machine with this key (SHA-256 of its SPKI); ``attempt`` counts those that others have."""
    digest = hashlib.sha256(b"p2pxfer-place" + bytes([attempt]) + key).digest()
    return PLACES[int.from_bytes(digest[:8], "big") % len(PLACES)]


def name_of(place: int) -> str:
    """The name under which somebody waits at a place."""
    return f"pair-{place}"


def common_name(purpose: str, key: bytes) -> str:
    """The name under which the peer with this key waits for somebody who runs the same program."""
    return (f"{purpose}-" + str(PeerId(key)).replace("-", "")[len(PREFIX) :])[:MAX_CHARS]


def waiting_name(key: bytes, service: str) -> str:
    """The name at the server under which the machine with this key waits for users of ``service``.

    It is different for each service, so several programs of one machine can expose one each, and says to nobody but
    who knows both what it stands for.
    """
    digest = hashlib.sha256(b"p2pxfer service\0" + key + service.encode()).digest()
    return ("svc-" + b32encode(digest).decode().lower())[:MAX_CHARS]


def follows_from(key: bytes, name: str) -> bool:
    """True if a command of the machine with this key may take ``name`` by itself; any text will do."""
    purpose, _, rest = name.partition("-")
    if len(rest) >= _ID_CHARS_LEAST and name == common_name(purpose, key):
        return True
    if _SERVICE_FORM.fullmatch(name) is not None:
        return True
    return any(name == name_of(place_of(key, attempt)) for attempt in range(PLACES_EACH))
