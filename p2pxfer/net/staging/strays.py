"""What lies in a staging place's tree and is on no page of the list that is gone on with.

A file's data may be on the disk before the page that lists it is in the journal, so whoever is cut in between leaves
files that nothing tells of.  If the next list does not have them, they would be published with the rest, or stand where
a directory belongs.

Laws:

- Nothing is written into the tree before this has been gone through, when a place is opened again.
- What is listed stays if it is of the kind that the list says; what it holds is for the journal to claim.
- Behind it the tree and its listed directories have the mode 0700, whatever a run that was cut before its end, or
  somebody else, gave them.  Another user's directory, or link, and in a directory in which others may have written
  whatever is another user's, or has a second name on the disk, is removed even under a listed name: chunks would be
  written to where that leads.
- One pass through the list and one through the tree, both in the order of the list, and no look at single files, but
  for those in such directories: names of the directories on the way to the one of now are all that is in memory.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from p2pxfer.core.transfer.entries import DIRECTORY, FILE, LINK, Kind
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.net.disk import NotRemoved, open_own_directory, parent_of, remove_whole

TREE: Final = "tree"
"""What the tree is called in its staging place."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def remove_strays(manifest: Manifest, tree: int) -> None:
    """Remove from ``tree`` what ``manifest`` does not list there.

    Raises ``OSError``; :class:`~p2pxfer.net.disk.NotRemoved` with the path from the staging place.
    """
    open_ones = [_Directory(0, ".", tree)]
    for number, (parent, kind, name) in enumerate(manifest.outline(), 1):
        while open_ones[-1].number != parent:
            open_ones.pop().leave(tree)
        here = open_ones[-1]
        there = here.reach(name, kind, tree)
        if kind is DIRECTORY:
            open_ones.append(_open(number, f"{here.path}/{name}", tree if there else None))
    while open_ones:
        open_ones.pop().leave(tree)


def _open(number: int, path: str, tree: int | None) -> _Directory:
    """A listed directory; ``tree`` is ``None`` if nothing is there."""
    if tree is None:
        return _Directory(number, path, None)
    with parent_of(tree, path) as (parent, name):
        here = open_own_directory(name, parent)
    try:
        return _Directory(number, path, here)
    finally:
        os.close(here)


class _Directory:
    """A listed directory and what lies in it, in the order of names."""

    __slots__ = ("_at", "_kinds", "_names", "number", "path")

    def __init__(self, number: int, path: str, here: int | None) -> None:
        """``number`` as in the list, ``path`` from the tree; ``here`` is a descriptor, ``None`` if nothing is there."""
        self.number = number
        self.path = path
        self._at = 0
        self._kinds: dict[str, Kind | None] = {}
        self._names: list[str] = []
        if here is None:
            return
        mode = os.fstat(here).st_mode
        if stat.S_IMODE(mode) != stat.S_IRWXU:
            os.fchmod(here, stat.S_IRWXU)
        with os.scandir(here) as found:
            for each in found:
                self._names.append(each.name)
                is_file = each.is_file(follow_symlinks=False)
                if (mode & _OTHERS_WRITE or not is_file) and not _is_own(each):
                    self._kinds[each.name] = None
                elif not is_file:
                    self._kinds[each.name] = _kind_of(each)
        self._names.sort()

    def reach(self, name: str, kind: Kind, tree: int) -> bool:
        """Remove what comes before ``name``, which the list has next; whether that is here and of its kind."""
        names, first = self._names, self._at
        at = first
        while at < len(names) and names[at] < name:
            at += 1
        there = at < len(names) and names[at] == name
        kept = there and self._kinds.get(name, FILE) is kind
        self._at = at + there
        self._remove(names[first : at if kept else self._at], tree)
        return kept

    def leave(self, tree: int) -> None:
        """The list has no more names here: remove the rest."""
        self._remove(self._names[self._at :], tree)

    def _remove(self, names: list[str], tree: int) -> None:
        if names:
            with parent_of(tree, f"{self.path}/.") as (here, _):
                for name in names:
                    self._remove_one(name, here)

    def _remove_one(self, name: str, here: int) -> None:
        try:
            remove_whole(os.fsencode(name), here)
        except NotRemoved as error:
            path = f"{TREE}/{self.path}/{error.filename}"
            raise NotRemoved(error.errno, error.strerror, path) from error


def _is_own(each: os.DirEntry[str]) -> bool:
    status = each.stat(follow_symlinks=False)
    return status.st_uid == os.geteuid() and (stat.S_ISDIR(status.st_mode) or status.st_nlink == 1)


def _kind_of(each: os.DirEntry[str]) -> Kind | None:
    if each.is_symlink():
        return LINK
    return DIRECTORY if each.is_dir(follow_symlinks=False) else None
