from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from zope.interface.verify import verifyObject

from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import ALPN_PEER, ALPN_SERVER
from p2pxfer.errors import ConfigError, IdentityMismatch, P2pxferError, ProtocolBreach, ServerUntrusted, Unreachable
from p2pxfer.net.connection.servertrust import ServerTLS, ServerTrust
from p2pxfer.net.connection.tls import Link, PeerTLS, Vanished, check_handshake, exporter, peer_tls, tls_reason
from p2pxfer.net.private.identity import Identity, new_identity
from tests.net.tlskit import DAY, Authority, certificate_for, dns, ip, name, now, raw_context, raw_link, shake

ANN, BOB, EVE = new_identity(), new_identity(), new_identity()


def tls(me: Identity, other: Identity | None, alpn: bytes = ALPN_PEER) -> PeerTLS:
    return PeerTLS(me, other.id.digest if other else None, alpn)


# -- peers -------------------------------------------------------------------------------------------------------


def test_two_peers_that_know_each_other_agree() -> None:
    client, server = tls(ANN, BOB), tls(BOB, ANN)
    mine, theirs = client.link(True), server.link(False)
    ends = shake(mine, theirs)
    assert [end.error for end in ends] == [None, None]
    assert client.judge(mine) == BOB.id.digest == mine.peer
    assert server.judge(theirs) == ANN.id.digest == theirs.peer
    for link in (mine, theirs):
        assert link.get_protocol_version_name() == "TLSv1.3"
        assert link.get_cipher_name() == "TLS_AES_128_GCM_SHA256"
        assert link.get_alpn_proto_negotiated() == ALPN_PEER


def test_the_exporter_is_one_secret_of_both_ends_for_each_context() -> None:
    mine, theirs = tls(ANN, BOB).link(True), tls(BOB, ANN).link(False)
    shake(mine, theirs)
    secret = exporter(mine, b"EXPORTER-test", b"one", 32)
    assert secret == exporter(theirs, b"EXPORTER-test", b"one", 32)
    assert (
        len({secret, exporter(mine, b"EXPORTER-test", b"two", 32), exporter(mine, b"EXPORTER-other", b"one", 32)}) == 3
    )
    with pytest.raises(ValueError, match="context"):
        exporter(mine, b"EXPORTER-test", b"", 32)


def test_any_key_is_accepted_and_reported_when_none_is_expected() -> None:
    server = peer_tls(BOB, None, ALPN_SERVER)
    for identity in (ANN, EVE):
        theirs = server.link(False)
        shake(tls(identity, BOB, ALPN_SERVER).link(True), theirs)
        assert server.judge(theirs) == identity.id.digest


def test_a_client_refuses_another_key_and_names_both() -> None:
    client, server = tls(ANN, BOB), tls(EVE, None)
    mine, theirs = client.link(True), server.link(False)
    a, b = shake(mine, theirs)
    assert not a.done and not b.done and not b.received
    error = client.explain(mine, a.error)
    assert type(error) is IdentityMismatch
    assert str(EVE.id) in error.message and str(BOB.id) in error.message
    # The server does not know who refused it, so this is no statement about a key.
    assert type(server.explain(theirs, b.error)) is Unreachable
    with pytest.raises(P2pxferError):
        client.judge(mine)


def test_a_server_refuses_another_key_after_the_client_is_done() -> None:
    client, server = tls(EVE, BOB), tls(BOB, ANN)
    mine, theirs = client.link(True), server.link(False)
    a, b = shake(mine, theirs)
    assert a.done and not b.done
    assert client.judge(mine) == BOB.id.digest
    assert type(server.explain(theirs, b.error)) is IdentityMismatch
    told = client.explain(mine, a.error)
    assert type(told) is IdentityMismatch and "refuses the key of this machine" in told.message


def test_the_second_check_stands_when_the_first_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    client = tls(ANN, BOB)
    monkeypatch.setattr(client, "_accept", lambda *_: None)
    mine, theirs = client.link(True), tls(EVE, None).link(False)
    a, _ = shake(mine, theirs)
    assert a.error is None and a.done
    with pytest.raises(IdentityMismatch):
        client.judge(mine)
    assert mine.peer is None
    with pytest.raises(IdentityMismatch):
        check_handshake(mine, BOB.id.digest, ALPN_PEER)
    assert check_handshake(mine, EVE.id.digest, ALPN_PEER) == EVE.id.digest


def test_an_accident_in_the_check_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def accident(*_: object) -> None:
        raise RecursionError("very deep")

    client = tls(ANN, BOB)
    monkeypatch.setattr(client, "_accept", accident)
    mine = client.link(True)
    a, _ = shake(mine, tls(BOB, None).link(False))
    assert not a.done
    assert isinstance(client.explain(mine, a.error), IdentityMismatch)


def test_no_check_at_all_is_a_refusal() -> None:
    with pytest.raises(ProtocolBreach):
        tls(ANN, None).judge(tls(ANN, None).link(True))


def test_dates_do_not_matter_for_a_pinned_key() -> None:
    for start, end in ((now() - 9 * DAY, now() - 8 * DAY), (now() + 8 * DAY, now() + 9 * DAY)):
        old = Identity(BOB.key, certificate_for(BOB.key, None, start=start, end=end))
        client = tls(ANN, BOB)
        mine = client.link(True)
        shake(mine, tls(old, ANN).link(False))
        assert client.judge(mine) == BOB.id.digest


def test_the_same_pair_of_roles_serves_many_connections() -> None:
    client, server = tls(ANN, BOB), tls(BOB, ANN)
    for _ in range(3):
        mine, theirs = client.link(True), server.link(False)
        shake(mine, theirs)
        assert (client.judge(mine), server.judge(theirs)) == (BOB.id.digest, ANN.id.digest)


def test_a_session_cannot_be_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    server = tls(BOB, ANN)
    checked: list[int] = []
    accept = server._accept

    def counted(*details: Any) -> None:
        checked.append(1)
        accept(*details)

    monkeypatch.setattr(server, "_accept", counted)
    context = raw_context(ANN, lambda context: context.set_alpn_protos([ALPN_PEER]))
    first = raw_link(context, is_client=True)
    shake(first, server.link(False))
    session = first.get_session()
    assert session is not None and checked
    checked.clear()
    second = raw_link(context, is_client=True)
    second.set_session(session)
    theirs = server.link(False)
    shake(second, theirs)
    assert checked
    assert server.judge(theirs) == ANN.id.digest


def test_nothing_is_cached_for_a_resumption() -> None:
    for is_client in (True, False):
        assert tls(ANN, BOB).context(is_client).get_session_cache_mode() == SSL.SESS_CACHE_OFF


def test_only_the_leaf_is_compared_with_a_pin() -> None:
    """Even a certificate about which OpenSSL has no complaint, if it is not the leaf."""
    client = tls(ANN, BOB)
    client._accept(BOB.certificate, 18, 0)
    for error, depth in ((0, 1), (18, 1), (20, 0), (7, 0)):
        with pytest.raises(IdentityMismatch):
            client._accept(BOB.certificate, error, depth)


def _p256() -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    return Identity(key, certificate_for(key, None))


def _rsa() -> Identity:
    key = rsa.generate_private_key(65537, 2048)
    builder = (
        x509.CertificateBuilder().subject_name(name("test")).issuer_name(name("test")).public_key(key.public_key())
    )
    builder = builder.serial_number(7).not_valid_before(now() - DAY).not_valid_after(now() + DAY)
    return Identity(key, builder.sign(key, hashes.SHA256()))


def _with_chain_of(victim: Identity) -> Identity:
    """A leaf with a key of its own that names the victim as its issuer, and the victim's certificate behind it."""
    issuer = Identity(EVE.key, victim.certificate)
    return Identity(EVE.key, certificate_for(EVE.key, None, issuer=issuer, subject="leaf"), (victim.certificate,))


def _alpn(*offered: bytes) -> Any:
    return lambda context: context.set_alpn_protos(list(offered))


def _tls12(context: SSL.Context) -> None:
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_alpn_protos([ALPN_PEER])


STRANGERS = {
    "tls12-only": (ANN, _tls12),
    "no-alpn": (ANN, lambda context: None),
    "wrong-alpn": (ANN, _alpn(b"h2", b"http/1.1")),
    "no-certificate": (None, _alpn(ALPN_PEER)),
    "p256-certificate": (_p256(), _alpn(ALPN_PEER)),
    "rsa-certificate": (_rsa(), _alpn(ALPN_PEER)),
    "chain-with-victim": (_with_chain_of(ANN), _alpn(ALPN_PEER)),
    "leaf-and-stray-victim": (Identity(EVE.key, EVE.certificate, (ANN.certificate,)), _alpn(ALPN_PEER)),
}


@pytest.mark.parametrize("expected", [ANN, None], ids=["pinned", "any-key"])
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_server_accepts_no_stranger(stranger: str, expected: Identity | None) -> None:
    if stranger == "leaf-and-stray-victim" and expected is None:
        expected = BOB  # a clean leaf is fine for a server that takes any key, so it must be another one here
    identity, change = STRANGERS[stranger]
    server = tls(BOB, expected)
    theirs = server.link(False)
    _, b = shake(raw_link(raw_context(identity, change), is_client=True), theirs)
    if b.done:
        assert stranger == "no-alpn"
        with pytest.raises(ProtocolBreach):
            server.judge(theirs)
    else:
        assert b.error is not None
        assert isinstance(server.explain(theirs, b.error), IdentityMismatch | Unreachable)
        with pytest.raises((IdentityMismatch, ProtocolBreach)):
            server.judge(theirs)
    assert theirs.peer is None
    assert not b.received


@pytest.mark.parametrize("stranger", [each for each in STRANGERS if each not in {"no-alpn", "wrong-alpn"}])
def test_a_client_accepts_no_stranger(stranger: str) -> None:
    identity, change = STRANGERS[stranger]
    context = raw_context(identity, change if stranger == "tls12-only" else lambda context: None)
    client = tls(BOB, ANN)
    mine = client.link(True)
    a, _ = shake(mine, raw_link(context, is_client=False))
    assert not a.done and a.error is not None
    assert isinstance(client.explain(mine, a.error), IdentityMismatch | Unreachable)


def test_a_client_demands_the_protocol() -> None:
    client = tls(BOB, ANN)
    mine = client.link(True)
    a, _ = shake(mine, raw_link(raw_context(ANN), is_client=False))
    assert a.done
    with pytest.raises(ProtocolBreach, match="protocol"):
        client.judge(mine)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", bytes(range(256)) * 256])
def test_garbage_is_unreachable_not_a_wrong_key(garbage: bytes) -> None:
    server = tls(BOB, ANN)
    theirs = server.link(False)
    theirs.bio_write(garbage)
    with pytest.raises(SSL.Error) as caught:
        theirs.do_handshake()
    assert type(server.explain(theirs, caught.value)) is Unreachable


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (SSL.SysCallError(-1, "Unexpected EOF"), Vanished),
        (SSL.SysCallError(errno.ECONNRESET, "ECONNRESET"), Vanished),
        (SSL.SysCallError(errno.ETIMEDOUT, "ETIMEDOUT"), Unreachable),
        (SSL.SysCallError(errno.EHOSTUNREACH, "EHOSTUNREACH"), Unreachable),
        (None, Unreachable),
    ],
)
def test_an_end_that_the_other_system_made_is_told_apart(reason: Exception | None, kind: type[Unreachable]) -> None:
    """So a program that is killed is not taken for one that cannot be reached."""
    for creator in (tls(ANN, BOB), ServerTLS(ANN, ServerTrust(HOST, pin=BOB.id))):
        assert type(creator.explain(Link(creator.context(True)), reason)) is kind


def test_a_lost_connection_has_no_reason_of_tls() -> None:
    assert tls_reason(SSL.SysCallError(-1, "Unexpected EOF")) is None
    assert tls_reason(ConnectionLost()) is None
    assert tls_reason(SSL.Error([("SSL routines", "", "unexpected eof while reading")])) is None
    assert tls_reason(SSL.Error([("SSL routines", "", "Wrong Version\x1b Number")])) == "wrong version\\x1b number"
    assert type(tls(ANN, BOB).explain(Link(tls(ANN, BOB).context(True)), ConnectionLost())) is Vanished


def test_the_creators_are_what_twisted_asks_for() -> None:
    creator = tls(ANN, BOB)
    assert verifyObject(IOpenSSLClientConnectionCreator, creator)
    assert verifyObject(IOpenSSLServerConnectionCreator, creator)


def test_a_key_without_its_certificate_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="cannot be used for TLS"):
        PeerTLS(Identity(EVE.key, BOB.certificate), None, ALPN_PEER).context(True)


# -- the server --------------------------------------------------------------------------------------------------

HOST = "rendezvous.example.org"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def _server_certificate(case: str, authority: Authority) -> Identity:
    if case == "self-signed":
        key = ec.generate_private_key(ec.SECP256R1())
        return Identity(key, certificate_for(key, [dns(HOST)]))
    if case == "expired":
        return authority.issue(dns(HOST), start=now() - 9 * DAY, end=now() - DAY)
    if case == "no-san":
        return authority.issue(san=False, subject=HOST)
    san: x509.GeneralName = {
        "right": dns(HOST),
        "wrong": dns("another.example.org"),
        "double-wildcard": dns("*.*.org"),
        "only-ip": ip("192.0.2.1"),
        "only-uri": x509.UniformResourceIdentifier(f"https://{HOST}/"),
    }[case]
    return authority.issue(san)


def _meet(trust: ServerTrust, server: Identity) -> bytes | P2pxferError:
    """What a client with `trust` makes of a server: its key, or the error for the user."""
    client = ServerTLS(ANN, trust)
    mine = client.link(True)
    a, _ = shake(mine, PeerTLS(server, None, ALPN_SERVER).link(False))
    if a.error is not None or not a.done:
        return client.explain(mine, a.error)
    try:
        return client.judge(mine)
    except P2pxferError as error:
        return error


def test_a_certificate_for_the_host_is_accepted(authority: Authority) -> None:
    server = _server_certificate("right", authority)
    assert _meet(ServerTrust(HOST, roots=authority.roots), server) == server.id.digest
    assert _meet(ServerTrust(HOST + ".", roots=authority.roots), server) == server.id.digest


REFUSED = {
    "wrong": "another host",
    "no-san": "host name",
    "double-wildcard": "host name",
    "only-ip": "another host",
    "only-uri": "another host",
    "expired": "expired",
    "self-signed": "self-signed",
}


@pytest.mark.parametrize("case", REFUSED)
def test_every_other_certificate_is_refused_with_its_reason(case: str, authority: Authority) -> None:
    error = _meet(ServerTrust(HOST, roots=authority.roots), _server_certificate(case, authority))
    assert type(error) is ServerUntrusted
    assert error.word == "E_TLS" and HOST in error.message and REFUSED[case] in error.message


@pytest.mark.parametrize("case", REFUSED)
def test_they_are_refused_inside_the_handshake_already(case: str, authority: Authority) -> None:
    mine = ServerTLS(ANN, ServerTrust(HOST, roots=authority.roots)).link(True)
    a, b = shake(mine, PeerTLS(_server_certificate(case, authority), None, ALPN_SERVER).link(False))
    assert not a.done and not b.done


@pytest.mark.parametrize("case", [case for case in REFUSED if case not in {"expired", "self-signed"}])
def test_the_host_is_checked_again_after_the_handshake(
    case: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ServerTLS(ANN, ServerTrust(HOST, roots=authority.roots))
    monkeypatch.setattr(client, "_accept", lambda *_: None)
    mine = client.link(True)
    a, _ = shake(mine, PeerTLS(_server_certificate(case, authority), None, ALPN_SERVER).link(False))
    assert a.done
    with pytest.raises(ServerUntrusted):
        client.judge(mine)
    assert mine.peer is None


def test_an_unknown_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another authority")
    error = _meet(ServerTrust(HOST, roots=other.roots), _server_certificate("right", authority))
    assert isinstance(error, ServerUntrusted) and "does not trust" in error.message


def test_the_platform_roots_are_asked_without_others(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    server = _server_certificate("right", authority)
    assert isinstance(_meet(ServerTrust(HOST), server), ServerUntrusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.roots))
    assert _meet(ServerTrust(HOST), server) == server.id.digest


def test_an_address_needs_a_certificate_for_it(authority: Authority) -> None:
    server = authority.issue(ip("192.0.2.1"), ip("2001:db8::1"))
    assert _meet(ServerTrust("192.0.2.1", roots=authority.roots), server) == server.id.digest
    assert _meet(ServerTrust("2001:db8::1", roots=authority.roots), server) == server.id.digest
    assert isinstance(_meet(ServerTrust("192.0.2.2", roots=authority.roots), server), ServerUntrusted)


def test_a_pin_stands_for_the_authorities(authority: Authority) -> None:
    issued = _server_certificate("wrong", authority)
    with_chain = Identity(issued.key, issued.certificate, (authority.identity.certificate,))
    for server in (BOB, issued, with_chain):
        assert _meet(ServerTrust(HOST, pin=server.id), server) == server.id.digest
    error = _meet(ServerTrust(HOST, pin=BOB.id), EVE)
    assert type(error) is ServerUntrusted
    assert str(BOB.id) in error.message and str(EVE.id) in error.message


def test_a_pin_is_compared_with_the_leaf_alone() -> None:
    assert isinstance(_meet(ServerTrust(HOST, pin=BOB.id), _with_chain_of(BOB)), ServerUntrusted)


def test_a_web_server_is_not_a_rendezvous_server(authority: Authority) -> None:
    client = ServerTLS(ANN, ServerTrust(HOST, roots=authority.roots))
    mine = client.link(True)
    a, _ = shake(mine, raw_link(raw_context(_server_certificate("right", authority)), is_client=False))
    assert a.done
    with pytest.raises(ServerUntrusted, match="not a rendezvous server"):
        client.judge(mine)


def test_something_else_than_tls_is_named() -> None:
    client = ServerTLS(ANN, ServerTrust(HOST, pin=BOB.id))
    mine = client.link(True)
    mine.bio_write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(SSL.Error) as caught:
        mine.do_handshake()
    assert isinstance(client.explain(mine, caught.value), ServerUntrusted)
    assert type(client.explain(mine, ConnectionLost())) is Vanished


def test_the_host_is_announced_only_if_it_is_a_name(authority: Authority) -> None:
    for host, announced in ((HOST, HOST.encode()), ("192.0.2.1", None), ("bücher.example", b"xn--bcher-kva.example")):
        theirs = PeerTLS(BOB, None, ALPN_SERVER).link(False)
        shake(ServerTLS(ANN, ServerTrust(host, pin=BOB.id)).link(True), theirs)
        assert theirs.get_servername() == announced


@pytest.mark.parametrize("host", ["", "." * 3, "a" * 300, "ü" * 100, "nul\0.example"])
def test_what_cannot_be_a_host_is_a_configuration_error(host: str) -> None:
    with pytest.raises(ConfigError):
        ServerTLS(ANN, ServerTrust(host, pin=PeerId(bytes(32))))


def test_roots_that_are_none_are_a_configuration_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no roots\n")
    for roots in (empty, tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match="trusted roots"):
            ServerTLS(ANN, ServerTrust(HOST, roots=roots)).context(True)
