"""One-time codes as text: `<slot>-<word>-<word>-<word>`, for example `7-acorn-tulip-zebra`.

The slot is public and says which of the inviter's open codes is meant. The three words are the secret: 1,296**3
possibilities, 31 bits, which is enough for a single guess and for nothing else (see `p2pxfer.core.contact.pairing`).

Laws:

- `parse_code(str(code)) == code`, and a code has one text: no leading zeros, no capitals, no white space.
- `parse_code` raises `CodeInvalid` or returns; a malformed code is refused before any network traffic.
- The words never appear in a `repr` or in an error message, so neither a log nor a traceback shows them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from p2pxfer.core.contact.wordlist import WORD_SET, WORDS
from p2pxfer.core.names import ASCII_LOWER
from p2pxfer.errors import CodeInvalid

WORDS_PER_CODE: Final = 3
MAX_SLOT: Final = 999_999_999
RANDOM_BYTES: Final = 32

_FORM: Final = re.compile(r"([0-9]{1,9})-([a-z]{1,16})-([a-z]{1,16})-([a-z]{1,16})")
_WITHIN: Final = re.compile(r"(?<![a-z0-9-])[0-9]{1,9}(?:-[a-z]{1,16}){3}(?![a-z0-9-])")
"""A code with its dashes, in a line that says more, such as the command that a machine shows with it."""
_AROUND: Final = " \t\r\n\v\f\u00a0,;:."
_BETWEEN: Final = re.compile(rf"[{_AROUND}_/\u2010-\u2015\u2212-]+")
"""What people and word processors put between words that were read out to them."""
_DRAW_BYTES: Final = 2
_DRAW_LIMIT: Final = 2**16 - 2**16 % len(WORDS)


@dataclass(frozen=True, slots=True)
class Code:
    """A well-formed code. Raises `CodeInvalid` if made from anything else."""

    slot: int
    words: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.slot <= MAX_SLOT:
            raise CodeInvalid(f"the number of a code lies between 1 and {MAX_SLOT}")
        if len(self.words) != WORDS_PER_CODE:
            raise CodeInvalid(f"a code has {WORDS_PER_CODE} words")
        for place, word in enumerate(self.words, start=1):
            if word not in WORD_SET:
                raise CodeInvalid(f"word {place} of the code is not in the word list")

    @property
    def secret(self) -> str:
        """The part both sides must know: the words with dashes between them."""
        return "-".join(self.words)

    def __str__(self) -> str:
        return f"{self.slot}-{self.secret}"


def parse_code(text: str) -> Code:
    """The code that `text` spells exactly; raises `CodeInvalid` for anything else."""
    form = _FORM.fullmatch(text)
    if form is None or form[1].startswith("0"):
        raise CodeInvalid("a code is a number and three words with dashes, as in 7-acorn-tulip-zebra")
    return Code(int(form[1]), (form[2], form[3], form[4]))


def normalise_code(text: str) -> str:
    """Typed text as a code is written: one dash for what may stand between words, ASCII letters in lower case.

    For the command line only.  No word holds any of these characters, so it stays clear what was meant.
    """
    return _BETWEEN.sub("-", text.strip(_AROUND)).translate(ASCII_LOWER)


def typed_code(text: str) -> Code:
    """The code that a person typed, or pasted with the line that it stands in; raises `CodeInvalid` if it is none.

    No more than 200 characters count.
    """
    text = text[:200]
    within = set(_WITHIN.findall(text.translate(ASCII_LOWER)))
    return parse_code(within.pop() if len(within) == 1 else normalise_code(text))


def make_code(slot: int, random_bytes: bytes) -> Code:
    """A code with words drawn from `random_bytes` (`RANDOM_BYTES` of them), each word equally likely.

    Two bytes make one draw; a draw of 64,800 or more is thrown away, as it would favour the first words. Raises
    `ValueError` if the bytes run out: with 32 random bytes that happens once in about 10**25 calls.
    """
    drawn: list[str] = []
    for at in range(0, len(random_bytes) - _DRAW_BYTES + 1, _DRAW_BYTES):
        value = int.from_bytes(random_bytes[at : at + _DRAW_BYTES], "big")
        if value < _DRAW_LIMIT:
            drawn.append(WORDS[value % len(WORDS)])
        if len(drawn) == WORDS_PER_CODE:
            return Code(slot, tuple(drawn))
    raise ValueError("not enough random bytes for a code")
