"""What ``p2pxfer send`` is given: files and directories."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from p2pxfer.net.transfer.cargo import Cargo
from p2pxfer.net.transfer.hashcache import HashCache
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

    @property
    def lacking(self) -> list[str]:
        """See :class:`~p2pxfer.cli.sending.Load`."""
        return self._source.lacking

    def cargo(self, reactor: Reactor, limit: int, counted: Callable[[], None]) -> Cargo:
        """See :class:`~p2pxfer.cli.sending.Load`."""
        return ChunkPump(reactor, self._source, self._cache, limit, counted, delta=self._delta)

    def close(self) -> None:
        """See :class:`~p2pxfer.cli.sending.Load`."""
        self._cache.close()
        self._source.close()
