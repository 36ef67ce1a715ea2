"""What tests of disks share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.disk_tools import open_fds


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """An empty directory to receive into."""
    where = tmp_path / "dest"
    where.mkdir()
    return where


@pytest.fixture
def no_descriptor_is_lost() -> Iterator[None]:
    """The test closes every file that it opened."""
    before = open_fds()
    yield
    assert open_fds() == before
