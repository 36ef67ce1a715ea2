"""The client's private directory: its identity, its settings, and the contacts whose keys were verified.

Laws:

1. Everything is private from its first moment: the directory 0700, the files 0600.
2. A file is replaced whole and durably, and the one before stays beside it as ``*.bak``. A reader sees the old one or
   the new one.
3. A contact's key is never replaced. Another key under a known name is an error until somebody removes the contact.
4. A file that is damaged, or written by a newer version, is left alone and reported.

Several processes may use one directory at once. All functions block for a few milliseconds: call them at start-up or in
a thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import platformdirs
from msgspec import Struct
from msgspec.structs import replace

from p2pxfer.core.contact.rights import Right
from p2pxfer.core.ids import PeerId
from p2pxfer.core.names import check_contact_name
from p2pxfer.core.text import path_text, safe_text
from p2pxfer.errors import ConfigError, IdentityMismatch, P2pxferError, UsageError
from p2pxfer.net.private.contactfile import CONTACTS_SCHEMA, Contact, contacts_file, read_contacts
from p2pxfer.net.private.filelocks import locked
from p2pxfer.net.private.identity import Identity, load_or_make, make_private_directory
from p2pxfer.net.private.keyfile import KEY_FILE
from p2pxfer.net.private.unwritten import unwritten
from p2pxfer.net.private.wholefile import replace_whole, version_of

__all__ = ["Contact", "Home", "Settings", "default_home"]

SETTINGS_SCHEMA: Final = 2
"""Version of the settings' file; a newer one is refused.  2 knows whether chats are kept."""
LOCK: Final = "lock"
"""Whoever changes a file in the directory has the lock of this one."""
_Content = TypeVar("_Content")


class Settings(Struct, frozen=True):
    """What ``init`` stores: the server as typed (``host:port`` or ``host:port#pin``) and this machine's name.

    ``history``: what is said in chats is kept.
    """

    server: str | None = None
    name: str | None = None
    history: bool = True


class _SettingsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    server: str | None = None
    name: str | None = None


class _SettingsFile2(_SettingsFile, frozen=True, forbid_unknown_fields=True):
    history: bool = True


def default_home(environment: Mapping[str, str]) -> Path:
    """``P2PXFER_HOME``, or the place where the platform keeps a user's application data."""
    named = environment.get("P2PXFER_HOME")
    return Path(named) if named else Path(platformdirs.user_data_dir("p2pxfer"))


class Home:
    """One private directory; making the object creates the directory.

    Raises:
        ConfigError: the directory cannot be made, others may write in it, or it is another user's: what the
            superuser makes in it, its owner could not open any more.
        DiskError: the disk is full or failed; that also holds for all that writes here.
        DiskError: the disk is full or failed; so for all that writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            make_private_directory(self.path)
            status = self.path.stat()
        except OSError as error:
            raise unwritten(error, f"cannot use {path_text(self.path)} as home") from error
        where = path_text(self.path)
        if status.st_uid != os.geteuid():
            raise ConfigError(
                f"the home directory {where} belongs to another user (number {status.st_uid}); run this as that user"
            )
        if status.st_mode & 0o022:
            raise ConfigError(f"others may write in the home directory {where}; run: chmod 700 {where}")

    def identity(self) -> Identity:
        """This machine's key; made on the first call.  Raises :class:`ConfigError`."""
        return load_or_make(self.path / KEY_FILE)

    # -- settings ------------------------------------------------------------------------------------------------

    def settings(self) -> Settings:
        """The stored settings; empty ones when nothing was stored.  Raises :class:`ConfigError`."""
        return self._read("settings.json", SETTINGS_SCHEMA, _settings) or Settings()

    def save_settings(self, settings: Settings) -> None:
        """Replace the stored settings.  Raises :class:`ConfigError`."""
        with self._locked():
            self.settings()
            self._replace(
                "settings.json", _SettingsFile2(SETTINGS_SCHEMA, settings.server, settings.name, settings.history)
            )

    # -- contacts ------------------------------------------------------------------------------------------------

    def contacts(self) -> list[Contact]:
        """All contacts in the order of their names.  Raises :class:`ConfigError`."""
        return self._read("contacts.json", CONTACTS_SCHEMA, read_contacts) or []

    def contact(self, name: str) -> Contact | None:
        """The contact of that name.  Raises :class:`ConfigError`."""
        return next((contact for contact in self.contacts() if contact.name == name), None)

    def contact_by_id(self, peer: PeerId) -> Contact | None:
        """The contact with that key.  Raises :class:`ConfigError`."""
        return next((contact for contact in self.contacts() if contact.id == peer), None)

    def add_contact(self, contact: Contact) -> Contact:
        """Store a verified key; returns the contact as it stands afterwards.

        A key that is known already stays under the name it has; a code, or words, make its verification stronger, of
        that day.

        Raises:
            IdentityMismatch: the name belongs to another key.
            NameInvalid: the name is not a legal one.
            UsageError: the key is this machine's own.
            ConfigError: the store cannot be used.
        """
        check_contact_name(contact.name)
        if contact.id == self.identity().id:
            raise UsageError("this is this machine's own id; a contact is somebody else, who shows it with p2pxfer id")
        with self._locked():
            known = self.contacts()
            named = next((other for other in known if other.name == contact.name), None)
            if named is not None and named.id != contact.id:
                raise IdentityMismatch(
                    f"{named.name} is a contact with the key {named.id}, not {contact.id}; "
                    "if the new key is right, remove the contact first"
                )
            same = next((other for other in known if other.id == contact.id), None)
            if same is not None:
                if not same.is_weaker_than(contact.verified):
                    return same
                contact = replace(same, verified=contact.verified, added=contact.added)
            self._save([other for other in known if other is not same] + [contact])
            return contact

    def withdraw_words(self, before: Contact) -> None:
        """Words that were said to be the same were not: what is proved of the contact is what it was ``before``.

        Its name and rights stay; one that was removed meanwhile does not come back.  Raises :class:`ConfigError`.
        """
        with self._locked():
            known = self.contacts()
            same = next((other for other in known if other.id == before.id), None)
            if same is not None and same.verified == "words":
                weaker = replace(same, verified=before.verified, added=before.added)
                self._save([other for other in known if other is not same] + [weaker])

    def rename_contact(self, old: str, new: str) -> Contact:
        """Give a contact another name.

        Raises:
            UsageError: there is no such contact, or the new name is taken or not a legal one.
            ConfigError: the store cannot be used.
        """
        check_contact_name(new)
        with self._locked():
            known = self.contacts()
            contact = _find(known, old)
            if new != old and any(other.name == new for other in known):
                raise UsageError(f"{new} is another contact already")
            renamed = replace(contact, name=new)
            self._save([other for other in known if other is not contact] + [renamed])
            return renamed

    def set_rights(self, name: str, rights: Iterable[Right], allowed: bool) -> Contact:
        """Allow or deny these rights to a contact, and leave its others; returns the contact as it is then.

        Raises:
            UsageError: there is no such contact.
            ConfigError: the store cannot be used.
        """
        with self._locked():
            known = self.contacts()
            contact = _find(known, name)
            denied = contact.denied.difference(rights) if allowed else contact.denied.union(rights)
            changed = replace(contact, denied=denied)
            self._save([other for other in known if other is not contact] + [changed])
            return changed

    def remove_contact(self, name: str) -> Contact:
        """Forget a contact; returns what was forgotten.

        Raises:
            UsageError: there is no such contact.
            ConfigError: the store cannot be used.
        """
        with self._locked():
            known = self.contacts()
            contact = _find(known, name)
            self._save([other for other in known if other is not contact])
            return contact

    def _save(self, contacts: list[Contact]) -> None:
        self._replace("contacts.json", contacts_file(contacts))

    # -- files ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from changing files between a read and the write that follows from it."""
        with ExitStack() as lock:
            try:
                lock.enter_context(locked(self.path / LOCK))
            except OSError as error:
                raise unwritten(error, f"cannot lock {path_text(self.path)}") from error
            yield

    def _read(self, name: str, newest: int, decode: Callable[[bytes, int], _Content]) -> _Content | None:
        """The checked content of a file; ``None`` if there is no such file.  ``decode`` gets its version too."""
        path = self.path / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"cannot read {path_text(path)}: {error.strerror}") from error
        try:
            return decode(data, version_of(data, newest, path_text(path)))
        except ConfigError:
            raise
        except (msgspec.MsgspecError, ValueError, RecursionError, P2pxferError) as error:
            raise self._damaged(name, error) from error

    def _replace(self, name: str, content: msgspec.Struct) -> None:
        """Replace a file whole and durably; the one before becomes the backup."""
        path = self.path / name
        data = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
        try:
            if path.exists():
                self._keep_backup(path)
            replace_whole(path, data)
        except OSError as error:
            raise unwritten(error, f"cannot write {path_text(path)}") from error

    def _keep_backup(self, path: Path) -> None:
        """A second name for the file that is about to be replaced; it was read without complaint just now."""
        link = self.path / f".{path.name}.bak"
        link.unlink(missing_ok=True)
        link.hardlink_to(path)
        link.replace(_backup(path))

    def _damaged(self, name: str, error: Exception) -> ConfigError:
        path = self.path / name
        hint = f"; the version before it is {path_text(_backup(path))}" if _backup(path).exists() else ""
        return ConfigError(f"{path_text(path)} is damaged ({safe_text(str(error), 200)}){hint}")


def _backup(path: Path) -> Path:
    return path.with_name(path.name + ".bak")


def _settings(data: bytes, schema: int) -> Settings:
    if schema == 1:
        older = msgspec.json.decode(data, type=_SettingsFile)
        return Settings(older.server, older.name)
    stored = msgspec.json.decode(data, type=_SettingsFile2)
    return Settings(stored.server, stored.name, stored.history)


def _find(contacts: list[Contact], name: str) -> Contact:
    """The contact of that name, or :class:`UsageError`."""
    for contact in contacts:
        if contact.name == name:
            return contact
    raise UsageError(f"there is no contact {safe_text(name, 64)}")
