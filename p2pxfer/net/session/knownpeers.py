"""Who PEER on a command line is, or in a program; nothing here imports Twisted before it must."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from p2pxfer.core.ids import PREFIX, PeerId, parse_id
from p2pxfer.core.names import check_name, normalise_name
from p2pxfer.core.text import safe_text
from p2pxfer.errors import ConfigError, IdInvalid, Refused, UsageError
from p2pxfer.status import Verified

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2pxfer.core.contact.rights import Right
    from p2pxfer.net.private.home import Contact, Home

_FEW: Final = 5
"""So many contacts are named to somebody who names none of them."""


class ContactsNow:
    """The contacts as they are stored at each moment, for a run that goes on where they cannot be read.

    Nobody is one then; ``unread`` hears why, once until they can be read again.
    """

    def __init__(self, home: Home, unread: Callable[[str], None]) -> None:
        self._home = home
        self._unread = unread
        self.trouble = ""
        """Why they could not be read when they were last asked for; empty if they could."""

    def by_key(self, key: bytes) -> Contact | None:
        """The contact with this key; raises nothing."""
        before, self.trouble = self.trouble, ""
        try:
            return self._home.contact_by_id(PeerId(key))
        except ConfigError as error:
            self.trouble = error.message
        if self.trouble != before:
            self._unread(f"nobody is let in: {self.trouble}")
        return None


class KnownPeer(Struct, frozen=True):
    """A machine whose key is known: ``name`` is the contact's name here, ``None`` where only the id is known."""

    key: bytes
    name: str | None
    verified: Verified

    @property
    def id(self) -> str:
        """The text of the peer id."""
        return str(PeerId(self.key))

    @property
    def shown(self) -> str:
        """For sentences."""
        return self.name or self.id[:13]


def as_id(text: str) -> PeerId | None:
    """The id that ``text`` is, ``None`` if it is a name.

    Raises:
        UsageError: it looks like an id and is none.
    """
    if not text.lower().startswith(f"{PREFIX}-"):
        return None
    try:
        return parse_id(text)
    except IdInvalid as error:
        raise UsageError(error.message) from error


def look_up(home: Home, peer: str) -> tuple[PeerId | None, str, Contact | None]:
    """What ``peer`` says, its id or else its name as names are written, and the contact that it is, if there is one.

    Raises:
        UsageError: it is neither an id nor a name.
    """
    number = as_id(peer)
    name = "" if number is not None else check_name(normalise_name(peer))
    return number, name, home.contact(name) if number is None else home.contact_by_id(number)


def itself(peer: str) -> UsageError:
    """The error of whoever names this very machine."""
    return UsageError(
        f"{safe_text(peer, 100)} is this machine itself; to try both sides on one machine give each a private directory"
        " of its own, with --home before the command"
    )


def check_other(home: Home, peer: str) -> None:
    """Fail where ``peer`` is this machine itself: by its id, or by the name that ``init`` stored.

    A contact may be called so here.  The user's name, which a machine has without ``init``, may be that of both.

    Raises:
        UsageError: it is, or it is neither an id nor a name.
    """
    number, name, contact = look_up(home, peer)
    if contact is None and (home.identity().id == number if number is not None else home.settings().name == name):
        raise itself(peer)


def near(home: Home, name: str) -> str:
    """A question whether one of the contacts with names like ``name`` was meant; empty where there are none."""
    from difflib import get_close_matches

    found = get_close_matches(name, [contact.name for contact in home.contacts()], n=3)
    return f"did you mean {' or '.join(found)}?" if found else ""


def meant_by(home: Home, name: str) -> str:
    """Which contacts may be meant by ``name``, which is none: those that are called so nearly, or else the first few.

    Empty where there is no contact at all.
    """
    called = [contact.name for contact in home.contacts()]
    more = len(called) - _FEW
    rest = f" and {more} more, which p2pxfer contacts lists" if more > 0 else ""
    return near(home, name) or (f"contacts are: {', '.join(called[:_FEW])}{rest}" if called else "")


def not_a_contact(home: Home, name: str) -> str:
    """That ``name`` is none, as the beginning of a sentence, with those that may be meant."""
    meant = meant_by(home, name)
    return f"{name} is not a contact ({meant})" if meant else f"{name} is not a contact"


def contacts_only(home: Home, name: str, what: str) -> str:
    """That ``name`` is no contact and that ``what``, the beginning of a sentence, is for them; what makes one."""
    return f"{not_a_contact(home, name)}, and {what}: p2pxfer pair makes one, and so does a first send with a code"


def known_peer(home: Home, peer: str, what: str, right: Right | None = None) -> KnownPeer:
    """The contact ``peer``, by its name or id, or whoever has that id; ``what`` is to be done with it.

    ``right`` is what the contact must be allowed here for that.

    Raises:
        UsageError: it is this machine itself, or no contact: no code is used, and a receiver answers nobody else.
        Refused: it is denied that.
    """
    check_other(home, peer)
    number, name, contact = look_up(home, peer)
    if contact is not None:
        if right is not None and not contact.allows(right):
            raise Refused(f"{contact.name} is denied {right} here; p2pxfer contacts allow {contact.name} {right}")
        return KnownPeer(contact.id.digest, contact.name, "contact")
    if number is not None:
        return KnownPeer(number.digest, None, "id")
    raise UsageError(contacts_only(home, name, f"{what} is made between contacts only"))
