"""What a sender leaves out of its transfer, and which paths know.

Laws of this file:

1. A path is told of a file when the page that lists it was answered there, once; so it knows all of them when its whole
   list was answered, before its Final.  Behind its Final it is told of none.
2. A file of which all hashes are known may be at the receiver, whatever became of it here.  So it is left out when its
   page was answered on a path and it was not all claimed there; until then it is in doubt, and not read.
3. Nothing is brought back in this run of the sender.  With more than :data:`~p2pxfer.core.session.leftwire.MAX_LEFT`
   files, all of a complete list, or more than a few of it and :data:`SHARE`, the transfer is to end:
   :meth:`Leaving.is_too_much`, for which the caller asks before a Final.  Where so many fail it is the disk, or one
   who went through all files, and what arrived is kept for the next run.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final

from p2pxfer.core.session.leftwire import MAX_LEFT, LeftOut
from p2pxfer.core.transfer.listing import ListTeller
from p2pxfer.core.transfer.sendeffect import Send

FEW: Final = 8
"""So many files may be left out of any transfer in which others remain."""
SHARE: Final = 8
"""One in so many files may be left out of a larger one."""


class Leaving:
    """The files that are left out of a transfer whose list is told by ``pages``."""

    def __init__(self, handle: int, pages: ListTeller) -> None:
        self._handle = handle
        self._list = pages
        self._files: list[int] = []
        self._told: dict[int, set[int]] = {}
        self._doubtful: set[int] = set()

    @property
    def files(self) -> tuple[int, ...]:
        """Which, in order."""
        return tuple(self._files)

    def add(self, file: int) -> bool:
        """This file is left out from now on; whether it was not before."""
        at = bisect_left(self._files, file)
        if self._files[at : at + 1] == [file]:
            return False
        insort(self._files, file)
        return True

    def doubt(self, file: int) -> bool:
        """Whether nothing was claimed yet of this file, on any path that is left; if so, it is in doubt until then."""
        if any(self._list.files_answered(path) > file for path in self._told):
            return False
        self._doubtful.add(file)
        return True

    def answered(self, path: int) -> list[int]:
        """A page was answered on ``path``: which files are not in doubt any more, for all was said of them there."""
        certain = sorted(file for file in self._doubtful if file < self._list.files_answered(path))
        self._doubtful.difference_update(certain)
        return certain

    def is_too_much(self, listed: int) -> bool:
        """Whether not enough is left of ``listed`` files, if these are all."""
        left = len(self._files)
        most = min(listed - 1, max(FEW, listed // SHARE)) if self._list.complete else MAX_LEFT
        return left > min(most, MAX_LEFT) if listed else False

    def opened(self, path: int) -> None:
        """Chunks may flow on this path."""
        self._told[path] = set()

    def lost(self, path: int) -> None:
        """The path is gone, or leads to a receiver that is, or its Final goes out."""
        self._told.pop(path, None)

    def take(self) -> Iterator[Send]:
        """What is to be said now, on all paths."""
        for path, told in self._told.items() if self._files else ():
            answered = bisect_left(self._files, self._list.files_answered(path))
            fresh = [file for file in self._files[:answered] if file not in told]
            if fresh:
                told.update(fresh)
                yield Send(path, LeftOut(handle=self._handle, files=fresh))
