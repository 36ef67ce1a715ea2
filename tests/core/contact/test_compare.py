from __future__ import annotations

import hashlib
import math

import pytest

from p2pxfer.core.contact.compare import COUNT, context, words_of
from p2pxfer.core.contact.wordlist import WORDS


def test_the_words_are_eight_and_say_at_least_eighty_bits() -> None:
    assert COUNT * math.log2(len(WORDS)) >= 80
    assert words_of(bytes(32)) == ("acid",) * 8
    assert words_of((1).to_bytes(32, "big")) == ("acorn", *("acid",) * 7)


def test_other_keying_material_gives_other_words() -> None:
    rows = {words_of(hashlib.sha256(bytes([number])).digest()) for number in range(256)}
    assert len(rows) == 256
    # Every place varies.
    assert all(len({row[place] for row in rows}) > 200 for place in range(COUNT))


def test_the_context_has_both_keys_in_their_roles() -> None:
    one, other = bytes(32), bytes([1]) * 32
    assert len({context(one, other), context(other, one), context(one, one)}) == 3


def test_less_keying_material_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        words_of(bytes(31))
