"""A directory as the place that a receiver receives into."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.pathrules import check_dangerous
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.net.disk import OPEN_DIRECTORY
from p2pxfer.net.staging.owning import EVERYBODYS
from p2pxfer.net.staging.partials import partial_trees
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.staging.streamfile import StreamFile
from p2pxfer.net.transfer.oldversions import OldVersions
from p2pxfer.net.transfer.places import Place, Sink, Storage


class Folder:
    """The directory ``shown``, as a :class:`~p2pxfer.net.transfer.places.Place`.

    ``owner``: the digest of the identity that receives, whose unfinished transfers there are kept for it alone.
    """

    def __init__(self, shown: str, owner: bytes = EVERYBODYS) -> None:
        self.shown = shown
        self.owner = owner
        self._home: bool | None = None
        """Whether it was a home directory when a first page was looked at."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and other.shown == self.shown

    def __hash__(self) -> int:
        return hash(self.shown)

    def check(self, manifest: Manifest, page: int) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Place`.

        Of the pages behind the first one there are hundreds, in the reactor's thread: they ask the disk nothing.
        """
        if self._home is None or page == 0:
            self._home = is_home(self.shown)
        if self._home:
            check_dangerous((entry.path for entry in manifest.entries_of(page)), destination_is_home=True)

    def open(self, sender: bytes, manifest: Manifest, announced: Announced, relisted: bool) -> Storage:
        """See :class:`~p2pxfer.net.transfer.places.Place`."""
        return Staging.open(self.shown, sender, manifest, announced=announced, relisted=relisted, owner=self.owner)

    def older(self, sender: bytes, manifest: Manifest, asked: bool) -> OldVersions | None:
        """See :class:`~p2pxfer.net.transfer.places.Place`: in the directory, and partial ones that came from this
        sender."""
        roots = partial_trees(self.shown, sender, manifest.transfer_id, self.owner)
        if asked:
            with suppress(OSError):
                roots.insert(0, os.open(os.fsencode(self.shown), OPEN_DIRECTORY))
        return OldVersions(manifest, roots) if roots else None

    def check_stream(self, name: str) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Place`."""
        check_dangerous([name], is_home(self.shown))

    def open_stream(self, name: str) -> Sink:
        """See :class:`~p2pxfer.net.transfer.places.Place`."""
        return StreamFile(self.shown, name)


def is_home(directory: str) -> bool:
    """Whether files would land in a user's home directory, where some names are run or trusted."""
    try:
        return Path(directory).resolve() == Path.home().resolve()
    except (OSError, RuntimeError):
        return False


def directory_of(place: Place) -> str | None:
    """The whole path of where things are put, for people; ``None`` where that is no directory."""
    if not isinstance(place, Folder):
        return None
    try:
        return str(Path(place.shown).absolute())
    except OSError:  # the current directory is gone
        return place.shown
