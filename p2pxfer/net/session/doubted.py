"""Paths that lead through a NAT which has just lost another one: they may be dead, and nobody can tell yet.

Laws:

- They stay until another path stands, since nothing is gained by ending them before; then they go at once, for what is
  stuck in them goes over that one.
- Only the last loss counts: what is doubted then is all that was up at that moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2pxfer.errors import Unreachable
from p2pxfer.net.session.path import PeerPath

REPLACED: Final = "another connection has replaced it"


class Doubted:
    """Those of one peer; true if there are any."""

    def __init__(self) -> None:
        self._paths: frozenset[PeerPath] = frozenset()

    def __bool__(self) -> bool:
        return bool(self._paths)

    def doubt(self, paths: Iterable[PeerPath]) -> None:
        """The NAT before all of these has lost another one."""
        self._paths = frozenset(paths)

    def lost(self, path: PeerPath) -> None:
        """The path is gone."""
        self._paths -= {path}

    def drop(self) -> None:
        """Another path stands."""
        paths, self._paths = self._paths, frozenset()
        for path in paths:
            path.fail(Unreachable(REPLACED))
