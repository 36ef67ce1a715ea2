"""Why files were left out of a sending, and what is said of that at its end."""

from __future__ import annotations

from collections.abc import Sequence

from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.words.lefttext import left_out_error
from p2pxfer.errors import P2pxferError, SourceUnreadable
from p2pxfer.net.disk import shown


class LeftFiles:
    """The files of ``manifest`` that could not be read as they were listed."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._errors: dict[int, P2pxferError] = {}
        self.paths: tuple[str, ...] = ()
        """Those that are left out of what the receiver has published, once it has."""
        self.error: P2pxferError | None = None
        """What is to be said of these; ``None`` if there are none."""

    def add(self, file: int, error: P2pxferError) -> None:
        """This one could not be read, for the first time or again."""
        self._errors.setdefault(file, error)

    @property
    def first(self) -> P2pxferError:
        """The error of the first one that could not be read."""
        return next(iter(self._errors.values()))

    def published(self, files: Sequence[int]) -> None:
        """The receiver has published everything but these files."""
        self.paths = tuple(self._manifest.files[file].path for file in files)
        if files:
            why = self._errors.get(files[0]) or self._earlier(self.paths[0])
            self.error = left_out_error(why, self.paths)

    @staticmethod
    def _earlier(path: str) -> SourceUnreadable:
        return SourceUnreadable(f"{shown(path)} could not be sent in an earlier run; ")
