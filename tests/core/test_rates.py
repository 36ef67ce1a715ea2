"""Rates and sizes as people write them."""

from __future__ import annotations

import pytest

from p2pxfer.core.rates import parse_rate, parse_size
from p2pxfer.errors import UsageError


@pytest.mark.parametrize(
    ("text", "rate"),
    [("800K", 800 << 10), (" 2.5m/s ", 5 << 19), ("1GiB/S", 1 << 30), ("4096", 4096)],
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "5M /s", "5M/s/s", "5 M", "-5M", "5T", "1000"])
def test_no_rates(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rate(text)


def test_a_size_is_no_rate() -> None:
    assert parse_size("1.5M") == 3 << 19
    assert parse_size("5M/s") is parse_size("all") is None
