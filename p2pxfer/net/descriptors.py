"""How many files and sockets this process may have open."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

_DESCRIPTORS: Final = 65_536
"""Open files that are asked for, where the hard limit allows it."""


def raise_descriptor_limit() -> None:
    """Let this process open as many files as it is allowed to, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems allow less than they say.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
