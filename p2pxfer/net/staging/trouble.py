"""What becomes of errors of the disk in a staging place: sentences with advice, and whether it can be used any more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from p2pxfer.errors import DiskError, NoMemory, NoSpace, P2pxferError, is_no_memory
from p2pxfer.net.disk import NotRemoved, disk_error, shown

NOT_SENT: Final = "what arrived is not what was sent; it is kept"


def unforeseen(doing: str, fault: BaseException | None) -> P2pxferError:
    """What is said of a transfer that ended while ``doing`` something, by a ``fault`` of the program."""
    if is_no_memory(fault):
        return NoMemory()
    return DiskError.plain(f"{doing} failed inside the program: {type(fault).__name__}; what arrived is kept")


class Trouble:
    """Of the staging place ``where``; ``begun``: something may lie there already."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._broken: DiskError | None = None
        self.begun = False

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
        if isinstance(error, NotRemoved):
            what = f"removing {shown(os.path.normpath(Path(self._where, error.filename)))}"
        full = isinstance(disk_error(error, "", ""), NoSpace)
        then = f"{'free some space' if full else 'repair that'}, and let the sender run its command again"
        again = f"run the command again when {'it has more room' if full else 'that is repaired'}"
        if not self.begun:
            nothing = "nothing was received"
            return disk_error(error, what, f"{nothing}; {then}", f"{nothing}; {again}")
        kept = f"what arrived is kept in {shown(self._where)}; {then} to go on"
        return disk_error(error, what, kept, f"what arrived is kept there; {again} to go on")

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
