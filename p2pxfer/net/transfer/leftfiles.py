"""Why files were left out of a sending, and what is said of that at its end."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.words.lefttext import left_out_error, what_happened
from p2pxfer.errors import P2pxferError, SourceUnreadable
from p2pxfer.net.disk import shown
from p2pxfer.net.transfer.cargo import Left


class LeftFiles:
    """The files of ``manifest`` that could not be read as they were listed."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._errors: dict[int, P2pxferError] = {}
        self._published = Left()

    def add(self, file: int, error: P2pxferError) -> None:
        """This one could not be read, for the first time or again."""
        self._errors.setdefault(file, error)

    def too_many(self) -> P2pxferError:
        """What ends the sending, where not enough is left of it."""
        first, *others = self._errors.values()
        if not others:
            return first
        return type(first)(
            f"{what_happened(first)}, and so it is with {len(others)} more files; run the command again to go on"
        )

    def of(self, files: Sequence[int]) -> Left:
        """What to say of these, which are left out."""
        return structs.replace(self._published, size=sum(self._manifest.sizes[file] for file in files))

    def published(self, files: Sequence[int]) -> None:
        """The receiver has published everything but these files."""
        paths = tuple(self._manifest.files[file].path for file in files)
        if files:
            why = self._errors.get(files[0]) or self._earlier(paths[0])
            self._published = Left(0, paths, left_out_error(why, paths))

    @staticmethod
    def _earlier(path: str) -> SourceUnreadable:
        return SourceUnreadable(f"{shown(path)} could not be sent in an earlier run; ")
