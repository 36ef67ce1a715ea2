"""The search of a sending: what is to be sent is found page after page, while the first files go out already.

Laws of this file:

1. The reactor's thread waits for no disk: one thread looks for files, and looks up in the record of earlier runs.
2. A page is told with the hashes that the record has of it, so nothing that the receiver claims is read again.
3. The next page is looked for while one is looked up, and taken when that was told: what one thread does is told in
   order.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.source import Source
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker


class Search:
    """Grows the list of ``source`` until it is complete.

    ``grown(known, files)`` is told of a page: hashes that are known of its chunks, and how many files there were before
    it.  ``failed`` is told of the disk, or of a fault of the program.
    """

    def __init__(
        self,
        reactor: Reactor,
        source: Source,
        cache: HashCache,
        grown: Callable[[list[tuple[ChunkAddress, bytes]], int], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._source = source
        self._cache = cache
        self._grown = grown
        self._failed = failed
        self._scanner = Worker(reactor, "scanner")
        self._stopped = False

    def go_on(self) -> None:
        """Look for the next page, if there may be one."""
        if not self._stopped and not self._source.manifest.complete:
            finding = self._scanner.do(self._source.find)
            finding.addCallback(self._found)
            finding.addErrback(self._failed)

    def stop(self) -> Deferred[None]:
        """Tell nothing any more; fires when the thread has ended."""
        self._stopped = True
        return self._scanner.stop()

    def _found(self, found: tuple[bytes, bool]) -> None:
        if self._stopped:
            return
        files = len(self._source.manifest.sizes)
        self._source.take(*found)
        # The record may wait for a disk, and its hashes are to be there when the page is told.
        growing = self._scanner.do(self._cache.grow)
        growing.addCallback(self._looked_up, files)
        growing.addErrback(self._failed)
        self.go_on()

    def _looked_up(self, known: list[tuple[ChunkAddress, bytes]], files: int) -> None:
        if not self._stopped:
            self._grown(known, files)
