"""How a client makes sure that a rendezvous server is the one that was asked for.

Two proofs are accepted: the server's key, when it is pinned, or a certificate for its host name from a trusted
authority (RFC 9525). Any exception on the way is a refusal, and the proof is asked for twice: see
:mod:`p2pxfer.net.connection.tls`.  What checks host names is imported when it is needed: with a pin it never is.
"""

from __future__ import annotations

import hmac
import ipaddress
from pathlib import Path
from typing import Final

from cryptography import x509
from msgspec import Struct
from OpenSSL import SSL

from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import ALPN_SERVER
from p2pxfer.core.text import path_text, safe_text
from p2pxfer.errors import ConfigError, P2pxferError, ProtocolBreach, ServerUntrusted
from p2pxfer.net.connection.tls import X509_OK, Creator, Link, check_protocol, first_line
from p2pxfer.net.private.identity import Identity, spki_digest

_WHY_NOT: Final = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed; pin the server's key, or give it a certificate from an authority",
    19: "comes from an authority that this machine does not trust",
    20: "comes from an authority that this machine does not trust",
    21: "comes without the certificates that lead to a trusted authority",
}
"""X509_V_ERR_* in words."""


class ServerTrust(Struct, frozen=True):
    """What proves that a server is the one asked for: its pinned key, or a certificate for ``host``.

    ``host`` is a DNS name or an IP address; with a ``pin`` it only appears in messages and in SNI.  ``roots`` is a PEM
    file that stands for the platform's trusted roots, which ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name otherwise.
    """

    host: str
    pin: PeerId | None = None
    roots: Path | None = None


class ServerTLS(Creator):
    """A client's TLS towards the rendezvous server."""

    def __init__(self, identity: Identity, trust: ServerTrust, alpn: bytes = ALPN_SERVER) -> None:
        super().__init__(identity, alpn)
        self._trust = trust
        self._host = trust.host.rstrip(".")
        self._shown_host = safe_text(trust.host, 200)
        self._shown = f"the connection to the server at {self._shown_host}"
        self._is_address = _is_address(self._host)
        if not self._is_address:
            self._sni = _ascii_host(self._host)

    def judge(self, link: Link) -> bytes:
        """See :meth:`Creator.judge`; every failure is :class:`ServerUntrusted`."""
        try:
            check_protocol(link, self.alpn)
            certificate = link.get_peer_certificate(as_cryptography=True)
            if certificate is None:
                raise self._untrusted("shows no certificate")
            if self._trust.pin is not None:
                self._accept(certificate, X509_OK, 0)
            else:
                self._verify_host(link)
            link.peer = spki_digest(certificate)
        except Exception as fault:
            raise self._unreadable(fault) from fault
        return link.peer

    def _failed(self, link: Link, text: str) -> P2pxferError:
        """An error of TLS is :class:`ServerUntrusted`."""
        return self._untrusted(f"does not speak TLS 1.3 as this program does: {text}")

    def _accept(self, certificate: x509.Certificate, error: int, depth: int) -> None:
        pin = self._trust.pin
        if pin is not None:
            # A pinned server may show a chain from an authority as well: only the leaf counts.
            if depth == 0 and not hmac.compare_digest(spki_digest(certificate), pin.digest):
                raise self._untrusted(f"shows the key {PeerId(spki_digest(certificate))}, but {pin} is pinned")
            return
        if error != X509_OK:
            why = _WHY_NOT.get(error, f"does not pass the check of its chain (X.509 error {error})")
            raise self._untrusted(f"shows a certificate that {why}")
        if depth == 0:
            from service_identity.cryptography import extract_patterns
            from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity

            wanted = IPAddress_ID(self._host) if self._is_address else DNS_ID(self._host)
            verify_service_identity(extract_patterns(certificate), [wanted], [])

    def _verify_host(self, link: Link) -> None:
        """Hold the leaf's names against the host that was asked for; raises what service_identity does."""
        from service_identity.pyopenssl import verify_hostname, verify_ip_address

        if self._is_address:
            verify_ip_address(link, self._host)
        else:
            verify_hostname(link, self._host)

    def _unreadable(self, fault: Exception) -> P2pxferError:
        if isinstance(fault, ServerUntrusted):
            return fault
        if isinstance(fault, ProtocolBreach):
            return self._untrusted(f"is not a rendezvous server of this program: {fault}")
        from service_identity import CertificateError, VerificationError

        if isinstance(fault, VerificationError):
            return self._untrusted("shows a certificate that is for another host")
        if isinstance(fault, CertificateError):
            return self._untrusted(f"shows a certificate without a usable host name ({first_line(fault)})")
        return self._untrusted(f"shows a certificate that cannot be read ({first_line(fault)})")

    def _untrusted(self, what: str) -> ServerUntrusted:
        return ServerUntrusted(f"the server at {self._shown_host} {what}")

    def _prepare_client(self, link: Link) -> None:
        if not self._is_address:
            link.set_tlsext_host_name(self._sni)

    def _trust_store(self, context: SSL.Context) -> None:
        if self._trust.pin is not None:
            return
        if self._trust.roots is None:
            context.set_default_verify_paths()
            return
        try:
            context.load_verify_locations(str(self._trust.roots))
        except SSL.Error as error:
            raise ConfigError(f"there are no trusted roots in {path_text(self._trust.roots)}") from error


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _ascii_host(host: str) -> bytes:
    """``host`` as SNI carries it."""
    try:
        ascii_host = host.encode("ascii" if host.isascii() else "idna")
    except UnicodeError as error:
        raise ConfigError(f"{safe_text(host, 200)} is not a host name") from error
    if not 0 < len(ascii_host) < 256 or b"\0" in ascii_host:
        raise ConfigError(f"{safe_text(host, 200)!r} is not a host name")
    return ascii_host
