"""Where an agent puts what arrives: for each contact a folder of its own.

Laws of this file:

1. What one contact sends never lies in the folder of another one, whatever they are called now or were called before.
2. A folder belongs to a key: a file in it says to which.  So a contact that is renamed keeps its folder, one that was
   cut goes on in it, and people may give folders other names.
3. A contact with a folder named in the configuration gets that one.
4. No folder is another one or lies in it, and none lies in the private directory, but for ``inbox``, or around it: what
   a contact sends becomes no entry of the queue.

The names of contacts are as :mod:`p2pxfer.core.names` has them, so they are names of directories everywhere here: no
separator, no dot in front.  No sender can write the file: names that begin so are refused in manifests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Final

from msgspec.structs import replace

from p2pxfer.core.ids import PeerId
from p2pxfer.core.text import path_text
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.pathrules import STAGING_PREFIX
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import ConfigError, DiskError, Refused
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.private.identity import make_private_directory, sync_directory
from p2pxfer.net.private.wholefile import replace_whole
from p2pxfer.net.staging.partials import Destination, remember
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.net.transfer.oldversions import OldVersions
from p2pxfer.net.transfer.places import Sink, Storage

INBOX: Final = "inbox"
"""The only part of the private directory that files of contacts may be in."""
OWNER: Final = f"{STAGING_PREFIX}contact"
"""The file that says whose folder it is."""
MAX_SAME: Final = 100
"""Most folders for contacts that had one name after another."""
MAX_FOLDERS: Final = 10_000
"""Most entries of the inbox that are looked at."""


class ContactFolders:
    """The folders below ``inbox``, and ``others`` by name or id of a contact, as the configuration has it."""

    def __init__(self, home: Home, inbox: Path, others: Mapping[str, Path], used: Destination) -> None:
        """``used``: what is remembered of a folder into which something came, apart from its path.

        Raises:
            ConfigError: a folder cannot be made, or may not be where it is, or a contact has two; or there is no key.
        """
        for contact in home.contacts():
            if contact.name in others and str(contact.id) in others:
                raise ConfigError(f"folders.{contact.name}: there is another folder for this contact, by its id")
        self._home = home
        self.owner = home.identity().id.digest
        """Of the identity that receives."""
        self._inbox = inbox
        self._others = dict(others)
        self._used = used
        self._one = Lock()
        folders = {"inbox": inbox, **{f"folders.{who}": folder for who, folder in self._others.items()}}
        _check_apart(home.path.resolve(), folders)
        for name, folder in folders.items():
            _make(folder, name)

    def place(self, key: bytes) -> ContactPlace:
        """Where files of the contact with this key go, from now on."""
        return ContactPlace(self, key)

    def folder(self, key: bytes) -> Path:
        """The directory of the contact with this key, made if need be; blocks.

        Raises:
            Refused: it is no contact any more.
            DiskError: there can be no such directory.
            ConfigError: the contacts cannot be read.
        """
        contact = self._home.contact_by_id(PeerId(key))
        if contact is None:
            raise Refused("no files are taken from this machine")
        # Two transfers that begin together ask in two threads.
        with self._one:
            found = self._others.get(str(contact.id)) or self._others.get(contact.name) or self._own(contact)
            remember(self._home.path, replace(self._used, path=str(found)))
        return found

    def _own(self, contact: Contact) -> Path:
        try:
            return self._found(contact) or self._begun(contact)
        except OSError as error:
            where = path_text(error.filename or self._inbox)
            raise DiskError(f"the folder {where} cannot be used: {error.strerror or error}") from error

    def _found(self, contact: Contact) -> Path | None:
        """The folder that says that it is this contact's, the one of its name first."""
        first = self._inbox / contact.name
        if _owner(first) == str(contact.id):
            return first
        return next((folder for folder in self._others_here() if _seen_owner(folder) == str(contact.id)), None)

    def _others_here(self) -> Iterator[Path]:
        with os.scandir(self._inbox) as entries:
            yield from (Path(entry.path) for entry in islice(entries, MAX_FOLDERS))

    def _begun(self, contact: Contact) -> Path:
        """The first folder of its name that is nobody's, from now on this contact's."""
        for number in range(1, MAX_SAME + 1):
            folder = self._inbox / (contact.name if number == 1 else f"{contact.name}-{number}")
            if not folder.exists():
                folder.mkdir(0o700)
            elif _seen_owner(folder):
                continue
            _give(folder, contact.id)
            return folder
        raise DiskError(f"all folders for {contact.name} belong to other contacts")


def _give(folder: Path, owner: PeerId) -> None:
    """Make it the folder of ``owner`` before anything comes into it, whatever crashes afterwards."""
    replace_whole(folder / OWNER, f"{owner}\n".encode())
    sync_directory(folder.parent)


def _owner(folder: Path) -> str:
    """Whose folder it is; empty if nobody's, which a marker that says nothing does not make it."""
    try:
        with (folder / OWNER).open("rb") as file:
            return file.read(200).decode("ascii", "replace").strip() or "whoever a crash made forgotten"
    except FileNotFoundError:
        return ""
    except NotADirectoryError:
        return "a file of this name"


def _seen_owner(folder: Path) -> str:
    """The same of a folder that is not looked at for its name: one that cannot be read, as ``lost+found``, is somebody
    else's, and shuts out nobody.
    """
    try:
        return _owner(folder)
    except OSError:
        return "who cannot be read"


def _check_apart(private: Path, folders: Mapping[str, Path]) -> None:
    """Law 4, of folders by their keys in the configuration; raises :class:`ConfigError`."""
    used: dict[Path, str] = {}
    for key, folder in folders.items():
        shown = f"{key}: the directory {path_text(folder)}"
        try:
            real = folder.resolve()
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"{shown} cannot be used: its links lead nowhere") from error
        if real.is_relative_to(private) and not real.is_relative_to(private / INBOX):
            raise ConfigError(f"{shown} is in the private directory, where files go into {INBOX} only")
        if private.is_relative_to(real):
            raise ConfigError(f"{shown} has the private directory in it")
        if real in used:
            raise ConfigError(f"{shown} is that of {used[real]} too")
        used[real] = key
    for real, key in used.items():
        for around in real.parents:
            if around in used:
                where = path_text(folders[key])
                raise ConfigError(f"{key}: the directory {where} is in that of {used[around]}")


def _make(folder: Path, key: str) -> None:
    try:
        make_private_directory(folder)
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(f"{key}: the directory {path_text(folder)} cannot be made: {why}") from error


class ContactPlace:
    """The folder of one contact, as a :class:`~p2pxfer.net.transfer.places.Place`: looked up when it is first used."""

    def __init__(self, folders: ContactFolders, key: bytes) -> None:
        self._folders = folders
        self._key = key
        self._folder: Folder | None = None

    def _there(self) -> Folder:
        if self._folder is None:
            self._folder = Folder(str(self._folders.folder(self._key)), self._folders.owner)
        return self._folder

    @property
    def shown(self) -> str:
        """See :class:`~p2pxfer.net.transfer.places.Place`; empty while nothing came."""
        return self._folder.shown if self._folder is not None else ""

    def check(self, manifest: Manifest, page: int) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Place`."""
        self._there().check(manifest, page)

    def open(self, sender: bytes, manifest: Manifest, announced: Announced, relisted: bool) -> Storage:
        """See :class:`~p2pxfer.net.transfer.places.Place`."""
        return self._there().open(sender, manifest, announced, relisted)

    def older(self, sender: bytes, manifest: Manifest, asked: bool) -> OldVersions | None:
        """See :class:`~p2pxfer.net.transfer.places.Place`."""
        return self._there().older(sender, manifest, asked)

    def check_stream(self, name: str) -> None:
        """See :class:`~p2pxfer.net.transfer.places.Place`."""
        self._there().check_stream(name)

    def open_stream(self, name: str) -> Sink:
        """See :class:`~p2pxfer.net.transfer.places.Place`."""
        return self._there().open_stream(name)
