"""What becomes of errors of the disk in a staging place: sentences with advice, and whether it can be used any more."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from p2pxfer.errors import DiskError, NoMemory, NoSpace, P2pxferError, is_no_memory
from p2pxfer.net.disk import OPEN_DIRECTORY, NotRemoved, disk_error, shown

NOT_SENT: Final = "what arrived is not what was sent; it is kept"


def unforeseen(doing: str, fault: BaseException | None) -> P2pxferError:
    """What is said of a transfer that ended while ``doing`` something, by a ``fault`` of the program."""
    if is_no_memory(fault):
        return NoMemory()
    return DiskError.plain(f"{doing} failed inside the program: {type(fault).__name__}; what arrived is kept")


def is_removed(directory: int) -> bool:
    """Whether the directory that is open as this has no name any more.  Raises ``OSError``."""
    return os.fstat(directory).st_nlink == 0


def destination_gone(destination: str, fate: str) -> DiskError:
    """That the directory is not there, and what became of what had arrived, ``fate``."""
    gone = f"is gone{fate}"
    return DiskError(
        f"the destination {shown(destination)} {gone}; make it again, and let the sender run its command again",
        f"its destination {gone}; run the command again when it is there again",
    )


class Trouble:
    """Of the staging place ``where`` in the directory ``destination``.

    ``home`` is the descriptor of the place once it is open: something may lie there from then on.
    """

    def __init__(self, destination: str, where: str) -> None:
        self._destination_path = destination
        self._where = where
        self._broken: DiskError | None = None
        self._destination = -1
        self.home = -1

    def open_destination(self) -> int:
        """A descriptor of the destination, which stays open as long as this is used.

        Raises:
            DiskError: it is gone, or may not be opened.
        """
        with self.told(f"opening the directory {shown(self._destination_path)}"):
            self._destination = os.open(os.fsencode(self._destination_path), OPEN_DIRECTORY)
        return self._destination

    def look(self) -> None:
        """Raises ``FileNotFoundError`` if the place was removed: what is written there would be lost in the end."""
        if is_removed(self.home):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def check(self) -> None:
        """Nothing has broken the place so far.

        Raises:
            DiskError: something has: any thread may be the first that the user hears of, so all give the reason.
        """
        if self._broken is not None:
            raise type(self._broken)(self._broken.message, self._broken.abroad)

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Errors of the system in here are told as ``what`` that failed.

        Raises:
            DiskError: instead of ``OSError``.
        """
        try:
            yield
        except OSError as error:
            raise self.said(error, what) from error

    def said(self, error: OSError, what: str) -> DiskError:
        """``error`` as a sentence, with what to do; of something in the way its path instead of ``what``."""
        if (lost := self._lost(error)) is not None:
            return lost
        if isinstance(error, NotRemoved):
            what = f"removing {shown(os.path.normpath(Path(self._where, error.filename)))}"
        full = isinstance(disk_error(error, "", ""), NoSpace)
        then = f"{'free some space' if full else 'repair that'}, and let the sender run its command again"
        again = f"run the command again when {'it has more room' if full else 'that is repaired'}"
        if self.home < 0:
            nothing = "nothing was received"
            return disk_error(error, what, f"{nothing}; {then}", f"{nothing}; {again}")
        kept = f"what arrived is kept in {shown(self._where)}; {then} to go on"
        return disk_error(error, what, kept, f"what arrived is kept there; {again} to go on")

    def _lost(self, error: OSError) -> DiskError | None:
        """What is said where the reason is that somebody removed the destination, or what lay in the place."""
        missing = error.errno == errno.ENOENT
        if is_removed(self._destination) if self._destination >= 0 else missing:
            fate = "; nothing was received" if self.home < 0 else ", and what had arrived with it"
            return destination_gone(self._destination_path, fate)
        # Of what this program alone has made nothing else is missing, even if it is not all removed yet.
        if self.home >= 0 and missing:
            return DiskError(
                f"what had arrived in {shown(self._where)} was removed; let the sender run its command again",
                "what had arrived was removed there; run the command again",
            )
        return None

    @contextmanager
    def breaking(self, what: str) -> Iterator[None]:
        """Whatever fails in here breaks the place: a second try could succeed without having written.

        Raises:
            DiskError: as :meth:`told`.
        """
        try:
            with self.told(what):
                yield
        except DiskError as error:
            self._broken = error
            raise
        except BaseException:
            here, there = f"{what} failed inside the program", "it failed inside the program"
            kept = f"what was safe is kept in {shown(self._where)}"
            self._broken = DiskError(f"{here}; {kept}", f"{there}; what was safe is kept there")
            raise
