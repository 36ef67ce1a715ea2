"""Which direct paths are different ways."""

from __future__ import annotations

import ifaddr
import pytest

from p2pxfer.net.session.ways import MAX_WAYS, Ways
from p2pxfer.net.traversal import ownaddresses
from p2pxfer.net.traversal.ownaddresses import interface_towards


def test_the_first_path_is_new_whatever_it_is_and_others_by_other_interfaces() -> None:
    ways = Ways({"a": "eth0", "b": "eth0", "c": "wlan0"}.get)
    assert [ways.is_new(host) for host in ("a", "b", "c", "nowhere")] == [True] * 4
    ways.take(1, "a")
    assert [ways.is_new(host) for host in ("a", "b", "c", "nowhere")] == [False, False, True, False]
    ways.take(2, "c")
    assert not ways.is_new("c")


def test_a_way_whose_path_was_lost_is_new_again_though_its_interface_is_gone() -> None:
    by: dict[str, str] = {"a": "eth0", "b": "wlan0", "c": "wlan0"}
    ways = Ways(by.get)
    ways.take(1, "a")
    ways.take(2, "b")
    del by["b"]
    ways.lost(2)
    ways.lost(7)
    assert [ways.is_new(host) for host in ("a", "c")] == [False, True]
    ways.lost(1)
    assert ways.is_new("a")


def test_there_are_never_more_than_so_many() -> None:
    ways = Ways(lambda host: host)
    for number in range(MAX_WAYS):
        assert ways.is_new(str(number))
        ways.take(number, str(number))
    assert not ways.is_new("another")


def test_beside_a_path_of_which_nobody_knows_the_interface_nothing_is_new() -> None:
    """Such as one to this very machine."""
    ways = Ways({"b": "eth0"}.get)
    ways.take(1, "a")
    assert not ways.is_new("b")


def test_the_interface_is_the_one_that_has_the_address_to_dial_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: [adapter("lo", "127.0.0.1"), adapter("eth7", "192.168.7.2")])
    monkeypatch.setattr(ownaddresses, "source_towards", lambda target: "192.168.7.2")
    assert interface_towards("192.168.7.9") == "eth7"
    assert interface_towards("192.168.7.2") is None
    monkeypatch.setattr(ownaddresses, "source_towards", lambda target: None)
    assert interface_towards("192.168.7.9") is None


def adapter(name: str, address: str) -> ifaddr.Adapter:
    return ifaddr.Adapter(name, name, [ifaddr.IP(address, 24, name)])


def test_this_machine_is_reached_by_none() -> None:
    assert interface_towards("127.0.0.1") is None
