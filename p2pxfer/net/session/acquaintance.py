"""Whose key the receiver of a job must have, and how it is proved where nobody has verified it yet.

Laws of this file:

1. A key that was verified before is the only one that the peer may have.
2. Where a code is to prove the key, the first introduction names the one that has to prove it; another key that the
   server names later is an impostor's or a mistake, and either way nothing is sent to it.
3. One code is tried on one path at a time, and on another one only if the peer can do nothing at present and has not
   answered it yet: no guess was made then.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pxfer.core.codec import Message
from p2pxfer.core.contact.pairing import Party
from p2pxfer.core.ids import PeerId
from p2pxfer.core.reported import not_now
from p2pxfer.errors import CodeNeeded, IdentityMismatch, P2pxferError, ProtocolBreach, Refused
from p2pxfer.net.session.firstcontact import FirstContact
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.seeking import Target
from p2pxfer.net.types import Reactor


class Acquaintance:
    """What one job knows of its peer; ``own`` is this side in a pairing.

    ``met(key)`` is called when a code was proved, after ``on_paired(key, name)``; ``failed`` when it was not.
    ``forgotten(text)`` is told once that the peer has forgotten this machine, where there is a code to prove.
    """

    def __init__(
        self,
        reactor: Reactor,
        own: Party,
        target: Target,
        *,
        on_paired: Callable[[bytes, str], None],
        met: Callable[[bytes], None],
        failed: Callable[[P2pxferError], None],
        forgotten: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._own = own
        self._target = target
        self._on_paired = on_paired
        self._met = met
        self._failed = failed
        self._forgotten = forgotten
        self.key: bytes | None = None if target.verified == "code" else target.key
        """The verified key of the peer."""
        self._claimed: bytes | None = None
        self._spare_code = target.code if target.verified == "contact" else None
        self._proves_again = False
        self._pairing: tuple[PeerPath, FirstContact] | None = None

    def introduced(self, key: bytes) -> None:
        """The server presents a peer with this key.

        Raises:
            IdentityMismatch: it is not the one that the peer must have.
        """
        expected = self.key or self._target.key or self._claimed
        self._claimed = key
        if expected is not None and key != expected:
            raise IdentityMismatch(
                f"the server presents {PeerId(key)} as {self._target.shown}, but {PeerId(expected)}"
                " was verified before; nothing was sent. If the peer changed its key on purpose, remove the contact and"
                " pair again"
            )

    def prove(self, path: PeerPath) -> None:
        """Prove the code on ``path``, unless that is under way on another one."""
        if self._pairing is not None:
            return
        code = self._target.code
        assert code is not None
        key = path.peer_key
        contact = FirstContact(self._reactor, path, self._own, Party(path.peer_name, key), self._verdict)
        self._pairing = (path, contact)
        contact.enter(code)

    def _verdict(self, error: P2pxferError | None) -> None:
        assert self._pairing is not None
        path, contact = self._pairing
        self._pairing = None
        if error is None and contact.both is not None:
            error = Refused("the other side wants words compared first, which is for pair and not for files")
        if error is not None:
            if not not_now(error):
                self._failed(error)
            return
        self.key = path.peer_key
        self._on_paired(path.peer_key, path.peer_name)
        self._met(path.peer_key)

    def receive(self, path: PeerPath, message: Message) -> None:
        """A pairing message came on ``path``.

        Raises:
            ProtocolBreach: nothing is being proved there.
            WrongCode: the other side does not know the code.
        """
        if self._pairing is None or path is not self._pairing[0]:
            raise ProtocolBreach("a pairing message came outside a pairing")
        self._pairing[1].receive(message)

    def lost(self, path: PeerPath, error: P2pxferError) -> None:
        """A path is gone, for this reason."""
        if self._pairing is not None and path is self._pairing[0]:
            self._pairing[1].lost(error if not_now(error) else None)

    def may_prove_again(self, error: P2pxferError) -> bool:
        """True if the peer has forgotten this machine, and the user gave a code beside the contact's name.

        Every path on which files had been offered by then says so.
        """
        if not isinstance(error, CodeNeeded) or self._spare_code is None:
            return False
        if not self._proves_again:
            self._proves_again = True
            self.key = None
            self._forgotten(f"{self._target.shown} does not know this machine any more; the code is used")
        return self.key is None
