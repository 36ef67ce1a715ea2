"""Where a connection over a session leads: a peer and a service, in place of a host and a port."""

from __future__ import annotations

from msgspec import Struct
from twisted.internet.interfaces import IAddress
from zope.interface import implementer


@implementer(IAddress)
class PeerAddress(Struct, frozen=True):
    """One end of a connection: ``name`` is the contact's name here, ``None`` for a mere id and for this machine.

    ``id`` is the text of the peer id, which the keys of the session proved.
    """

    id: str
    name: str | None
    service: str
