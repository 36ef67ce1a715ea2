"""Rates and sizes as people write them: a number and K, M or G, the powers of 1024."""

from __future__ import annotations

import re
from typing import Final

from p2pxfer.errors import UsageError

MIN_RATE: Final = 1024
"""Least limit, bytes a second."""
_AMOUNT: Final = r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([kmg]?)(?:i?b)?"
_SIZE: Final = re.compile(_AMOUNT, re.IGNORECASE)
_RATE: Final = re.compile(_AMOUNT + "(?:/s)?", re.IGNORECASE)


def parse_rate(text: str) -> int:
    """Bytes a second, as in ``800K``, ``2.5M`` or ``1G``.

    Raises:
        UsageError: it is no rate, or less than :data:`MIN_RATE`.
    """
    rate = _bytes_in(_RATE, text)
    if rate is None:
        raise UsageError("a rate is a number of bytes a second, such as 800K or 2.5M")
    if not MIN_RATE <= rate < 2**63:
        raise UsageError(f"the least rate is {MIN_RATE} bytes a second")
    return rate


def parse_size(text: str) -> int | None:
    """Bytes, as in ``800K``, ``2.5M`` or ``1G``; ``None`` if it is no size."""
    return _bytes_in(_SIZE, text)


def _bytes_in(kind: re.Pattern[str], text: str) -> int | None:
    found = kind.fullmatch(text.strip())
    if found is None:
        return None
    return int(float(found[1]) * 1024 ** ("kmg".find(found[2].lower()) + 1 if found[2] else 0))
