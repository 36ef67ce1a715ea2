"""What is refused before a receiver begins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p2pxfer.cli.receive import check_destination
from p2pxfer.errors import DiskError, UsageError


def test_a_destination_is_checked_before_a_code_is_shown(tmp_path: Path) -> None:
    check_destination(str(tmp_path))
    with pytest.raises(UsageError, match="does not exist"):
        check_destination(str(tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not a directory"):
        check_destination(str(tmp_path / "file"))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_destination_that_cannot_hold_anything_is_refused_too() -> None:
    """The superuser may write there, as far as its mode goes."""
    with pytest.raises(DiskError, match="/proc is on a file system that holds no data"):
        check_destination("/proc")
