"""Registered names: the short names under which peers find each other at a rendezvous server.

Law: a name is 3 to 32 characters from `a-z`, `0-9`, `.`, `_` and `-`, and begins and ends with a letter or digit.
On the wire nothing is corrected: a name either obeys the rule or is refused. Only text typed by a person passes
through `normalise_name` first. No name has a special meaning (`con`, `nul` and the like are plain names), so a name
must never be used as a file name by itself.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from p2pxfer.core.ids import PREFIX
from p2pxfer.core.text import safe_text
from p2pxfer.errors import NameInvalid

MIN_CHARS: Final = 3
MAX_CHARS: Final = 32

_RULE: Final = re.compile(r"[a-z0-9][a-z0-9._-]*[a-z0-9]")
_NOT_ALLOWED: Final = re.compile(r"[^a-z0-9._-]+")
ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""For ``str.translate``: no other letter becomes one of ASCII by it, as some do by ``str.lower``."""
_EDGES: Final = "._-"
_FALLBACK: Final = "peer"
_LIKE_ID: Final = f"{PREFIX}-"


def check_name(text: str) -> str:
    """`text` itself if it is a legal name, else raises `NameInvalid`."""
    if not MIN_CHARS <= len(text) <= MAX_CHARS or _RULE.fullmatch(text) is None:
        raise NameInvalid(
            f"'{safe_text(text, MAX_CHARS)}' is no name: a name consists of {MIN_CHARS} to {MAX_CHARS} of the letters a"
            " to z, digits, '.', '_' and '-', and begins and ends with a letter or digit"
        )
    return text


def check_contact_name(text: str) -> str:
    """`text` itself if a contact may be called so, else raises `NameInvalid`.

    What begins like an id is taken for one wherever a peer is named.
    """
    if text.startswith(_LIKE_ID):
        raise NameInvalid(f"a name does not begin with {_LIKE_ID}, as ids do")
    return check_name(text)


def normalise_name(text: str) -> str:
    """Typed text as a name: outer white space removed, ASCII letters in lower case, then checked.

    Letters outside ASCII stay as they are and are refused: some of them have an ASCII lower case form and would
    turn into a different name unseen. Raises `NameInvalid`.
    """
    return check_name(text.strip().translate(ASCII_LOWER))


def suggest_name(username: str) -> str:
    """A legal name that resembles `username`; works for any text and never raises."""
    base = unicodedata.normalize("NFKD", username)
    base = "".join(character for character in base if not unicodedata.combining(character))
    base = _NOT_ALLOWED.sub("-", base.translate(ASCII_LOWER)).strip(_EDGES)
    base = base[:MAX_CHARS].rstrip(_EDGES)
    if not base:
        return _FALLBACK
    return base if len(base) >= MIN_CHARS else f"{base}-{_FALLBACK}"


def suggest_contact_name(peer_name: str) -> str:
    """What to call a contact that calls itself `peer_name`; never raises."""
    name = suggest_name(peer_name)
    return suggest_name(f"{_FALLBACK}-{name}") if name.startswith(_LIKE_ID) else name
