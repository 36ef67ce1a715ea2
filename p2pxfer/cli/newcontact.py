"""A peer was verified: it becomes a contact, under a name that is free."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from p2pxfer.core.ids import PeerId
from p2pxfer.core.names import suggest_contact_name
from p2pxfer.errors import IdentityMismatch
from p2pxfer.net.private.contactfile import How
from p2pxfer.net.private.home import Contact, Home


def today() -> str:
    """The date of now, as contacts have it."""
    return datetime.now(UTC).date().isoformat()


def store_contact(home: Home, key: bytes, name: str, note: Callable[[str], None], verified: How = "code") -> Contact:
    """Store the peer with this key, which was ``verified`` so, as ``name`` or as the next free name that resembles it.

    ``note`` hears of each name that another contact has.

    Raises:
        IdentityMismatch: a thousand of them are taken.
        ConfigError: the store cannot be used.
    """
    wanted = suggest_contact_name(name)
    for number in range(1, 1000):
        free = wanted if number == 1 else f"{wanted[:28]}-{number}"
        try:
            return home.add_contact(Contact(free, PeerId(key), verified, today()))
        except IdentityMismatch:
            note(f"another contact is called {free} already; that one stays as it is")
    raise IdentityMismatch(f"too many contacts are called {wanted}")
