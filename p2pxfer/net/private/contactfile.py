"""The contacts as they are stored, in every version of the file that was ever written.

A file of an older version is read, and becomes one of the present version with the next change; one of a newer version
is refused by :mod:`p2pxfer.net.private.home`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from p2pxfer.core.contact.rights import Right
from p2pxfer.core.ids import PeerId, parse_id
from p2pxfer.core.names import check_name

CONTACTS_SCHEMA: Final = 2
"""Version of the file: 2 knows what each contact is denied."""

How = Literal["id", "code", "words"]


_STRENGTH: Final = {"id": 0, "code": 1, "words": 2}


class Contact(Struct, frozen=True):
    """A peer whose key was verified: by a one-time ``code``, its ``id`` that was typed in, or ``words`` compared.

    ``name`` is a legal registered name, ``added`` the ISO date of that, such as ``2026-11-20``.
    """

    name: str
    id: PeerId
    verified: How
    added: str
    denied: frozenset[Right] = frozenset()

    def is_weaker_than(self, how: How) -> bool:
        """Whether that would prove more: an id less than a code, a code less than words over a session."""
        return _STRENGTH[self.verified] < _STRENGTH[how]

    def allows(self, right: Right) -> bool:
        """Whether this contact may do that with this machine."""
        return right not in self.denied


class _Entry1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    id: str
    verified: How
    added: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class _Entry(_Entry1, frozen=True, forbid_unknown_fields=True):
    denied: tuple[Right, ...] = ()


class _File1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    contacts: list[_Entry1] = []


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    contacts: list[_Entry] = []


def read_contacts(data: bytes, schema: int) -> list[Contact]:
    """The contacts in the order of their names; ``schema`` is the version that the file says it has.

    Raises:
        ValueError: the file is damaged.
        P2pxferError: a name or an id in it is none.
    """
    if schema == 1:
        older = msgspec.json.decode(data, type=_File1)
        entries = [_Entry(e.name, e.id, e.verified, e.added) for e in older.contacts]
    else:
        entries = msgspec.json.decode(data, type=_File).contacts
    found = [Contact(check_name(e.name), parse_id(e.id), e.verified, e.added, frozenset(e.denied)) for e in entries]
    if len({c.name for c in found}) < len(found) or len({c.id for c in found}) < len(found):
        raise ValueError("a name or a key occurs twice")
    return sorted(found, key=_by_name)


def contacts_file(contacts: Iterable[Contact]) -> msgspec.Struct:
    """What is to be written."""
    entries = [
        _Entry(c.name, str(c.id), c.verified, c.added, tuple(sorted(c.denied))) for c in sorted(contacts, key=_by_name)
    ]
    return _File(CONTACTS_SCHEMA, entries)


def _by_name(contact: Contact) -> str:
    return contact.name
