"""What a dial knows of its end: refused by RST, or ended by an ICMP message."""

from __future__ import annotations

import select
import socket
from typing import Any

import pytest

from p2pxfer.net.traversal import halfopen
from tests.lab import probe
from tests.lab.conftest import LabFactory
from tests.lab.namespaces import entered
from tests.lab.nat import KINDS


class Reactor:
    """Remembers who wants to write."""

    def addWriter(self, writer: halfopen.HalfOpen) -> None:
        self.writer = writer

    def removeWriter(self, writer: halfopen.HalfOpen) -> None:
        pass


@pytest.mark.parametrize(("answer", "icmp"), [("rst", False), ("icmp", True)])
def test_a_dial_that_a_nat_refuses_knows_by_what(answer: str, icmp: bool, lab_factory: LabFactory) -> None:
    lab = lab_factory(KINDS["port-restricted"], KINDS[f"port-restricted/{answer}"], rtt_ms=20)
    reactor: Any = Reactor()
    codes: list[int] = []
    with entered(lab.names["alice"]):
        dial = halfopen.HalfOpen(reactor, 0, (lab.public_addr("nat_b"), 40000), codes.append)
    assert select.select([], [dial], [], 5.0)[1]
    dial.doWrite()
    assert codes
    assert dial.icmp is icmp


def test_a_dial_that_stands_is_not_ended_by_icmp_any_more(lab_factory: LabFactory) -> None:
    lab = lab_factory(rtt_ms=0)
    listener = probe.listen(lab, "srv", 40000)
    reactor: Any = Reactor()
    codes: list[int] = []
    with entered(lab.names["alice"]):
        dial = halfopen.HalfOpen(reactor, 0, (lab.server_addresses[0], 40000), codes.append)
    assert select.select([], [dial], [], 5.0)[1]
    dial.doWrite()
    assert codes == [0]
    assert dial.take().getsockopt(socket.IPPROTO_IP, 11) == 0
    dial.close()
    probe.accept(listener)[0].close()
