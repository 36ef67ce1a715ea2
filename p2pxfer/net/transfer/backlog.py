"""What comes for a transfer while something has to be settled first: kept in order, with the paths held."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.python.failure import Failure

from p2pxfer.errors import Incomplete, P2pxferError
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet


class Backlog:
    """The calls that wait; ``over`` tells that none matters any more, ``failed`` hears what cannot be settled."""

    def __init__(self, paths: PathSet, over: Callable[[], bool], failed: Callable[[Failure], None]) -> None:
        self._paths = paths
        self._over = over
        self._failed = failed
        self._waiting: list[tuple[PeerPath, Callable[[], None]]] | None = None

    def begin(self, path: PeerPath, call: Callable[[], None]) -> None:
        """From now on everything waits, this call for ``path`` first."""
        self._waiting = [(path, call)]

    def keeps(self, path: PeerPath, call: Callable[[], None]) -> bool:
        """Whether something is to be settled first; then the call for ``path`` waits."""
        if self._waiting is None:
            return False
        self._waiting.append((path, call))
        return True

    async def settle(self, work: Awaitable[None]) -> None:
        """Do what has to be settled, without reading more from the paths; then go on, however it ended."""
        holder = object()  # of its own: what a landing holds, it lets go when it is closed
        self._paths.hold(holder, True)
        try:
            try:
                await work
            finally:
                self._paths.hold(holder, False)
        except Exception:
            self._failed(Failure())
        finally:
            self.release()

    def release(self) -> None:
        """Go on: carry out what waited on paths that are still there, or refuse these if it is over."""
        waiting, self._waiting = self._waiting or [], None
        refused: set[int] = set()
        for path, call in waiting:
            number = path.facts.number
            if self._paths.get(number) is not path or number in refused:
                continue
            try:
                if self._over():
                    raise Incomplete("the transfer ended while this path waited")
                call()
            except P2pxferError as error:
                refused.add(number)
                path.refuse(error)
