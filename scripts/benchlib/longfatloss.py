"""The long fat line of :mod:`scripts.benchlib.longfat` with losses."""

from __future__ import annotations

from collections.abc import Iterable

from scripts.benchlib.longfat import LINE, Line, measure
from scripts.benchlib.table import Failed, Row, Setting

LOSS = 0.005
LEAST = 0.85


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """The rows."""
    return measure(setting, Line(f"{LINE}, {LOSS:.1%} loss", LOSS, LEAST))
