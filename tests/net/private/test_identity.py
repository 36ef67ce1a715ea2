from __future__ import annotations

import datetime
import hashlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from p2pxfer.core.ids import PeerId
from p2pxfer.errors import ConfigError, NoSpace
from p2pxfer.net.private.identity import certify, load, load_or_make, load_pair, new_identity, spki_digest
from tests.net.tlskit import Authority, dns


@pytest.fixture(params=[0o000, 0o022, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_certificate_has_the_agreed_form() -> None:
    made = new_identity()
    certificate = made.certificate
    assert isinstance(made.key, Ed25519PrivateKey)
    assert certificate.version is x509.Version.v3 and certificate.serial_number == 1
    assert certificate.subject == certificate.issuer
    assert certificate.subject.rfc4514_string() == "CN=p2pxfer"
    assert certificate.not_valid_before_utc == datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    assert certificate.not_valid_after_utc == datetime.datetime(2049, 12, 31, tzinfo=datetime.UTC)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and not constraints.value.ca
    certificate.verify_directly_issued_by(certificate)


def test_the_id_is_that_of_the_public_key() -> None:
    made = new_identity()
    public = made.key.public_key()
    assert isinstance(public, Ed25519PublicKey)
    # RFC 8410 section 4: the SubjectPublicKeyInfo of Ed25519 is this prefix and the 32 bytes of the key.
    spki = bytes.fromhex("302a300506032b6570032100") + public.public_bytes_raw()
    assert made.id == PeerId(hashlib.sha256(spki).digest()) and made.id.digest == spki_digest(made.certificate)
    assert str(made.id) in repr(made) and "PrivateKey" not in repr(made)


def test_one_key_gives_one_certificate() -> None:
    made = new_identity()
    assert isinstance(made.key, Ed25519PrivateKey)
    assert certify(made.key) == made.certificate
    assert new_identity().id != made.id


def test_the_first_call_makes_and_the_next_ones_read(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"
    made = load_or_make(path)
    assert load_or_make(path) == made == load(path)
    assert [each.name for each in tmp_path.iterdir()] == ["identity.pem"]


def test_file_and_directories_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "one" / "two" / "identity.pem"
    load_or_make(path)
    assert mode(path) == 0o600
    assert mode(path.parent) == mode(path.parent.parent) == 0o700


def test_the_file_is_durable_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "identity.pem"
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append((kind, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    load_or_make(path)
    assert synced == [("file", False), ("directory", True)]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_file_open_to_others_is_refused_with_the_remedy(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "identity.pem"
    load_or_make(path)
    path.chmod(bits)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        load_or_make(path)


def _damaged(good: bytes) -> dict[str, bytes]:
    key_end = good.index(b"-----END PRIVATE KEY-----")
    other = new_identity()
    assert isinstance(other.key, Ed25519PrivateKey)
    locked = other.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    return {
        "empty": b"",
        "cut": good[: len(good) // 2],
        "no-certificate": good[: key_end + 26],
        "no-key": good[key_end + 26 :],
        "other-certificate": good[: key_end + 26] + other.certificate.public_bytes(Encoding.PEM),
        "encrypted": locked + other.certificate.public_bytes(Encoding.PEM),
        "flipped": good.replace(b"\nM", b"\nN", 1),
        "text": b"this is no key\n",
        "bytes": bytes(range(256)) * 10,
        "huge": b"\n" * 1_000_000 + good,
    }


@pytest.mark.parametrize("case", list(_damaged(b"\nM-----END PRIVATE KEY-----")))
def test_a_damaged_file_is_reported_and_left_alone(tmp_path: Path, case: str) -> None:
    path = tmp_path / "identity.pem"
    load_or_make(path)
    data = _damaged(path.read_bytes())[case]
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="damaged"):
        load_or_make(path)
    assert path.read_bytes() == data


def test_what_is_not_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    (tmp_path / "directory").mkdir(0o700)
    for path in (fifo, tmp_path / "directory"):
        with pytest.raises(ConfigError):
            load_or_make(path)
    with pytest.raises(ConfigError):
        load_or_make(fifo / "identity.pem")


def test_a_name_with_control_characters_is_escaped_in_messages(tmp_path: Path) -> None:
    path = tmp_path / "red\x1b[31m.pem"
    path.write_bytes(b"")
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        load_or_make(path)
    assert "\x1b" not in caught.value.message


def test_no_key_appears_where_none_can_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace, match="No space left"):
        load_or_make(tmp_path / "identity.pem")
    assert list(tmp_path.iterdir()) == []


def test_threads_that_make_it_at_once_agree(tmp_path: Path) -> None:
    for number in range(10):
        path = tmp_path / str(number) / "identity.pem"
        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(lambda _, path=path: load_or_make(path).id, range(8)))
        assert len(set(ids)) == 1
        assert [each.name for each in path.parent.iterdir()] == ["identity.pem"]


def test_processes_that_make_it_at_once_agree(tmp_path: Path) -> None:
    path = tmp_path / "home" / "identity.pem"
    code = (
        "import sys, pathlib; from p2pxfer.net.private.identity import load_or_make; "
        f"sys.stdin.read(1); print(load_or_make(pathlib.Path({str(path)!r})).id)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    texts = {process.communicate(timeout=50)[0].strip() for process in processes}
    assert texts == {str(load(path).id)}


def test_a_server_certificate_comes_from_two_files(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue(dns("rendezvous.example.org"))
    chain, key = tmp_path / "fullchain.pem", tmp_path / "key.pem"
    chain.write_bytes(
        issued.certificate.public_bytes(Encoding.PEM) + authority.identity.certificate.public_bytes(Encoding.PEM)
    )
    key.write_bytes(issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    loaded = load_pair(chain, key)
    assert loaded.certificate == issued.certificate and loaded.chain == (authority.identity.certificate,)
    assert loaded.id == issued.id

    key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_pair(chain, key)
    key.write_bytes(new_identity().key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    with pytest.raises(ConfigError, match="another key"):
        load_pair(chain, key)
    with pytest.raises(ConfigError, match="missing"):
        load_pair(tmp_path / "missing", key)
    with pytest.raises(ConfigError, match="missing"):
        load_pair(chain, tmp_path / "missing")


KILLED = """
import os, pathlib, signal, sys
from p2pxfer.net.private.identity import load_or_make
link = os.link
def killed(*names):
    if sys.argv[2] == "published":
        link(*names)
    os.kill(os.getpid(), signal.SIGKILL)
os.link = killed
load_or_make(pathlib.Path(sys.argv[1]))
"""


@pytest.mark.parametrize("stage", ["written", "published"])
def test_what_a_kill_left_goes_with_the_next_use_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Also where it had its name already: what is left is another name of it then."""
    path = tmp_path / "identity.pem"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path), stage], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert path.exists() == (stage == "published")
    (left,) = set(tmp_path.iterdir()) - {path}
    other = tmp_path / "identity.pem.mine.new"
    other.write_text("nothing of this")
    made = load_or_make(path)
    assert sorted(tmp_path.iterdir()) == [path, other]
    assert not left.exists() and load(path) == made
    monkeypatch.setattr(Path, "iterdir", lambda _: pytest.fail("a file that is made already is only read"))
    assert load_or_make(path) == made


def test_who_was_slower_takes_the_key_of_the_faster_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faster one has removed what the slower one wrote."""
    path = tmp_path / "identity.pem"
    link, faster = os.link, []

    def late(written: Path, name: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        faster.append(load_or_make(path))
        assert not written.exists()
        link(written, name)

    monkeypatch.setattr(os, "link", late)
    assert [load_or_make(path)] == faster
    assert list(tmp_path.iterdir()) == [path]
