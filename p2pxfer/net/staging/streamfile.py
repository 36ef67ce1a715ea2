"""A stream as a new file: written in a private directory of the destination, then put under a free name at once.

Laws:

- Nothing appears under a final name before all of it came, its hash was compared and it is durable.  Nothing is
  replaced.
- What is not whole is removed; what a killed process left is removed by the next one that stores a stream here.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from blake3 import blake3

from p2pxfer.core.transfer.pathrules import STAGING_PREFIX, collision_key
from p2pxfer.core.transfer.streams import check_end
from p2pxfer.errors import ConfigError, DiskError
from p2pxfer.net.disk import OPEN_DIRECTORY, OPEN_INNER_FILE, disk_error, rename_new, shown, write_all
from p2pxfer.net.private.privatedir import enter
from p2pxfer.net.staging.publishing import free_names
from p2pxfer.net.staging.trouble import destination_gone, is_removed

_MARK: Final = STAGING_PREFIX + "stream-"
_OURS: Final = re.compile(re.escape(_MARK) + "[0-9a-f]{16}")
_DATA: Final = b"data"
_ADVICE: Final = "what arrived is dropped; repair that, and let the sender send it again"
_ABROAD: Final = "what arrived is dropped; send it again when that is repaired"


class StreamFile:
    """A file to be called ``name``, or as near to it as is free, in ``destination``.

    Raises:
        NoSpace: the disk is full, here and in every method.
        DiskError: the disk refused, likewise.
    """

    def __init__(self, destination: str, name: str) -> None:
        self._destination_path = destination
        self._name = name
        self._hash = blake3()
        self._size = 0
        self._destination = self._home = self._file = -1
        try:
            self._destination = os.open(os.fsencode(destination), OPEN_DIRECTORY)
        except OSError as error:
            raise self._said(error, f"opening the directory {shown(destination)}") from error
        self._own = _MARK + os.urandom(8).hex()
        try:
            remove_left_over(self._destination)
            self._home = enter(self._destination, self._own, self._where, lambda: None)
            self._file = os.open(_DATA, os.O_RDWR | os.O_CREAT | OPEN_INNER_FILE, 0o666, dir_fd=self._home)
        except OSError as error:
            self.discard()
            raise self._said(error, f"preparing the directory {shown(destination)}") from error

    def _said(self, error: OSError, what: str) -> DiskError:
        # Of what this program alone has made here nothing else is missing.
        if error.errno == errno.ENOENT and (self._destination < 0 or is_removed(self._destination)):
            return destination_gone(self._destination_path, ", and what had arrived with it" if self._size else "")
        return disk_error(error, what, _ADVICE, _ABROAD)

    @property
    def _where(self) -> str:
        return str(Path(self._destination_path, self._own))

    def write(self, pieces: list[bytes | bytearray | memoryview]) -> int:
        """See :class:`~p2pxfer.net.transfer.places.Sink`."""
        written = 0
        for piece in pieces:
            try:
                write_all(self._file, memoryview(piece), self._size)
            except OSError as error:
                raise self._said(error, f"writing {shown(self._name)}") from error
            self._hash.update(piece)
            self._size += len(piece)
            written += len(piece)
        return written

    def finish(self, digest: bytes) -> tuple[bytes, list[str]]:
        """See :class:`~p2pxfer.net.transfer.places.Sink`; everything is durable then.

        Raises:
            Damaged: something else came than was sent.
        """
        own = self._hash.digest()
        check_end(digest, own)
        try:
            os.fsync(self._file)
            final = self._publish()
            os.fsync(self._destination)
        except OSError as error:
            raise self._said(error, f"publishing {shown(self._name)}") from error
        self.discard()
        return own, [final]

    def _publish(self) -> str:
        taken = {collision_key(name) for name in os.listdir(self._destination)}  # noqa: PTH208  # a descriptor
        for final in free_names(self._name, is_file=True):
            if collision_key(final) in taken:
                continue
            with suppress(FileExistsError):
                rename_new(self._home, _DATA, self._destination, final.encode())
                return final
        raise DiskError.plain(f"no free name is left for {shown(self._name)}; move some files away and send it again")

    def discard(self) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Sink`; may be called again."""
        for fd in (self._file, self._home):
            if fd >= 0:
                if fd == self._home:
                    _remove(self._destination, self._own.encode(), fd)
                os.close(fd)
        if self._destination >= 0:
            os.close(self._destination)
        self._file = self._home = self._destination = -1


def remove_left_over(destination: int) -> None:
    """Remove what killed processes left of streams in this directory, as far as it can be."""
    for name in filter(_OURS.fullmatch, os.listdir(destination)):  # a descriptor
        with suppress(OSError, ConfigError, DiskError):  # another process is at work there, or it is not ours
            fd = enter(destination, name, name, lambda: None)
            try:
                _remove(destination, name.encode(), fd)
            finally:
                os.close(fd)


def _remove(destination: int, name: bytes, fd: int) -> None:
    with suppress(OSError):
        os.unlink(_DATA, dir_fd=fd)
    with suppress(OSError):
        os.rmdir(name, dir_fd=destination)
