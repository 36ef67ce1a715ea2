"""The words that two people compare, from the connection of one path."""

from __future__ import annotations

from p2pxfer.core.contact.compare import LABEL, SECRET_BYTES, Words, context, words_of
from p2pxfer.core.session.hello import keys_by_role
from p2pxfer.net.session.path import PeerPath


def words_on(path: PeerPath) -> Words:
    """The words of this path's connection, which two people may compare."""
    return words_of(path.export(LABEL, context(*keys_by_role(path.terms)), SECRET_BYTES))
