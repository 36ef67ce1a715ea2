"""Who waits for a peer that is not here: asked for now, introduced the moment it registers.

Laws of this table:

1. A connection waits for one peer at most, so its answers keep the order of its requests.
2. A wait has an end, and so many wait for one peer: whoever comes later is told at once that it is not here.
3. Whether what is waited for exists plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from p2pxfer.core.messages import Introduce


class _Wait(Struct, frozen=True):
    request: Introduce
    until: float


class Lookouts:
    """The table; ``per_peer`` connections may wait for one name or id."""

    def __init__(self, per_peer: int) -> None:
        self._per_peer = per_peer
        self._waits: dict[int, _Wait] = {}
        self._for: dict[str, dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def wait(self, conn: int, request: Introduce, until: float) -> bool:
        """Let a connection that does not wait yet wait for ``request.to``; False if too many do."""
        if len(self._for.get(request.to, {})) >= self._per_peer:
            return False
        self._for.setdefault(request.to, {})[conn] = None
        self._waits[conn] = _Wait(request, until)
        return True

    def leave(self, conn: int) -> bool:
        """The connection waits no more; False if it did not."""
        wait = self._waits.pop(conn, None)
        if wait is None:
            return False
        others = self._for[wait.request.to]
        del others[conn]
        if not others:
            del self._for[wait.request.to]
        return True

    def take(self, peers: Sequence[str]) -> list[tuple[int, Introduce]]:
        """Those who wait for one of these names and ids, longest first of each; they wait no more."""
        found = [(conn, self._waits[conn].request) for peer in peers for conn in self._for.get(peer, ())]
        for conn, _ in found:
            self.leave(conn)
        return found

    def expire(self, now: float) -> list[int]:
        """The connections that have waited long enough; they wait no more."""
        late = [conn for conn, wait in self._waits.items() if wait.until <= now]
        for conn in late:
            self.leave(conn)
        return late
