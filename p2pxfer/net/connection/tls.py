"""TLS 1.3 between two keys: who is accepted, how that is checked, and what a failure means.

Laws of this file:

1. Nobody is accepted by default. A check that raises, or that never ran, is a refusal.
2. Every key is judged twice: inside the handshake by the verify callback, and again after it by :meth:`Creator.judge`.
   Resumed sessions would skip the callback, so there are none either.
3. A pin is compared with the leaf alone: an attacker may append any certificate to the chain.
4. The TLS client is the initiator of the dialogue, whoever dialled: a simultaneous open has no listener.

In TLS 1.3 a client is done before the server has judged the client's certificate (RFC 8446 figure 1), so a handshake
that succeeded here may still be refused there; that refusal arrives as an alert on a later read.
"""

from __future__ import annotations

import errno
import hmac
import os
from abc import ABC, abstractmethod
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from OpenSSL import SSL, crypto
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import ALPN_SERVER
from p2pxfer.core.text import safe_text
from p2pxfer.errors import ConfigError, IdentityMismatch, P2pxferError, ProtocolBreach, Unreachable
from p2pxfer.net.private.identity import Identity, spki_digest

PARTIAL_WRITE: Final = 0x1
"""SSL_MODE_ENABLE_PARTIAL_WRITE of OpenSSL, which pyOpenSSL sets and does not name: SSL_write would return after every
record of 16 KiB, and each return costs more in Python than the record in OpenSSL."""
CIPHERS: Final = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""AES-128-GCM first: ten rounds instead of fourteen cost a few per cent less, and X25519 offers 128 bits as well."""
VERSION: Final = "TLSv1.3"
X509_OK: Final = 0
_HARMLESS: Final = frozenset({X509_OK, 9, 10, 18})
"""X509_V_ERR_* that do not matter for a pinned key: not yet valid, expired (clocks jump), self-signed."""
_ABOUT_OUR_KEY: Final = ("certificate", "unknown ca", "access denied", "decrypt error")
"""Words of the alerts with which the other end refuses our certificate (RFC 8446 section 6.2)."""

Octets = bytes | bytearray | memoryview


class Link(SSL.Connection):
    """An OpenSSL connection that remembers what was found out about its other end."""

    refusal: P2pxferError | None = None
    """Why a callback ended the handshake."""
    peer: bytes | None = None
    """SHA-256 of the other end's key, once it was accepted inside and after the handshake."""


class _HandshakeEnded(SSL.Error):
    """Ends a handshake from inside a callback, in the form in which OpenSSL reports its own errors."""

    def __init__(self, reason: str) -> None:
        super().__init__([("p2pxfer", "", reason)])


class Vanished(Unreachable):
    """The other end's system ended a connection, of which its program had not said that it is over: a program that is
    killed ends so.  What only falls silent does not.
    """


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class Creator(ABC):
    """Makes OpenSSL connections for one identity, judges their other ends, and explains their failures.

    One object serves any number of connections in either TLS role.
    """

    _shown = "the connection"
    """What the connections are called in errors."""

    def __init__(self, identity: Identity, alpn: bytes) -> None:
        self._identity = identity
        self.alpn = alpn
        self._contexts: dict[bool, SSL.Context] = {}

    def context(self, is_client: bool) -> SSL.Context:
        """The settings of all connections in one role.

        Raises:
            ConfigError: the identity's key cannot be used for TLS, or there are no trusted roots where they should be.
        """
        context = self._contexts.get(is_client)
        if context is None:
            context = self._contexts[is_client] = self._make_context(is_client)
        return context

    def link(self, is_client: bool) -> Link:
        """A connection ready for its handshake, on memory BIOs."""
        link = Link(self.context(is_client))
        if is_client:
            self._prepare_client(link)
            link.set_connect_state()
        else:
            link.set_accept_state()
        return link

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """A client connection on memory BIOs, for Twisted's TLS wrapper."""
        return self.link(True)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """A server connection on memory BIOs, for Twisted's TLS wrapper."""
        return self.link(False)

    @abstractmethod
    def judge(self, link: Link) -> bytes:
        """The check after the handshake; returns SHA-256 of the other end's key and notes it in ``link.peer``.

        Raises:
            IdentityMismatch: the key is not the expected one.
            ServerUntrusted: the certificate does not prove that it is the server asked for.
            ProtocolBreach: another TLS version, or not this protocol.
        """

    def explain(self, link: Link, reason: BaseException | None) -> P2pxferError:
        """What a connection that ended with ``reason`` means for its user, now that TLS had its say.

        One that merely ended is :class:`~p2pxfer.errors.Unreachable`.
        """
        if link.refusal is not None:
            return link.refusal
        if isinstance(reason, P2pxferError):
            return reason
        text = tls_reason(reason)
        if text is not None:
            return self._failed(link, text)
        kind = Vanished if went_away(reason) else Unreachable
        return kind(f"{self._shown} ended: {end_reason(reason)}")

    @abstractmethod
    def _failed(self, link: Link, text: str) -> P2pxferError:
        """What an error of TLS means, of which ``text`` is what OpenSSL says, in lower case."""

    @abstractmethod
    def _accept(self, certificate: x509.Certificate, error: int, depth: int) -> None:
        """Raise the reason why a certificate is refused inside the handshake.

        ``error`` is OpenSSL's X509_V_ERR_* about it, ``depth`` 0 for the leaf.
        """

    @abstractmethod
    def _unreadable(self, fault: Exception) -> P2pxferError:
        """The refusal that follows from an exception which nobody planned for."""

    def _prepare_client(self, link: Link) -> None:  # noqa: B027  # a hook that may be left out
        """What only the client role sets on a connection."""

    def _trust_store(self, context: SSL.Context) -> None:  # noqa: B027  # a hook that may be left out
        """Load the roots that certificates are checked against, where there are any."""

    def _verify(self, link: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
        """OpenSSL's verify callback: called for each certificate of the chain and for each complaint about it."""
        assert isinstance(link, Link)
        try:
            self._accept(certificate.to_cryptography(), error, depth)
        except P2pxferError as refusal:
            link.refusal = link.refusal or refusal
        except Exception as fault:  # the other end chose these bytes: whatever they break, it is their refusal
            link.refusal = link.refusal or self._unreadable(fault)
        return link.refusal is None

    def _make_context(self, is_client: bool) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_max_proto_version(SSL.TLS1_3_VERSION)
        context.set_tls13_ciphersuites(CIPHERS)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        # An idle connection gives its 34 KiB of record buffers back: a server holds thousands of idle ones.
        context.clear_mode(PARTIAL_WRITE)
        if self.alpn == ALPN_SERVER:
            # Connections to a rendezvous server are many and idle; those between peers are few and busy.
            context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        self._trust_store(context)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        try:
            context.use_certificate(self._identity.certificate)
            for certificate in self._identity.chain:
                context.add_extra_chain_cert(certificate)
            context.use_privatekey(self._identity.key)  # type: ignore[arg-type]  # other kinds raise TypeError
        except (TypeError, SSL.Error) as error:
            raise ConfigError(f"this key cannot be used for TLS: {first_line(error)}") from error
        if is_client:
            context.set_alpn_protos([self.alpn])
        else:
            context.set_alpn_select_callback(self._select_alpn)
        return context

    def _select_alpn(self, link: SSL.Connection, offered: list[bytes]) -> bytes:
        if self.alpn not in offered:
            raise _HandshakeEnded("no application protocol in common")
        return self.alpn


class PeerTLS(Creator):
    """TLS between peers, and a server's TLS towards its clients: Ed25519 keys, a certain one or any.

    ``expected`` is SHA-256 of the one acceptable key, or ``None`` to accept whichever is shown and report it.
    """

    def __init__(self, identity: Identity, expected: bytes | None, alpn: bytes) -> None:
        super().__init__(identity, alpn)
        self._expected = expected

    def judge(self, link: Link) -> bytes:
        """See :meth:`Creator.judge`."""
        link.peer = check_handshake(link, self._expected, self.alpn)
        return link.peer

    def _failed(self, link: Link, text: str) -> P2pxferError:
        """A wrong key is an :class:`IdentityMismatch`, also when the verified other end says so of ours.

        Everything else that ends a connection is :class:`Unreachable`: before the other end is verified, anybody on
        the path may have sent it.
        """
        if "alert" in text and any(word in text for word in _ABOUT_OUR_KEY):
            if link.peer is not None:
                return IdentityMismatch("the other end refuses the key of this machine")
            return Unreachable("the other end, which is not verified, refuses the key of this machine")
        return Unreachable(f"TLS failed: {text}")

    def _accept(self, certificate: x509.Certificate, error: int, depth: int) -> None:
        if depth != 0 or error not in _HARMLESS:
            raise IdentityMismatch("the other end's certificate is not a single self-signed one")
        _check_key(certificate, self._expected)

    def _unreadable(self, fault: Exception) -> P2pxferError:
        return IdentityMismatch(f"the other end's certificate cannot be read: {first_line(fault)}")


def peer_tls(identity: Identity, expected: bytes | None, alpn: bytes) -> PeerTLS:
    """TLS for a key: see :class:`PeerTLS`."""
    return PeerTLS(identity, expected, alpn)


def check_handshake(link: SSL.Connection, expected: bytes | None, alpn: bytes) -> bytes:
    """The check after a handshake with a key in Ed25519; returns SHA-256 of it.

    Raises:
        IdentityMismatch: there is no certificate, another kind of key, or not the ``expected`` one.
        ProtocolBreach: not TLS 1.3, or not the protocol ``alpn``.
    """
    check_protocol(link, alpn)
    certificate = link.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        raise IdentityMismatch("the other end showed no certificate")
    try:
        return _check_key(certificate, expected)
    except P2pxferError:
        raise
    except Exception as fault:
        raise IdentityMismatch(f"the other end's certificate cannot be read: {first_line(fault)}") from fault


def check_protocol(link: SSL.Connection, alpn: bytes) -> None:
    """Raise :class:`ProtocolBreach` unless the handshake agreed on TLS 1.3 and the protocol ``alpn``."""
    version = link.get_protocol_version_name()
    if version != VERSION:
        raise ProtocolBreach(f"the other end negotiated {version}; only {VERSION} is allowed")
    if link.get_alpn_proto_negotiated() != alpn:
        raise ProtocolBreach("the other end did not agree to speak this protocol over TLS")


def final_reason(creator: Creator, link: Link, reason: Failure, aborted: bool) -> Failure:
    """What a protocol is told for the end of its connection.

    ConnectionDone after an orderly close, ConnectionAborted if it was this side that aborted it, and a
    :class:`P2pxferError` for everything else.
    """
    if isinstance(reason.value, P2pxferError):
        return reason
    if aborted:
        return Failure(ConnectionAborted())
    if link.peer is not None and reason.check(ConnectionDone):
        return reason
    return Failure(creator.explain(link, reason.value))


def exporter(link: SSL.Connection, label: bytes, context: bytes, length: int) -> bytes:
    """Keying material of a connection (RFC 8446 section 7.5), ``length`` bytes.

    An empty ``context`` and none at all give the same bytes, so an empty one is a mistake of the caller.
    """
    if not context:
        raise ValueError("the exporter needs a context")
    return link.export_keying_material(label, length, context)


def tls_reason(error: BaseException | None) -> str | None:
    """OpenSSL's own words, in lower case, for an error of TLS; ``None`` for a connection that was merely lost."""
    if not isinstance(error, SSL.Error) or isinstance(error, SSL.SysCallError) or not error.args:
        return None
    queue = error.args[0]
    if not isinstance(queue, list) or not queue:
        return None
    text = str(queue[-1][-1]).lower()
    return None if text.startswith("unexpected eof") else safe_text(text, 100)


def went_away(error: BaseException | None) -> bool:
    """Whether the other end's system ended the connection, in place of its program, or somebody in between did."""
    match error:
        case SSL.SysCallError(args=(int(number), *_)) if number > 0:
            return number == errno.ECONNRESET
        case SSL.SysCallError() | ConnectionLost():
            return True
        case _:
            return False


def end_reason(error: BaseException | None) -> str:
    """Why a connection ended, in words for people; the libraries' own texts are for programmers."""
    match error:
        case SSL.SysCallError(args=(int(number), *_)) if number > 0:
            return safe_text(os.strerror(number)).lower()
        case OSError(errno=int(number)):
            return safe_text(os.strerror(number)).lower()
        case SSL.SysCallError() | ConnectionLost() | ConnectionDone() | ConnectionAborted():
            return "the other end went away"
        case _:
            return first_line(error)


def first_line(error: BaseException | None) -> str:
    """The first line of an error's text, safe to print."""
    return safe_text(str(error).partition("\n")[0], 200).rstrip(".")


def _check_key(certificate: x509.Certificate, expected: bytes | None) -> bytes:
    if not isinstance(certificate.public_key(), Ed25519PublicKey):
        raise IdentityMismatch("the other end's key is not an Ed25519 key")
    shown = spki_digest(certificate)
    if expected is not None and not hmac.compare_digest(shown, expected):
        raise IdentityMismatch(f"the other end shows the key {PeerId(shown)}, but {PeerId(expected)} is expected")
    return shown
