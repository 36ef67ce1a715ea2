"""Names of services, and addresses as people type them."""

from __future__ import annotations

import pytest

from p2pxfer.core.names import check_name
from p2pxfer.core.ownnames import waiting_name
from p2pxfer.core.session.services import (
    DEFAULT_SERVICE,
    MAX_OFFERED,
    Offered,
    check_service,
    parse_offered,
    parse_target,
    parse_wanted,
)
from p2pxfer.errors import UsageError

ALICE, BOB = b"a" * 32, b"b" * 32


def test_the_name_at_the_server_follows_from_key_and_service() -> None:
    names = {waiting_name(key, service) for key in (ALICE, BOB) for service in ("web", "ssh", "we")}
    assert len(names) == 6
    assert all(check_name(name).startswith("svc-") and len(name) == 32 for name in names)
    assert waiting_name(ALICE, "web") == waiting_name(ALICE, "web")


@pytest.mark.parametrize("text", ["web", "a", "0", "a-b.c_d", "x" * 32])
def test_what_names_a_service(text: str) -> None:
    assert check_service(text) == text
    assert parse_wanted(f"alice:{text}") == ("alice", text)


@pytest.mark.parametrize("text", ["", "Web", "-a", ".a", "a b", "a\n", "ä", "x" * 33, "a:b"])
def test_what_names_none(text: str) -> None:
    with pytest.raises(UsageError):
        check_service(text)
    with pytest.raises(UsageError):
        parse_wanted(f"alice:{text}")


def test_a_peer_alone_means_the_service_without_a_name() -> None:
    assert parse_wanted("alice") == ("alice", DEFAULT_SERVICE)
    with pytest.raises(UsageError):
        parse_wanted(":web")


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:22", ("::1", 22)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("nas.home.example:0", ("nas.home.example", 0)),
    ],
)
def test_an_address(text: str, target: tuple[str, int]) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    ["80", ":80", "host", "host:", "host:x", "host:65536", "host:-1", "::1:80", "ho st:1", "h\n:1", "h:1\n", "h:²"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        parse_target(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("80000", "a port is a number up to 65535"),
        ("h:80000", "a port is a number up to 65535"),
        ("web", "PORT, HOST:PORT"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_target(text, "127.0.0.1")


def test_a_port_alone_is_at_the_default_host() -> None:
    assert parse_target("8080", "127.0.0.1") == ("127.0.0.1", 8080)
    assert parse_target("[::]:0", "127.0.0.1") == ("::", 0)
    with pytest.raises(UsageError):
        parse_target(":8080", "127.0.0.1")


@pytest.mark.parametrize(
    ("texts", "called", "offered"),
    [
        (["h:1"], None, [Offered(DEFAULT_SERVICE, "h", 1)]),
        (["h:1"], "web", [Offered("web", "h", 1)]),
        (["web=h:1"], None, [Offered("web", "h", 1)]),
        (["web=h:1", "ssh=[::1]:22"], None, [Offered("web", "h", 1), Offered("ssh", "::1", 22)]),
        (["h:1", "ssh=h:22"], None, [Offered(DEFAULT_SERVICE, "h", 1), Offered("ssh", "h", 22)]),
    ],
)
def test_what_one_command_exposes(texts: list[str], called: str | None, offered: list[Offered]) -> None:
    assert parse_offered(texts, called) == offered


@pytest.mark.parametrize(
    ("texts", "called", "says"),
    [
        (["web=h:1", "web=h:2"], None, "two services are called web"),
        (["h:1", "h:2"], None, "two services are called default"),
        (["h:1", "ssh=h:2"], "web", "--as names one"),
        (["web=h:1"], "web", "--as names one"),
        (["=h:1"], None, "the name of a service"),
        (["a=b=h:1"], None, "the name of a service"),
        (["web=80"], None, "an address is"),
        ([f"s{number}=h:1" for number in range(MAX_OFFERED + 1)], None, "at most 16"),
    ],
)
def test_what_no_command_exposes(texts: list[str], called: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_offered(texts, called)
