from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core import addresses
from p2pxfer.core.addresses import Endpoint, parse_endpoint
from p2pxfer.core.messages import MAX_LAN
from p2pxfer.errors import AddressRefused

ENDPOINTS = st.builds(Endpoint, st.ip_addresses(), st.integers(1, 65535))


@given(ENDPOINTS)
def test_a_text_comes_back_as_the_same_endpoint(endpoint: Endpoint) -> None:
    text = str(endpoint)
    assert parse_endpoint(text) == endpoint
    assert len(text) <= addresses.MAX_TEXT


@given(st.text(max_size=80))
def test_any_text_is_an_endpoint_or_refused(text: str) -> None:
    try:
        endpoint = parse_endpoint(text)
    except AddressRefused:
        return
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1:0",  # A18
        "10.0.0.1:65536",  # A19
        "10.0.0.1:99999",
        "10.0.0.1:-1",  # A20
        "10.0.0.1:+80",
        "10.0.0.1:080",
        "127.1:8877",  # A22
        "0x7f000001:8877",
        "017700000001:8877",
        "2130706433:8877",
        "010.0.0.1:8877",
        "10.0.0.256:8877",
        "localhost:8877",  # A23
        "10.0.0.1 :8877",  # A24
        " 10.0.0.1:8877",
        "10.0.0.1:8877\n",
        "10.0.0.1\x00:8877",  # A25
        "10.0.0.1:8877\x00",
        "10.0.0.1",
        "10.0.0.1:",
        ":8877",
        "",
        "fe80::1:8877",
        "[fe80::1%eth0]:8877",  # A14
        "[fe80::1]",
        "[::1]:8877]",
        "[10.0.0.1]:8877",
        "[:::]:8877",
        "\u0661\u0660.0.0.1:8877",
        "10.0.0.1:\u0668\u0668\u0667\u0667",
        "[" + "0" * 100 + "]:1",
    ],
)
def test_other_notations_are_refused(text: str) -> None:
    with pytest.raises(AddressRefused):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("8.8.8.8", "public"),
        ("198.18.0.10", "public"),
        ("198.19.255.255", "public"),
        ("2a00:1450::1", "public"),
        ("2001:2::5", "public"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("172.32.0.1", "public"),
        ("192.168.1.10", "private"),
        ("fd00::1", "private"),
        ("100.64.0.1", "shared"),
        ("100.128.0.1", "public"),
        ("127.0.0.1", "loopback"),  # A01
        ("127.255.255.255", "loopback"),
        ("::1", "loopback"),  # A07
        ("::ffff:127.0.0.1", "loopback"),  # A09
        ("::127.0.0.1", "loopback"),  # A10
        ("64:ff9b::7f00:1", "loopback"),  # A11
        ("2002:7f00:1::1", "loopback"),  # A12
        ("64:ff9b::a9fe:a9fe", "forbidden"),  # A13
        ("2002:a9fe:a9fe::1", "forbidden"),
        ("::ffff:10.0.0.1", "private"),
        ("::ffff:8.8.8.8", "public"),
        ("0.0.0.0", "forbidden"),  # A02
        ("0.1.2.3", "forbidden"),
        ("169.254.169.254", "forbidden"),  # A03
        ("255.255.255.255", "forbidden"),  # A04
        ("224.0.0.1", "forbidden"),  # A05
        ("240.0.0.1", "forbidden"),  # A06
        ("192.0.2.1", "forbidden"),
        ("198.51.100.7", "forbidden"),
        ("203.0.113.7", "forbidden"),
        ("192.0.0.8", "forbidden"),
        ("192.88.99.1", "forbidden"),
        ("::", "forbidden"),  # A08
        ("::2", "forbidden"),
        ("fe80::1", "forbidden"),  # A14
        ("fec0::1", "forbidden"),  # A15
        ("ff02::1", "forbidden"),  # A16
        ("2001:db8::1", "forbidden"),
        ("3fff::1", "forbidden"),
        ("2001:0:4136:e378::1", "forbidden"),
        ("64:ff9b:1::7f00:1", "forbidden"),
        ("100::1", "forbidden"),
    ],
)
def test_scopes(text: str, scope: str) -> None:
    address = ip_address(text)
    assert addresses.scope(address) == scope
    endpoint = Endpoint(address, 20_000)
    assert addresses.dialable_public(endpoint) == (scope == "public")
    assert addresses.dialable_lan(endpoint) == (scope in {"private", "shared"})
    assert addresses.dialable_public(endpoint, allow_loopback=True) == (scope in {"public", "loopback"})
    assert addresses.dialable_public(endpoint, allow_private=True) == (scope in {"public", "private", "shared"})


@given(st.ip_addresses(v=4))
def test_no_wrapping_changes_a_verdict(plain: IPv4Address) -> None:
    value = int(plain)
    wrapped = [
        IPv6Address(0xFFFF << 32 | value),
        IPv6Address(0x64FF9B << 96 | value),
        IPv6Address(0x2002 << 112 | value << 80 | 1),
    ]
    if value > 1:
        wrapped.append(IPv6Address(value))
    for address in wrapped:
        assert addresses.canonical(address) == plain
        assert addresses.scope(address) == addresses.scope(plain)
        assert addresses.source_network(address) == str(plain)


@given(st.ip_addresses())
def test_canonical_is_idempotent(address: IPv4Address | IPv6Address) -> None:
    once = addresses.canonical(address)
    assert addresses.canonical(once) == once


@pytest.mark.parametrize("port", [1, 22, 25, 1023, 6379, 11211, 27017])  # A21
def test_ports_of_others_are_not_dialled_on_a_peers_word(port: int) -> None:
    assert not addresses.dialable_lan(Endpoint(ip_address("10.0.0.1"), port))
    assert addresses.dialable_public(Endpoint(ip_address("8.8.8.8"), port)) == (port >= 1024)


@pytest.mark.parametrize("port", [2375, 6379, 11211, 27017])
def test_a_port_that_a_nat_gave_an_honest_peer_is_dialled(port: int) -> None:
    """The server saw the peer speak TLS from it; NATs choose among all ports."""
    assert addresses.dialable_public(Endpoint(ip_address("8.8.8.8"), port))


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("8.8.8.8:40000", True),
        ("[::ffff:8.8.8.8]:40000", True),
        ("8.8.8.9:40000", False),
        ("8.8.8.8:1023", False),
        ("8.8.8.8:6379", False),
        ("8.8.8.8:40001", False),
        ("10.0.0.1:40000", False),
        ("127.0.0.1:40000", False),
        ("169.254.169.254:40000", False),
        ("[2001:4860::8888]:40000", False),
    ],
)
def test_a_port_of_a_router_is_dialled_at_an_address_that_was_seen(text: str, allowed: bool) -> None:
    """Of addresses that were seen too a private one takes a reason; and what is refused stays so."""
    seen = [ip_address(host) for host in ("8.8.8.8", "10.0.0.1", "127.0.0.1", "169.254.169.254")]
    refuse = [parse_endpoint("8.8.8.8:40001")]
    assert addresses.dialable_mapped(parse_endpoint(text), seen, refuse=refuse) == allowed
    assert not addresses.dialable_mapped(parse_endpoint(text), [])


def test_a_private_port_of_a_router_takes_a_reason() -> None:
    inner = parse_endpoint("10.0.0.1:40000")
    assert addresses.dialable_mapped(inner, [inner.host], allow_private=True)
    assert not addresses.dialable_mapped(inner, [inner.host])


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("100.64.1.2:40000", True),
        ("192.168.1.2:40000", True),
        ("10.1.2.3:1024", True),
        ("100.64.1.2:1023", False),
        ("100.64.1.2:3306", False),
        ("100.64.1.2:40001", False),
        ("8.8.8.8:40000", False),
        ("198.18.1.1:40000", False),
        ("127.0.0.1:40000", False),
        ("169.254.169.254:40000", False),
        ("0.0.0.0:40000", False),
        ("[fd00::2]:40000", False),
        ("[2001:4860::8888]:40000", False),
        ("[::ffff:127.0.0.1]:40000", False),
    ],
)
def test_an_outside_endpoint_that_a_neighbour_asserts_lies_in_no_public_network(text: str, allowed: bool) -> None:
    refuse = [parse_endpoint("100.64.1.2:40001")]
    assert addresses.dialable_inner(addresses.canonical_endpoint(parse_endpoint(text)), refuse) == allowed


def test_refused_endpoints_are_compared_in_canonical_form() -> None:  # A29, A30
    server = Endpoint(ip_address("8.8.8.8"), 8877)
    assert not addresses.dialable_public(Endpoint(ip_address("::ffff:8.8.8.8"), 8877), refuse=[server])
    assert addresses.dialable_public(Endpoint(ip_address("8.8.8.8"), 8879), refuse=[server])
    own = Endpoint(ip_address("10.0.0.1"), 20_000)
    assert not addresses.dialable_lan(own, refuse={own})


def test_a_list_of_candidates_is_filtered_bounded_and_without_repetition() -> None:  # A26, A27
    good = [f"10.0.0.{n}:20000" for n in range(1, 200)]
    bad = ["203.0.113.7:20000", "8.8.8.8:20000", "10.0.0.1:22", "nonsense"]
    kept, dropped = addresses.legal_lan(bad + good[:1] * 100 + good)
    assert [str(one) for one in kept] == good[:MAX_LAN]
    assert dropped == len(bad) + len(good) - MAX_LAN
    assert addresses.legal_lan(["127.0.0.1:20000"]) == ([], 1)
    assert addresses.legal_lan(["127.0.0.1:20000"], allow_loopback=True)[1] == 0


def test_sites() -> None:
    assert addresses.same_site(ip_address("8.8.8.8"), ip_address("::ffff:8.8.8.8"))
    assert not addresses.same_site(ip_address("8.8.8.8"), ip_address("8.8.8.9"))
    assert addresses.same_site(ip_address("2a00:1:2:3::1"), ip_address("2a00:1:2:3:ffff::9"))
    assert not addresses.same_site(ip_address("2a00:1:2:3::1"), ip_address("2a00:1:2:4::1"))


def test_what_the_system_reports_becomes_canonical() -> None:
    assert addresses.observed_endpoint("::ffff:192.0.2.1", 5) == Endpoint(ip_address("192.0.2.1"), 5)
    assert addresses.observed_endpoint("fe80::1%eth0", 5) == Endpoint(ip_address("fe80::1"), 5)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_an_endpoint_has_a_port(port: int) -> None:
    with pytest.raises(ValueError, match="not a port"):
        Endpoint(ip_address("10.0.0.1"), port)
