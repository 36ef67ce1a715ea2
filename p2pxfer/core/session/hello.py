"""The greeting on every path: who meets whom, proved inside the TLS connection that carries it.

Laws of this file:

1. Nothing but Hello, HelloOk and the report of a problem is legal before the peer's HelloOk was verified.
2. The proof is an HMAC under a key from the TLS exporter, whose context is the hash of both Hellos in role order.  So
   it binds both keys, both names, both roles, the path and the introduction to this TLS connection: a
   connection spliced in from elsewhere, reflected, or made with somebody else's key under another name fails
   (unknown key share, RFC 8844).
3. The initiator speaks first, the responder answers with both messages at once: one round trip, and the initiator may
   send behind its HelloOk.
4. HelloOk is the last that a side says in TLS: what follows in its direction are sealed records
   (:mod:`p2pxfer.core.session.records`), under keys bound to the same two Hellos.

Transcript: ``> Hello``, ``< Hello HelloOk``, ``> HelloOk``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from enum import Enum

from msgspec import Struct

from p2pxfer.core.framing import Frame, frame_header
from p2pxfer.core.messages import VERSION, Role
from p2pxfer.core.session.wire import PEER, Hello, HelloOk, PathClass
from p2pxfer.errors import IdentityMismatch, ProtocolBreach

EXPORTER_LABEL = b"EXPORTER-p2pxfer-hello"
PROOF_SIZE = 32


class Terms(Struct, frozen=True):
    """What this side knows before the greeting.

    ``peer_name`` is ``None`` at the responder, which takes the name that the initiator gives itself; ``peer_key`` is
    the SHA-256 of the SubjectPublicKeyInfo that the introduction or the contact list promised.
    """

    role: Role
    introduction: bytes
    path: PathClass
    my_name: str
    peer_name: str | None
    my_key: bytes
    peer_key: bytes
    random: bytes


def keys_by_role(terms: Terms) -> tuple[bytes, bytes]:
    """The keys of the initiator and of the responder."""
    keys = terms.my_key, terms.peer_key
    return keys if terms.role == "initiator" else keys[::-1]


class _State(Enum):
    WAITING_HELLO = "the peer's Hello is awaited"
    WAITING_PROOF = "the peer's HelloOk is awaited"
    GREETED = "both sides proved who they are"


class Greeting:
    """One side of the greeting on one path.

    ``export(context)`` returns :data:`PROOF_SIZE` bytes of the TLS exporter under :data:`EXPORTER_LABEL`.
    """

    def __init__(self, terms: Terms, export: Callable[[bytes], bytes]) -> None:
        self._terms = terms
        self._export = export
        self._state = _State.WAITING_HELLO
        self._my_frame = b""
        self._key = b""
        self.peer_name = ""
        self.transcript = b""
        """SHA-256 of both Hellos in role order, once both are known."""
        self.said_ok = False
        """This side's HelloOk was handed out: nothing of this side may follow it in TLS."""

    @property
    def greeted(self) -> bool:
        """True once the peer's proof was verified."""
        return self._state is _State.GREETED

    def start(self) -> bytes:
        """Bytes to send when TLS stands: the initiator's Hello, nothing at the responder."""
        if self._terms.role == "responder":
            return b""
        peer_name = self._terms.peer_name or ""
        self._my_frame = PEER.encode(self._hello(peer_name))
        return self._my_frame

    def receive(self, frame: Frame) -> bytes:
        """Take one frame, return bytes to send.

        Raises:
            FrameError: malformed.
            ProtocolBreach: not legal now, or other terms than ours.
            IdentityMismatch: other keys or names than ours, or a wrong proof.
        """
        message = PEER.decode(frame)
        match self._state, message:
            case _State.WAITING_HELLO, Hello():
                return self._take_hello(message, frame)
            case _State.WAITING_PROOF, HelloOk():
                expected = self._proof("responder" if self._terms.role == "initiator" else "initiator")
                if not hmac.compare_digest(message.mac, expected):
                    raise IdentityMismatch("the peer's greeting does not belong to this connection")
                self._state = _State.GREETED
                return self._ok() if self._terms.role == "initiator" else b""
            case _:
                raise ProtocolBreach(f"{type(message).__name__} came while {self._state.value}")

    def _take_hello(self, theirs: Hello, frame: Frame) -> bytes:
        self._check(theirs)
        reply = b""
        if self._terms.role == "responder":
            self._my_frame = reply = PEER.encode(self._hello(theirs.my_name))
        self.peer_name = theirs.my_name
        # The hash is over the frames as they travelled, so fields added by a later version are bound as well.
        their_frame = frame_header(frame.kind, len(frame.body)) + bytes(frame.body)
        pair = [self._my_frame, their_frame] if self._terms.role == "initiator" else [their_frame, self._my_frame]
        self.transcript = hashlib.sha256(b"".join(pair)).digest()
        self._key = self._export(self.transcript)
        self._state = _State.WAITING_PROOF
        return reply + self._ok() if self._terms.role == "responder" else b""

    def _check(self, theirs: Hello) -> None:
        terms = self._terms
        if theirs.version != VERSION:
            raise ProtocolBreach(f"the peer speaks version {theirs.version} of the peer protocol, this is {VERSION}")
        if theirs.my_key == terms.my_key:
            raise IdentityMismatch("the other end of the connection is this machine itself")
        if not hmac.compare_digest(theirs.my_key, terms.peer_key) or theirs.your_key != terms.my_key:
            raise IdentityMismatch("the peer's greeting names other keys than this connection has")
        if theirs.role == terms.role or theirs.path != terms.path or theirs.introduction != terms.introduction:
            raise ProtocolBreach("the peer's greeting belongs to another introduction or path")
        if theirs.your_name not in ("", terms.my_name):
            raise IdentityMismatch("the peer asked for another name than this machine has")
        if terms.role == "initiator" and terms.peer_name and theirs.my_name != terms.peer_name:
            raise IdentityMismatch("the peer does not have the name that was asked for")

    def _hello(self, peer_name: str) -> Hello:
        terms = self._terms
        return Hello(
            version=VERSION,
            introduction=terms.introduction,
            role=terms.role,
            path=terms.path,
            my_name=terms.my_name,
            your_name=peer_name,
            my_key=terms.my_key,
            your_key=terms.peer_key,
            random=terms.random,
        )

    def _ok(self) -> bytes:
        self.said_ok = True
        return PEER.encode(HelloOk(mac=self._proof(self._terms.role)))

    def _proof(self, role: Role) -> bytes:
        return hmac.digest(self._key, b"ok " + role.encode("ascii"), "sha256")
