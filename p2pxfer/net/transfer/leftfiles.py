"""Why files were left out of a sending, and what is said of that at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        what = f"{what_happened(first)}, and so it is with {len(others)} more files"
        return type(first)(f"{what}; run the command again to go on", what)

    def of(self, files: Sequence[int]) -> Left:
        """What to say of these, which are left out."""
        size = sum(self._manifest.sizes[file] for file in files)
        return structs.replace(self._published, files=len(files), size=size)

    def published(self, files: Sequence[int], denied: Mapping[str, P2pxferError]) -> None:
        """The receiver has published everything but these files, and what was not listed since it may not be read."""
        paths = tuple(self._manifest.files[file].path for file in files)
        errors = [self._errors.get(file) or self._earlier(path) for file, path in zip(files, paths, strict=True)]
        if paths := (*paths, *denied):
            why = [*errors, *denied.values()][0]
            self._published = Left(paths=paths, error=left_out_error(why, paths))

    @staticmethod
    def _earlier(path: str) -> SourceUnreadable:
        return SourceUnreadable(f"{shown(path)} could not be sent in an earlier run; ")
