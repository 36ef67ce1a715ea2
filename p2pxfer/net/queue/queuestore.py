"""What is to be sent when its peer is there: a small file for each such transfer, in ``queue`` in the home.

Laws:

1. Everything is private: the directory 0700, the files 0600.
2. A file is replaced whole and durably: whoever reads sees the entry of before or the new one, and a disk that
   refuses leaves the one of before.
3. Whoever changes an entry reads it first, under the lock of the directory.  A command changes what a person wishes,
   the agent what becomes of it; so two at once lose nothing of each other.
4. A file that is damaged or of a newer version is left alone and reported, and keeps no other one from going on.
5. Who carries the queue out holds ``agent.lock``: there is one at most, and everybody sees whether there is one.

All functions block for some milliseconds.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from p2pxfer.core.approach import Approach
from p2pxfer.core.ids import PeerId, parse_id
from p2pxfer.core.messages import PathPolicy
from p2pxfer.core.text import safe_text
from p2pxfer.errors import ConfigError, DiskError, LimitReached, P2pxferError, UsageError
from p2pxfer.net.disk import disk_error, shown
from p2pxfer.net.private.filelocks import hold, locked
from p2pxfer.net.private.identity import make_private_directory, sync_directory
from p2pxfer.net.private.privatedir import HeldLocks
from p2pxfer.net.private.wholefile import replace_whole, version_of
from p2pxfer.net.transfer.scan import Links

DIRECTORY: Final = "queue"
SCHEMA: Final = 1
MAX_ENTRIES: Final = 1000
"""Most transfers that may wait."""
MAX_PRIORITY: Final = 1_000_000
"""Far above what a person may give with a number: ``jobs first`` counts on from the highest one."""
MAX_WHY: Final = 500
"""Most characters of a reason."""
_MAX_SIZE: Final = 1024 * 1024
"""Longest file of an entry, bytes."""
_ROOM: Final = 16 * MAX_WHY
"""What a new one leaves for what becomes of it, bytes: a reason of characters that take six each, and numbers."""
_SUFFIX: Final = ".json"
_NUMBER: Final = re.compile(r"[0-9a-f]{8}")

Count = Annotated[int, Meta(ge=0)]


class Queued(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A transfer that waits, with absolute paths, to the contact with the id ``peer``; ``size`` and ``acked`` in bytes.

    As it was given: ``limit`` in bytes a second, 0 for none; ``added`` in nanoseconds since 1970.  What a person
    wishes: ``priority`` (higher goes first), ``paused``, and ``resumed``, which counts how often that was said.  What
    became of it: ``failed`` for good, ``why`` in one line, also while it is only repeated; ``running`` as long as the
    agent that said so lives, and ``asking`` while the peer's user has not agreed to that; ``transfer``, the transfer id
    in hex; ``changed`` in seconds since 1970.
    """

    paths: Annotated[list[str], Meta(min_length=1)]
    peer: str
    added: Count
    links: Links = "skip"
    delta: bool = False
    limit: Count = 0
    policy: PathPolicy = "auto"
    gentle: bool = False
    port_mapping: bool = True
    priority: Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = 0
    paused: bool = False
    resumed: Count = 0
    failed: bool = False
    why: Annotated[str, Meta(max_length=MAX_WHY)] = ""
    running: bool = False
    asking: bool = False
    transfer: Annotated[str, Meta(pattern="^[0-9a-f]{0,64}$")] = ""
    size: Count = 0
    acked: Count = 0
    changed: float = 0.0
    schema: Literal[1] = 1

    @property
    def number(self) -> str:
        """The same for the same paths and peer: 8 hexadecimal digits, and not those of a ``send`` that was cut."""
        text = "\0".join(["queue", self.peer, *self.paths])
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]

    @property
    def approach(self) -> Approach:
        """How the peer is to be reached."""
        return Approach(self.policy, self.gentle, self.port_mapping)

    @property
    def key(self) -> bytes:
        """The digest of the peer's key."""
        return parse_id(self.peer).digest


class Unreadable(msgspec.Struct, frozen=True):
    """An entry that cannot be used: its number, and why in one line."""

    number: str
    why: str


class QueueStore:
    """The queue in a home."""

    def __init__(self, home: Path) -> None:
        self.path = home / DIRECTORY

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self) -> tuple[list[Queued], list[Unreadable]]:
        """The entries, the oldest first, and those that cannot be used.

        Raises:
            DiskError: the directory cannot be read now, which says nothing about what is in it.
        """
        entries: list[Queued] = []
        unreadable: list[Unreadable] = []
        numbers = self._numbers()
        for number in numbers[:MAX_ENTRIES]:
            try:
                found = self._read(number)
            except ConfigError as error:
                unreadable.append(Unreadable(number, error.message))
            else:
                entries += [found] if found is not None else []
        return sorted(entries, key=lambda entry: (entry.added, entry.number)), unreadable

    def _numbers(self) -> list[str]:
        try:
            names = os.listdir(self.path)  # noqa: PTH208  # names are wanted
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_error(error, f"reading {shown(str(self.path))}", "what is queued is as it was") from error
        numbers = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
        return sorted(number for number in numbers if _NUMBER.fullmatch(number))

    def _read(self, number: str) -> Queued | None:
        """The entry of that number; ``None`` if there is none.  Raises :class:`ConfigError`."""
        path = self._path(number)
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_SIZE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"cannot read {shown(str(path))}: {error.strerror}") from error
        try:
            version_of(data, SCHEMA, shown(str(path)))
            entry = msgspec.json.decode(data, type=Queued)
            if entry.number != number or str(PeerId(entry.key)) != entry.peer:
                raise ValueError("it is another transfer than its name says")
        except (msgspec.MsgspecError, ValueError, RecursionError, P2pxferError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{shown(str(path))} is damaged ({safe_text(str(error), 200)})") from error
        return entry

    # -- changing --------------------------------------------------------------------------------------------------

    def put(self, entry: Queued) -> Queued:
        """Add an entry; where the same is queued already it gets these options, and is tried again.

        One that an agent is sending is another one from now on: what its files were when that began may not be what
        they are now, so the end of that run is not the end of this entry.  Returns the entry as it stands.

        Raises:
            LimitReached: there are too many.
            UsageError: a path cannot be written down, or there are too many of them.
            DiskError: the disk refused; nothing is changed.
            ConfigError: what is queued already cannot be read.
        """
        try:
            make_private_directory(self.path)
        except OSError as error:
            raise disk_error(error, f"making {shown(str(self.path))}", "nothing was queued") from error
        with self._locked() as there:
            if not there:
                raise DiskError(f"{shown(str(self.path))} is gone; nothing was queued")
            known = self._read(entry.number)
            if known is None:
                if len(self._numbers()) >= MAX_ENTRIES:
                    raise LimitReached(f"{MAX_ENTRIES} transfers wait already; p2pxfer jobs lists them")
            else:
                added = max(entry.added, known.added + 1) if known.running else known.added
                entry = msgspec.structs.replace(
                    entry, added=added, priority=known.priority, resumed=known.resumed + 1,
                    transfer=known.transfer, size=known.size, acked=known.acked,
                )  # fmt: skip
            self._write(entry, "nothing was queued", _MAX_SIZE - _ROOM)
            return entry

    def change(self, number: str, change: Callable[[Queued], Queued]) -> Queued | None:
        """Change an entry, which may be gone: ``None`` then; returns it as it stands.

        Raises:
            DiskError: the disk refused; nothing is changed.
            ConfigError: it cannot be read.
        """
        with self._locked() as there:
            known = self._read(number) if there else None
            if known is None:
                return None
            entry = change(known)
            if entry != known:
                self._write(entry, "nothing was changed")
            return entry

    def remove(self, number: str, added: int | None = None) -> bool:
        """Remove an entry, whatever is in its file; ``added``: only the one that was added then.  False if it is gone.

        Raises:
            DiskError: the disk refused.
            ConfigError: with ``added``, that it cannot be read.
        """
        with self._locked() as there:
            if not there:
                return False
            if added is not None:
                known = self._read(number)
                if known is None or known.added != added:
                    return False
            try:
                self._path(number).unlink()
                sync_directory(self.path)
            except FileNotFoundError:
                return False
            except OSError as error:
                path = shown(str(self._path(number)))
                raise disk_error(error, f"removing {path}", "remove it by hand") from error
            return True

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Whether there is a directory, and so a lock: without one nothing is read and nothing written."""
        with ExitStack() as lock:
            there = True
            try:
                lock.enter_context(locked(self.path / "lock"))
            except FileNotFoundError:
                there = False
            except OSError as error:
                raise disk_error(error, f"locking {shown(str(self.path))}", "nothing was changed") from error
            yield there

    def _write(self, entry: Queued, advice: str, most: int = _MAX_SIZE) -> None:
        path = self._path(entry.number)
        try:
            data = msgspec.json.encode(entry) + b"\n"
        except UnicodeEncodeError:
            raise UsageError("a path that is not UTF-8 cannot be queued; send it without --queue") from None
        if len(data) > most:
            raise UsageError(f"{len(entry.paths)} paths are too many for one entry of the queue; queue their directory")
        try:
            replace_whole(path, data)
        except OSError as error:
            raise disk_error(error, f"writing {shown(str(path))}", advice) from error

    def _path(self, number: str) -> Path:
        return self.path / f"{number}{_SUFFIX}"

    # -- who carries it out ----------------------------------------------------------------------------------------

    def hold(self) -> IO[bytes]:
        """Become the one who carries the queue out, until what is returned is closed or the process ends.

        Raises:
            ConfigError: another process does, or the directory cannot be used.
        """
        try:
            make_private_directory(self.path)
            return os.fdopen(hold(self._holder), "r+b", buffering=0)
        except BlockingIOError:
            raise ConfigError(f"another agent carries out the queue in {shown(str(self.path))}") from None
        except OSError as error:
            raise ConfigError(f"cannot use {shown(str(self.path))}: {error.strerror}") from error

    @property
    def attended(self) -> bool:
        """Whether a process carries the queue out, as far as the system shows it."""
        return self.is_attended(HeldLocks())

    def is_attended(self, locks: HeldLocks) -> bool:
        """The same, for who asks for other locks too."""
        return locks.is_file_held(self._holder)

    @property
    def _holder(self) -> Path:
        return self.path / "agent.lock"
