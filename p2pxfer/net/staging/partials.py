"""What was being received and is not whole yet: found where it lies, in the destinations that are remembered.

Laws:

- The staging place itself is the record: what its journal claims is what is here.
- Nothing that another process holds is touched, and nothing is removed that somebody agreed to.
- What is marked as another identity's (:mod:`p2pxfer.net.staging.owning`) is not there for this one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from p2pxfer.core.approach import Approach
from p2pxfer.core.messages import PathPolicy
from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.journal import read_journal
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.pathrules import STAGING_PREFIX
from p2pxfer.errors import P2pxferError, UsageError
from p2pxfer.net.disk import (
    OPEN_DIRECTORY,
    OPEN_INNER_DIRECTORY,
    NotRemoved,
    disk_error,
    shown,
    stat_or_none,
)
from p2pxfer.net.private.filelocks import locked
from p2pxfer.net.private.home import LOCK
from p2pxfer.net.private.identity import make_private_directory
from p2pxfer.net.private.privatedir import HeldLocks, remove
from p2pxfer.net.private.wholefile import replace_whole
from p2pxfer.net.staging import replay
from p2pxfer.net.staging.journalfile import MAX_JOURNAL, SUPERSEDED, JournalFile, removal_order
from p2pxfer.net.staging.journalfile import NAME as JOURNAL
from p2pxfer.net.staging.owning import EVERYBODYS, is_anothers, mark_of, owner_at
from p2pxfer.net.staging.strays import TREE
from p2pxfer.net.staging.unagreed import is_unagreed, remove_unagreed
from p2pxfer.net.staging.waitmark import is_marked

DESTINATIONS: Final = "destinations.json"
MAX_DESTINATIONS: Final = 64
MAX_TREES: Final = 8
"""Most earlier transfers that may hold older versions."""
MAX_TREE_JOURNAL: Final = 8 * 1024 * 1024
"""What has a larger journal, bytes, is not looked at for these: that takes longer than it may gain."""
_STAGING: Final = re.compile(re.escape(STAGING_PREFIX) + "[0-9a-f]{32}")


def staging_name(sender: bytes, transfer: bytes) -> str:
    """What the private directory of a transfer is called, after the sender's key and the transfer's id."""
    return STAGING_PREFIX + hashlib.sha256(sender + transfer).hexdigest()[:32]


def number_of(name: str) -> str:
    """The 8 hexadecimal digits by which people name a transfer whose private directory is called so."""
    return name.removeprefix(STAGING_PREFIX)[:8]


class Partial(Struct, frozen=True):
    """A transfer that is not whole: ``have`` of ``total`` bytes, ``changed`` in seconds since 1970.

    ``into`` is how ``receive`` was called there last, ``sender`` is the digest of the sender's key; ``busy``: a process
    receives it now, or ``waits`` for its sender; ``process`` is that one's id, 0 where it cannot be seen.
    ``superseded``: a later transfer of the same sender and names has arrived.  ``owner``: whose it is marked as.
    """

    name: str
    into: Destination
    sender: bytes
    names: list[str]
    have: int
    total: int
    changed: float
    busy: bool
    process: int = 0
    superseded: bool = False
    waits: bool = False
    owner: bytes = EVERYBODYS

    @property
    def number(self) -> str:
        """8 hexadecimal digits."""
        return number_of(self.name)


# -- destinations ------------------------------------------------------------------------------------------------


class Destination(msgspec.Struct, frozen=True):
    """A directory, the name under which this machine received into it last, and the options that it had then.

    ``limit`` in bytes a second, 0 for none; ``timeout`` in seconds.
    """

    path: str
    name: str
    acceptance: Literal["ask", "contacts", "all"] = "contacts"
    no_code: bool = False
    limit: Annotated[int, Meta(ge=0)] = 0
    policy: PathPolicy = "auto"
    gentle: bool = False
    port_mapping: bool = True
    timeout: Annotated[float, Meta(gt=0)] | None = None
    verify: bool = False

    @property
    def approach(self) -> Approach:
        """How senders were met."""
        return Approach(self.policy, self.gentle, self.port_mapping)


def remember(home: Path, used: Destination, *, anew: bool = True) -> None:
    """Note how files are received into a destination; without effect if the home cannot be written.

    With ``anew`` false what is noted of that destination already stays.
    """
    new = msgspec.structs.replace(used, path=os.path.realpath(used.path))
    try:
        make_private_directory(home)
        with locked(home / LOCK):
            known = destinations(home)
            if not anew and any(other.path == new.path for other in known):
                return
            if known[:1] != [new]:
                known = [new, *(other for other in known if other.path != new.path)][:MAX_DESTINATIONS]
                replace_whole(home / DESTINATIONS, msgspec.json.encode(known))
    except (OSError, UnicodeEncodeError):
        return


def destinations(home: Path) -> list[Destination]:
    """Where files were received, the latest first."""
    try:
        return msgspec.json.decode((home / DESTINATIONS).read_bytes(), type=list[Destination])[:MAX_DESTINATIONS]
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []


# -- what lies there ---------------------------------------------------------------------------------------------


def find(home: Path, locks: HeldLocks) -> Iterator[Partial]:
    """Everything that is not whole in the destinations that are remembered, and not another identity's.

    Raises:
        ConfigError: the identity in this home cannot be used.
    """
    owner: bytes | None = None
    for destination in destinations(home):
        try:
            names = staging_in(destination.path)
        except OSError:
            continue  # gone, or not there today
        if names and owner is None:
            owner = owner_at(home)
        for name in names:
            try:
                found = look(destination, name, locks, owner or EVERYBODYS)
            except (OSError, P2pxferError):
                continue  # another user's, or nothing that this program knows
            if found is not None:
                yield found


def staging_in(directory: str) -> list[str]:
    """The names of the private directories of transfers there; raises ``OSError``."""
    return sorted(filter(_STAGING.fullmatch, os.listdir(directory)))  # noqa: PTH208  # names are wanted


def beside(home: Path, here: str, sender: bytes, transfer: bytes) -> Partial | None:
    """What is kept of this transfer in another destination than ``here``, and is in no process's hand."""
    name, locks, own = staging_name(sender, transfer), HeldLocks(), os.path.realpath(here)
    for destination in destinations(home):
        if destination.path != own:
            with suppress(OSError, P2pxferError):
                found = look(destination, name, locks, owner_at(home))
                if found is not None and not found.busy:
                    return found
    return None


def look(destination: Destination, name: str, locks: HeldLocks, owner: bytes = EVERYBODYS) -> Partial | None:
    """What is kept in the private directory called ``name``; ``None`` if it is published, or not this ``owner``'s.

    What a process left that was killed before anybody agreed to it is removed, and ``None`` too.
    That reads and replays the whole journal.  Raises ``OSError`` and :class:`~p2pxfer.errors.P2pxferError`.
    """
    root = os.open(destination.path, OPEN_DIRECTORY)
    try:
        fd = os.open(name.encode(), OPEN_INNER_DIRECTORY, dir_fd=root)
    finally:
        os.close(root)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077 or is_anothers(fd, owner):
            return None
        mark = mark_of(fd)
        state = read_journal(JournalFile(fd, lambda _: None).read(MAX_JOURNAL))
        if state is None or state.published_root is not None:
            return None
        changed = os.stat(JOURNAL, dir_fd=fd, follow_symlinks=False).st_mtime
        busy, process = locks.is_held(fd), locks.holder(fd)
        if not busy and is_unagreed(fd, state):
            remove_unagreed(destination.path, name, mark)
            return None
        waits = busy and is_marked(fd, locks)
        superseded = stat_or_none(fd, SUPERSEDED) is not None
        manifest = Manifest()
        replay.take_up(state, manifest)
        table = ChunkTable(manifest)
        replay.believe(state, manifest.pages, manifest, table)
    finally:
        os.close(fd)
    have = sum(table.bytes_in(*span) for span in table.known)
    return Partial(
        name,
        destination,
        state.sender,
        manifest.top_names,
        have,
        manifest.total_bytes,
        changed,
        busy,
        process,
        superseded,
        waits,
        mark,
    )


def partial_trees(destination: str, sender: bytes, but: bytes, owner: bytes = EVERYBODYS) -> list[int]:
    """Descriptors of what arrived of other transfers from this sender in a directory, the latest first.

    ``but`` is the id of the transfer that is left out.  What another process holds, or is marked as somebody else's
    than this ``owner``'s, is left out too; what this process holds waits for a sender that may have come back with
    another version.
    """
    found: list[tuple[float, int]] = []
    own, locks = staging_name(sender, but), HeldLocks()
    try:
        root = os.open(os.fsencode(destination), OPEN_DIRECTORY)
    except OSError:
        return []
    try:
        for name in filter(_STAGING.fullmatch, os.listdir(root)):  # noqa: PTH208  # a descriptor
            with suppress(OSError, P2pxferError):
                found += [] if name == own else _tree_of(root, name, sender, locks, owner)
    finally:
        os.close(root)
    found.sort(reverse=True)
    for _, fd in found[MAX_TREES:]:
        os.close(fd)
    return [fd for _, fd in found[:MAX_TREES]]


def _tree_of(root: int, name: str, sender: bytes, locks: HeldLocks, owner: bytes) -> list[tuple[float, int]]:
    fd = os.open(name.encode(), OPEN_INNER_DIRECTORY, dir_fd=root)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077 or is_anothers(fd, owner):
            return []
        if locks.is_held_elsewhere(fd):
            return []
        state = read_journal(JournalFile(fd, lambda _: None).read(MAX_TREE_JOURNAL))
        if state is None or state.sender != sender:
            return []
        changed = os.stat(JOURNAL, dir_fd=fd, follow_symlinks=False).st_mtime
        return [(changed, os.open(TREE.encode(), OPEN_INNER_DIRECTORY, dir_fd=fd))]
    finally:
        os.close(fd)


def drop(partial: Partial) -> None:
    """Remove what was received.

    Raises:
        ConfigError: a process receives it.
        UsageError: it is gone.
        DiskError: the disk refused.
    """
    where = str(Path(partial.into.path, partial.name))

    def wanted(held: int) -> bool:
        """Somebody else may have begun the same there since it was looked at."""
        if is_anothers(held, partial.owner):
            raise UsageError(
                f"somebody else has taken up {shown(where)} meanwhile; p2pxfer jobs lists what is there now"
            )
        return True

    try:
        remove(partial.into.path, partial.name, where, wanted, removal_order)
    except OSError as error:
        blamed = Path(where, error.filename) if isinstance(error, NotRemoved) else where
        raise disk_error(error, f"removing {shown(str(blamed))}", "remove it by hand") from error
