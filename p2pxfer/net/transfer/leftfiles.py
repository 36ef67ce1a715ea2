"""Why files were left out of a sending, and what is said of that at its end."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.errors import DiskError, P2pxferError
from p2pxfer.net.disk import shown


class LeftFile(Struct, frozen=True):
    """A file that the receiver does not get: its path in the list, its size in bytes, and why."""

    path: str
    size: int
    why: str


class LeftFiles:
    """The files of ``manifest`` that could not be read as they were listed."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._errors: dict[int, P2pxferError] = {}
        self.told: list[LeftFile] = []
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
        errors = [self._errors.get(file) or self._earlier(file) for file in files]
        self.told = [
            LeftFile(self._manifest.files[file].path, self._manifest.sizes[file], _reason(error))
            for file, error in zip(files, errors, strict=True)
        ]
        if errors:
            others = f", with {len(files) - 1} more" if len(files) > 1 else ""
            self.error = type(errors[0])(
                f"{self.told[0].why}, so it was left out{others}; everything else arrived;"
                " send what is missing again by itself"
            )

    def _earlier(self, file: int) -> DiskError:
        return DiskError(f"{shown(self._manifest.files[file].path)} could not be sent in an earlier run; ")


def _reason(error: P2pxferError) -> str:
    """What happened, without what to do."""
    return error.message.rpartition("; ")[0]
