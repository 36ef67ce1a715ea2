"""Every test of this folder is checked for what it leaves in the reactor, the synchronous ones too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.disk_tools import open_fds

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; the hook also sees those of other folders."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.on_reactor)


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
