from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.backoff import FIRST_S, LONGEST_S, Backoff
from p2pxfer.core.ids import PeerId
from p2pxfer.core.serveraddress import parse_server_line
from p2pxfer.errors import UsageError

PIN = PeerId(b"p" * 32)


@pytest.mark.parametrize(
    ("text", "host", "port", "pin"),
    [
        ("example.org", "example.org", 8877, None),
        ("example.org:443", "example.org", 443, None),
        (f"198.18.0.10:8877#{PIN}", "198.18.0.10", 8877, PIN),
        (f"[fd00::1]:8877#{PIN}\n", "fd00::1", 8877, PIN),
    ],
)
def test_the_forms_of_an_address_line(text: str, host: str, port: int, pin: PeerId | None) -> None:
    line = parse_server_line(text)
    assert (line.host, line.port, line.pin) == (host, port, pin)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "a:0",
        "a:65536",
        "a:b",
        "a#",
        "a:1#p2px1-x",
        "http://a",
        "a b",
        f"a:1#{PIN}x",
        "-a:1",
        "a..b:1",
        "a,b:1",
        "1.2.3:1",
        "999.1.1.1",
        "[::g]:1",
        "[1.2.3.4]:1",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_server_line(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bob", "bob is not a server address: it has neither a port nor a pin; its form is HOST:PORT#PIN"),
        ("http://a.org:1", "not a server address: it begins with http://; its form"),
        ("fd00::1:8877", "not a server address: an IPv6 address stands in brackets; its form"),
        ("300.1.1.1:1", "not a server address: 300.1.1.1 is neither a host name nor an address; its form"),
        ("not one", "not one is not a server address; its form"),
        ("a.org:70000", "70000 is not a port; one is 1 to 65535"),
    ],
)
def test_it_is_said_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_server_line(text)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("pin", "says"),
    [
        (
            f"{str(PIN)[:-1]}{'a' if str(PIN)[-1] != 'a' else 'b'}",
            "the PIN of the server has a typing error in groups 7 and 8",
        ),
        ("p2px1-x", "not a PIN of the server: "),
    ],
)
def test_a_pin_with_a_typing_error_is_not_called_a_peer_id(pin: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_server_line(f"example.org:1#{pin}")


@given(st.text())
def test_arbitrary_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse_server_line(text)
    except UsageError:
        pass


@given(st.lists(st.floats(min_value=0, max_value=0.999), min_size=1, max_size=60))
def test_pauses_grow_to_a_limit_and_start_again(draws: list[float]) -> None:
    values = iter(draws + [0.5] * 2)
    backoff = Backoff(lambda: next(values))
    for _ in draws:
        assert 0 < backoff.next() <= LONGEST_S
    backoff.reset()
    assert backoff.next() <= FIRST_S
