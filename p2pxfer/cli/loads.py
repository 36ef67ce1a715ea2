"""What ``p2pxfer send`` can be given: files and directories, or standard input."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from p2pxfer.net.transfer.cargo import Cargo
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.outstream import StreamPump
from p2pxfer.net.transfer.pump import ChunkPump
from p2pxfer.net.transfer.source import Source
from p2pxfer.net.types import Reactor
from p2pxfer.status import Offer


class FileLoad:
    """Files and directories; ``home`` is where hashes of earlier runs are; ``delta``: send what differs from older
    versions that the receiver has.
    """

    def __init__(self, source: Source, home: Path, *, delta: bool = False) -> None:
        self._delta = delta
        self._source = source
        self._cache = HashCache(str(home), source.manifest, source.identity, time.time())

    @property
    def offer(self) -> Offer:
        """See :class:`~p2pxfer.cli.sending.Load`."""
        manifest = self._source.manifest
        names = tuple(manifest.top_names)
        return Offer(len(manifest.sizes), manifest.total_bytes, names, counting=not manifest.complete)

    @property
    def total(self) -> int:
        """See :class:`~p2pxfer.cli.sending.Load`."""
        return self._source.manifest.total_bytes

    @property
    def skipped(self) -> list[str]:
        """See :class:`~p2pxfer.cli.sending.Load`."""
        return self._source.skipped

    def cargo(self, reactor: Reactor, limit: int, counted: Callable[[], None]) -> Cargo:
        """See :class:`~p2pxfer.cli.sending.Load`."""
        return ChunkPump(reactor, self._source, self._cache, limit, counted, delta=self._delta)

    def close(self) -> None:
        """See :class:`~p2pxfer.cli.sending.Load`."""
        self._cache.close()
        self._source.close()


class StreamLoad:
    """What comes from a descriptor, under a name."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.offer = Offer(files=1, bytes=None, names=(name,))
        self.total = None
        self.skipped: list[str] = []
        self._descriptor = descriptor

    def cargo(self, reactor: Reactor, limit: int, counted: Callable[[], None]) -> Cargo:
        """See :class:`~p2pxfer.cli.sending.Load`; nothing is read before the receiver has taken it."""
        return StreamPump(reactor, self._descriptor, self.offer.names[0], limit)

    def close(self) -> None:
        """See :class:`~p2pxfer.cli.sending.Load`."""
