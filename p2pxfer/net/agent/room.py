"""The agent's own corner of the private directory: a lock, so that there is one agent, and where its socket is."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import Final

from p2pxfer.core.text import path_text
from p2pxfer.errors import ConfigError
from p2pxfer.net.private.filelocks import hold
from p2pxfer.net.private.home import default_home
from p2pxfer.net.private.identity import make_private_directory
from p2pxfer.net.private.privatedir import HeldLocks

FOLDER: Final = "agent"
SOCKET: Final = "socket"
LOCK: Final = "lock"
LONGEST: Final = 100
"""Longest address of a socket, bytes: Linux has room for 108 with the zero at the end, others for a few less."""


def how_to_start(home: Path) -> str:
    """How a person starts the agent of ``home``, in words; the directory is named unless it is the default one."""
    option = "" if home == default_home({}) else f" --home {shlex.quote(path_text(home.absolute()))}"
    return f"this starts one: twistd p2pxfer-agent{option}"


class Room:
    """The corner of a running agent; the lock lives as long as the process, or until :meth:`close`."""

    def __init__(self, home: Path) -> None:
        """Make it, and be the only agent of this home.

        Raises:
            ConfigError: another agent runs for it, or it cannot be used.
        """
        self.path = home / FOLDER
        shown = path_text(home)
        try:
            make_private_directory(self.path)
            self.path.chmod(0o700)
            self._lock = hold(self.path / LOCK)
        except BlockingIOError as error:
            raise ConfigError(f"another agent runs for the home {shown}{_process(self.path / LOCK)}") from error
        except OSError as error:
            raise ConfigError(f"the agent cannot use the home {shown}: {error.strerror or error}") from error

    def sign(self) -> None:
        """Say in the lock file which process this is; after it has become a daemon.

        It is for people; a disk that refuses it keeps no agent from running.
        """
        with contextlib.suppress(OSError):
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let another agent have it."""
        os.close(self._lock)


def running(home: Path) -> str:
    """Which process the agent of ``home`` is, in brackets, if one is seen to run and said it; else empty."""
    lock = home / FOLDER / LOCK
    return _process(lock) if HeldLocks().is_file_held(lock) else ""


def _process(lock: Path) -> str:
    """Who holds the lock, as far as that is written there."""
    try:
        text = lock.read_bytes()[:20].strip().decode("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
    return f" (process {text})" if text.isdigit() else ""


class SocketName:
    """A name for the socket in ``folder`` that is short enough for the system, until :meth:`close`.

    A long one leads through a descriptor of the folder, which Linux shows as a directory.
    """

    def __init__(self, folder: Path) -> None:
        """Raises ``OSError`` if there is no such folder."""
        self._descriptor: int | None = None
        self.name = str(folder / SOCKET)
        if len(os.fsencode(self.name)) > LONGEST:
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self.name = f"/proc/self/fd/{self._descriptor}/{SOCKET}"

    def close(self) -> None:
        """The name is not used any more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
