"""What the tests of the registry and of its parts share."""

from __future__ import annotations

import pytest

from tests.core.server.registryworld import World


@pytest.fixture
def world() -> World:
    return World()
