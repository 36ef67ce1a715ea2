"""What a transfer that is being received tells its sender of older versions."""

from __future__ import annotations

from p2pxfer.core.session.deltawire import BLOCK_HASH, HASHES_PER_MESSAGE, Basis, Older, WantBasis
from p2pxfer.core.session.transferwire import Listed
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.errors import ProtocolBreach
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer.oldversions import OldVersions
from p2pxfer.net.worker import Worker


class Rebuilding:
    """Laws: each page is told of behind its answer, and a path is told once the hashes of each file that was named.
    What was named stays named while it is on the list, whatever has become of the older version.
    """

    def __init__(self, worker: Worker, paths: PathSet, manifest: Manifest, older: OldVersions) -> None:
        self._worker = worker
        self._paths = paths
        self._manifest = manifest
        self._older = older
        self._named: dict[int, list[int]] = {}
        self._files: set[int] = set()
        self._told: set[tuple[int, int]] = set()
        self._renewed = self._kept = 0

    def renew(self, older: OldVersions) -> None:
        """The list goes on in another way behind the pages that the manifest has now; ``older`` are looked at from now
        on.
        """
        pages, files = self._manifest.pages, len(self._manifest.sizes)
        self._older = older
        self._named = {page: named for page, named in self._named.items() if page < pages}
        self._files = {file for file in self._files if file < files}
        self._told = {(path, file) for path, file in self._told if file < files}
        self._renewed, self._kept = self._renewed + 1, pages

    async def announce(self, path: PeerPath, listed: Listed) -> None:
        """Of which files on this page there are older versions."""
        page = listed.page
        if page not in self._named:
            first, stop = self._manifest.files_before(page), self._manifest.files_before(page + 1)
            renewed = self._renewed
            found = await self._worker.do(self._older.look, range(first, stop))
            if renewed != self._renewed and page >= self._kept:
                return
            self._named[page] = found
            self._files.update(found)
        if self._paths.get(path.facts.number) is path:
            path.send(Older(handle=listed.handle, page=page, files=self._named[page]))

    def check(self, path: int, want: WantBasis) -> None:
        """Whether the hashes of the blocks of an older version may be wanted on ``path``; once.

        Raises:
            ProtocolBreach: it was not named, or told on this path before.
        """
        if want.file not in self._files or (path, want.file) in self._told:
            raise ProtocolBreach("an older version is wanted that was not named, or twice")
        self._told.add((path, want.file))

    async def tell(self, path: PeerPath, want: WantBasis) -> None:
        """Cut the older version, and tell its hashes if the path is still there."""
        average, hashes = await self._worker.do(self._older.sign, want.file)
        piece = HASHES_PER_MESSAGE * BLOCK_HASH
        for at in range(0, max(1, len(hashes)), piece):
            if self._paths.get(path.facts.number) is not path:
                return
            part, last = hashes[at : at + piece], at + piece >= len(hashes)
            path.send(Basis(handle=want.handle, file=want.file, average=average, hashes=part, last=last))
