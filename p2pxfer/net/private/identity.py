"""A key with its certificate: who this machine is in every TLS handshake, and the file that holds it.

Laws of the file:

1. It is 0600 from its first moment and durable before anybody sees its name.
2. It is never written over. A file that cannot be read or understood is an error for its owner to settle: a new key
   in its place would make every contact refuse this machine.
3. Two processes that make it at once end up with the same key.
4. What a crash left while it was made may hold its key or one that nobody has seen: it goes when the file is made, or
   used where it is another name of it.  A writer whose own goes so was too late and takes the key that is there.

The functions that take a path block for a few milliseconds: call them at start-up or in a thread.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from p2pxfer.core.ids import PeerId
from p2pxfer.core.text import path_text, safe_text
from p2pxfer.errors import ConfigError
from p2pxfer.net.private.leftover import remove_left_over, unfinished_name
from p2pxfer.net.private.unwritten import unwritten

COMMON_NAME: Final = "p2pxfer"
"""Subject and issuer of every certificate made here; nothing ever decides by it."""
_NOT_BEFORE: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(2049, 12, 31, tzinfo=datetime.UTC)
_FILE_LIMIT: Final = 256 * 1024
"""More than any key with its chain needs, bytes."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key, its certificate, and the certificates that lead from there to a root, if any."""

    key: PrivateKeyTypes = field(compare=False)
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def id(self) -> PeerId:
        """The id by which others know this key."""
        return PeerId(spki_digest(self.certificate))

    def __repr__(self) -> str:
        return f"Identity({self.id})"


def spki_digest(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the certificate's SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7), 32 bytes.

    Raises whatever `cryptography` raises for a key that it cannot read: callers that judge treat that as a refusal.
    """
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).digest()


def new_identity() -> Identity:
    """A fresh Ed25519 key in a self-signed certificate.

    The dates are fixed and wide: peers compare keys, so a wrong clock must not end a friendship.
    """
    key = Ed25519PrivateKey.generate()
    return Identity(key, certify(key))


def certify(key: Ed25519PrivateKey) -> x509.Certificate:
    """The self-signed certificate in which `key` travels; the same bytes each time."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, COMMON_NAME)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    return builder.sign(key, None)


def load_or_make(path: Path) -> Identity:
    """The identity in the file `path`; the first call makes file and directories.

    Raises:
        ConfigError: the file is readable for others, damaged, or cannot be read or made.
        DiskError: it cannot be made, since the disk is full or failed.
    """
    try:
        try:
            identity = load(path)
        except FileNotFoundError:
            _publish(path, _to_pem(new_identity()))
            identity = load(path)
        if path.stat().st_nlink > 1:
            remove_left_over(path, None)
        return identity
    except OSError as error:
        raise unwritten(error, f"cannot make the identity file {path_text(path)}") from error


def load(path: Path) -> Identity:
    """The identity in one PEM file: a PKCS #8 private key and its certificate.

    Raises:
        ConfigError: the file is readable for others, damaged, or cannot be read.
        FileNotFoundError: there is no such file.
    """
    data = _read_private(path)
    return _from_pem(data, data, path_text(path))


def load_pair(certificate: Path, key: Path) -> Identity:
    """An identity from a certificate file (PEM, leaf first, chain behind it) and a private key file.

    This is the usual form of a server certificate from a certificate authority; any key type is accepted.

    Raises:
        ConfigError: a file is missing or damaged, the key is readable for others, or the two do not belong together.
    """
    try:
        return _from_pem(
            certificate.read_bytes(), _read_private(key), f"{path_text(certificate)} with {path_text(key)}"
        )
    except OSError as error:
        raise ConfigError(f"cannot read {safe_text(str(error.filename))}: {error.strerror or error}") from error


def _from_pem(certificates: bytes, key_data: bytes, where: str) -> Identity:
    """The checked pair; the message of a failure tells the owner what not to lose."""
    try:
        key = load_pem_private_key(key_data, None)
        leaf, *chain = x509.load_pem_x509_certificates(certificates)
        ours = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if hashlib.sha256(ours).digest() != spki_digest(leaf):
            raise ValueError("the certificate belongs to another key")
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        detail = safe_text(str(error).partition("\n")[0], 200)
        raise ConfigError(
            f"the identity in {where} is damaged ({detail}); restore it from a backup, or move it away to start with "
            "a new key that every contact must verify again"
        ) from error
    return Identity(key, leaf, tuple(chain))


def _to_pem(identity: Identity) -> bytes:
    secret = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + identity.certificate.public_bytes(Encoding.PEM)


def _read_private(path: Path) -> bytes:
    """The bytes of a regular file that only its owner can read."""
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot read the identity file {path_text(path)}: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"the identity file {path_text(path)} is not a regular file")
        if status.st_mode & 0o077:
            raise ConfigError(f"others can read the identity file {path_text(path)}; run: chmod 600 {path_text(path)}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(_FILE_LIMIT)
    finally:
        os.close(descriptor)


def _publish(path: Path, data: bytes) -> None:
    """Give `data` the name `path`, whole and durable, unless that name is taken already."""
    make_private_directory(path.parent)
    temporary = unfinished_name(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(temporary, path)
        except (FileExistsError, FileNotFoundError):
            pass  # another process was faster: its key is the one that counts, and this one may be removed already
    finally:
        temporary.unlink(missing_ok=True)
    remove_left_over(path, None)
    sync_directory(path.parent)


def make_private_directory(path: Path) -> None:
    """Create `path` and its missing parents, each 0700 from its first moment whatever the umask."""
    if path.is_dir():
        return
    make_private_directory(path.parent)
    try:
        path.mkdir(mode=0o700)
        path.chmod(0o700)
    except FileExistsError:
        if not path.is_dir():
            raise


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
