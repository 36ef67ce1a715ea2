"""Every test of this folder is checked for what it leaves in the reactor, the synchronous ones too."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; the hook also sees those of other folders."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.on_reactor)
