"""The one way from a foreign string to a screen or a log.

Names, reasons, notices and paths that came from a peer or a server can carry escape sequences, line breaks, text
direction controls or invisible letters. `safe_text` writes all of these out.

Laws:

- The result consists of printable characters only (`str.isprintable`), on one line, at most `limit` of them.
- Printable text comes back as it is; so the result is for eyes only and is not to be parsed back.
- The time needed depends on `limit`, not on the length of the input.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

DEFAULT_LIMIT: Final = 1024
ELLIPSIS: Final = "..."
_PATH_LIMIT: Final = 300

# More marks than this on one letter grow over the neighbouring lines.
_MARKS_PER_LETTER: Final = 4

# Letters, marks and symbols that count as printable but show nothing at all (fillers, blank patterns, joiners and
# variation selectors): with them two different names look the same.
_INVISIBLE: Final = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2800, 0x2800),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)


def safe_text(text: str, limit: int = DEFAULT_LIMIT) -> str:
    r"""`text` made harmless to print, cut to `limit` characters of output.

    Controls (Cc), formats and direction controls (Cf), lone surrogates (Cs), private (Co) and unassigned (Cn)
    characters, line and paragraph separators (Zl, Zp), spaces other than the ASCII one (Zs) and invisible letters
    become `\xNN`, `\uNNNN` or `\UNNNNNNNN`. A mark with no letter before it, or beyond the fourth on one
    letter, is written out as well. Cut text ends in "...". Raises `ValueError` if `limit` is below 3.
    """
    if limit < len(ELLIPSIS):
        raise ValueError(f"the limit must be at least {len(ELLIPSIS)}")
    pieces: list[str] = []
    total = 0
    marks = _MARKS_PER_LETTER
    for character in text:
        piece = character
        if unicodedata.category(character).startswith("M"):
            marks += 1
        else:
            marks = 0
        if not character.isprintable() or character in _INVISIBLE or marks > _MARKS_PER_LETTER:
            piece = _escape(character)
        pieces.append(piece)
        total += len(piece)
        if total > limit:
            return _cut(pieces, total, limit)
    return "".join(pieces)


def path_text(path: object) -> str:
    """A path for a sentence: harmless and not too long."""
    return safe_text(str(path), _PATH_LIMIT)


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _cut(pieces: list[str], total: int, limit: int) -> str:
    """The pieces that leave room for the ellipsis; an escape is kept whole or dropped whole."""
    while total > limit - len(ELLIPSIS):
        total -= len(pieces.pop())
    return "".join(pieces) + ELLIPSIS


def few_of(names: Sequence[str], most: int = 3) -> str:
    """The first of some foreign names, each harmless and short, for a line that says more than these."""
    return ", ".join(safe_text(name, 60) for name in names[:most]) + (f" {ELLIPSIS}" if len(names) > most else "")
