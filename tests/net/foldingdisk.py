"""A file system as other machines have it: names that differ in case or composition are one, and may be kept otherwise.

It is a layer above the calls of `os` that take the descriptor of a directory, as the product makes all of them.
"""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from p2pxfer.net import disk

_CALLS = ("open", "mkdir", "stat", "unlink", "rmdir", "readlink", "utime", "chmod")


def key_of(name: str) -> str:
    """Equal for names that are one there."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class FoldingDisk:
    """``normalises``: names are kept decomposed, as by HFS+; otherwise as they were given, as by APFS, NTFS and FAT."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, normalises: bool) -> None:
        self._normalises = normalises
        self._listdir = os.listdir
        self._open, self._close = os.open, os.close
        self.folded = 0
        for call in _CALLS:
            monkeypatch.setattr(os, call, self._translated(getattr(os, call)))
        monkeypatch.setattr(os, "symlink", self._second(os.symlink))
        monkeypatch.setattr(os, "rename", self._both(os.rename))
        self._rename_exclusive = disk._rename_exclusive
        monkeypatch.setattr(disk, "_rename_exclusive", self._exclusive)

    def _real(self, directory: int, path: bytes) -> bytes:
        """What ``path`` is called here: each part by the name of what is there already."""
        *parents, name = path.split(b"/")
        here = directory
        done = []
        try:
            for parent in parents:
                done.append(self._one(here, parent))
                inner = self._open(done[-1], os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
                if here != directory:
                    self._close(here)
                here = inner
            return b"/".join([*done, self._one(here, name)])
        except OSError:
            return path
        finally:
            if here != directory:
                self._close(here)

    def _one(self, directory: int, name: bytes) -> bytes:
        text = name.decode()
        for each in self._listdir(directory):
            if key_of(each) == key_of(text):
                self.folded += each != text
                return each.encode()
        return unicodedata.normalize("NFD", text).encode() if self._normalises else name

    def _name(self, name: Any, directory: int | None) -> Any:
        if directory is None or not isinstance(name, (str, bytes)):
            return name
        return self._real(directory, os.fsencode(name))

    def _translated(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(name: Any, *words: Any, dir_fd: int | None = None, **more: Any) -> Any:
            return call(self._name(name, dir_fd), *words, dir_fd=dir_fd, **more)

        return called

    def _second(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(target: Any, name: Any, *, dir_fd: int | None = None) -> Any:
            return call(target, self._name(name, dir_fd), dir_fd=dir_fd)

        return called

    def _both(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(old: Any, new: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> Any:
            names = self._name(old, src_dir_fd), self._name(new, dst_dir_fd)
            return call(*names, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        return called

    def _exclusive(self, old_dir: int, old: bytes, new_dir: int, new: bytes) -> bool:
        if any(key_of(each) == key_of(new.decode()) for each in self._listdir(new_dir)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        return self._rename_exclusive(old_dir, self._real(old_dir, old), new_dir, self._real(new_dir, new))
