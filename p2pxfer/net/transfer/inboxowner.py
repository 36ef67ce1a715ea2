"""What an inbox asks of the command that runs it, and what it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol as Interface

from msgspec import Struct

from p2pxfer.errors import P2pxferError, Refused
from p2pxfer.net.session.bothsame import BothSame
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.instream import IncomingStream
from p2pxfer.status import Offer, Verified

Brought = IncomingTransfer | IncomingStream
"""What a path of a peer carries."""


class Known(Struct, frozen=True):
    """What the contact list says of a key; ``files``: whether it may offer any."""

    name: str
    verified: Verified
    files: bool = True


class InboxOwner(Interface):
    """What an inbox asks of the command that runs it."""

    compares: bool = False
    """Whether the users are to compare words before whoever proves a code becomes a contact."""

    @property
    def unread(self) -> str:
        """Why :meth:`known` could not look when it was last asked, empty if it could: then nobody new is met."""
        return ""

    def known(self, key: bytes) -> Known | None:
        """The contact with this key."""
        ...

    def paired(self, key: bytes, name: str, words: Callable[[], tuple[str, ...]]) -> Known:
        """A code was proved by this key: store the contact and return it.

        ``words`` gives those of the connection, which people may compare, while it stands.
        """
        ...

    def to_compare(self, key: bytes, name: str, both: BothSame) -> None:
        """A code was proved by this key, and one of the two users wants words compared before :meth:`paired` holds."""
        raise Refused("nobody compares words here")

    def compared(self, path: PeerPath, peer: str) -> None:
        """The peer shows its user the words of this path, to be compared."""
        raise Refused("nobody is there to compare words with")

    def path_ends(self, path: PeerPath, peer: str, error: P2pxferError, brought: Brought | None) -> None:
        """A path of ``peer``, which ``brought`` this, is about to be told as gone, for this reason."""
        return

    def path_gone(self, path: PeerPath) -> None:
        """A path is gone, and its words with it."""
        return

    def code_tried(self, path: PeerPath) -> None:
        """Whoever is at the other end of ``path`` tried a code; :meth:`code_used` follows."""
        return

    def code_used(self, error: P2pxferError | None) -> None:
        """A code was used up, with success or by a wrong try."""
        ...

    def decide(self, peer: str, offer: Offer) -> Awaitable[bool]:
        """Whether to take the transfer or stream whose ``offer`` is this very object now.

        The answer may be an :class:`~p2pxfer.errors.IdentityMismatch`: no, since the words differ.
        """
        ...

    def transfer_started(self, peer: str, transfer: Brought, paths: PathSet) -> None:
        """A transfer or a stream appeared; its ``done`` tells the end."""
        ...
