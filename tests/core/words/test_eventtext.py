"""Sizes in words."""

from __future__ import annotations

import pytest

from p2pxfer.core.words.eventtext import human_size

KIB, MIB, GIB, TIB = (1 << power for power in (10, 20, 30, 40))


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1023.7, "1.0 KiB"),
        (KIB, "1.0 KiB"),
        (MIB - 60, "1023.9 KiB"),
        (MIB - 1, "1.0 MiB"),
        (MIB, "1.0 MiB"),
        (GIB - 1, "1.0 GiB"),
        (TIB - 1, "1.0 TiB"),
        (5000 * TIB, "5000.0 TiB"),
    ],
)
def test_no_size_is_1024_of_a_unit_that_has_a_next_one(size: float, text: str) -> None:
    assert human_size(size) == text
