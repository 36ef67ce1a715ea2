"""Fixtures of the lab tests, and the rule when they may be left out.

They are skipped where namespaces are not to be had (not Linux, not root). Where they are, a
missing tool is an error: a silent skip would hide that nothing was tested.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import namespaces
from tests.lab.topology import Lab

LabFactory = Callable[..., Lab]

_HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "lab: needs root and Linux network namespaces")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder; the hook also sees those of other folders."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session", autouse=True)
def lab_tools() -> None:
    """Skip without Linux or root; fail without the tools. Removes what a killed run left."""
    if sys.platform != "linux":
        pytest.skip("the NAT lab needs Linux network namespaces")
    if os.geteuid() != 0:
        pytest.skip("the NAT lab needs root to make network namespaces")
    missing = sorted({pack for tool, pack in namespaces.TOOLS.items() if not shutil.which(tool)})
    if missing:
        pytest.fail(f"the NAT lab needs: apt-get install {' '.join(missing)}", pytrace=False)
    namespaces.cleanup_stale()


@pytest.fixture
def lab_factory() -> Iterator[LabFactory]:
    """Return a function that builds a lab from the arguments of `Lab`; all are removed in the end."""
    with contextlib.ExitStack() as stack:

        def build(*args: object, **kwargs: object) -> Lab:
            return stack.enter_context(Lab(*args, **kwargs))  # type: ignore[arg-type]  # as Lab's

        yield build
