"""How a server is named, and why it could not be reached, in words for people."""

from __future__ import annotations

import errno
import os

import pytest
from twisted.internet.error import DNSLookupError, getConnectError

from p2pxfer.core.serveraddress import parse_server_line
from p2pxfer.net.traversal.serverdial import server_address, why_not_reached


@pytest.mark.parametrize("text", ["[fd00::2]:8877", "192.0.2.1:8877", "example.org:1"])
def test_an_address_is_shown_as_it_is_typed(text: str) -> None:
    assert str(server_address(parse_server_line(text))) == text


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ECONNREFUSED, "connections are refused; does the server run there?"),
        (errno.ENETUNREACH, "no way leads there; is this machine's network up?"),
        (errno.EHOSTUNREACH, "no way leads there; is this machine's network up?"),
        (errno.ETIMEDOUT, "nothing answers; is the address right, and its port open in the firewall there?"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_the_reason_is_said_once_and_with_advice(number: int, says: str) -> None:
    assert why_not_reached(getConnectError((number, os.strerror(number)))) == says


def test_a_name_that_leads_nowhere_and_a_fault_of_another_kind() -> None:
    assert why_not_reached(DNSLookupError("no results")) == "that name leads to no address; is it spelled right?"
    assert why_not_reached(ValueError("odd\x1b.\nmore")) == r"odd\x1b"
