"""The NATs of `tunnat`: what they do with ports, and that what passes them is whole."""

from __future__ import annotations

import os
import select
import socket

import pytest

from tests.lab import probe
from tests.lab.conftest import LabFactory
from tests.lab.namespaces import LabError
from tests.lab.nat import KINDS
from tests.lab.probe import Answer
from tests.lab.tunnat import TunKind

PUNCH = 23456
BY_CONNECTION, FIRST_PRESERVED = TunKind("by-connection"), TunKind("first-preserved")
RTT_MS, PATIENCE = 4.0, 2.0


@pytest.mark.parametrize("kind", [BY_CONNECTION, TunKind("by-connection", 40960, 41215)], ids=lambda kind: kind.name)
def test_every_connection_gets_a_port_of_its_own(lab_factory: LabFactory, kind: TunKind) -> None:
    lab = lab_factory(kind, None, rtt_ms=RTT_MS)
    server = probe.Server(lab)
    ports = []
    for endpoint in server.endpoints + server.endpoints[:1] * 4:
        connection = server.observe("alice", PUNCH, endpoint)
        assert connection.seen[0] == lab.public_addr("nat_a")
        ports.append(connection.seen[1])
        connection.close()
    assert all(kind.low <= port <= kind.high for port in ports)
    assert len(set(ports)) >= 6  # of eight; some may be alike by chance


def test_a_connection_that_was_reset_gives_its_port_back(lab_factory: LabFactory) -> None:
    """From either end; while it stands its port is taken, and there is none for another one."""
    lab = lab_factory(TunKind("by-connection", 5000, 5001), None, rtt_ms=RTT_MS)
    server = probe.Server(lab)
    for number in range(6):
        stays, goes = (server.observe("alice", PUNCH + 2 * number + one, server.endpoints[0]) for one in range(2))
        assert {stays.seen[1], goes.seen[1]} == {5000, 5001}
        third = probe.dial(lab, "alice", server.endpoints[0], PUNCH - 1)
        assert probe.settle([third], 0.3) == [Answer.SILENT]
        third.sock.close()
        goes.close()
        probe.reset(stays.server)
        assert probe.receive(stays.client, 5.0) == b""
        stays.client.close()


def test_the_first_connection_keeps_its_port_and_no_other_one_gets_it(lab_factory: LabFactory) -> None:
    lab = lab_factory(FIRST_PRESERVED, None, rtt_ms=RTT_MS)
    server = probe.Server(lab)
    kept = [server.observe("alice", PUNCH, endpoint) for endpoint in server.endpoints]
    ports = [connection.seen[1] for connection in kept]
    assert ports[0] == PUNCH
    assert len(set(ports)) == 4
    for connection in kept:
        connection.close()
    assert [server.observe("alice", PUNCH, endpoint).seen[1] for endpoint in server.endpoints] == ports
    assert server.observe("alice", PUNCH + 1, server.endpoints[3]).seen[1] == PUNCH + 1


@pytest.mark.parametrize("kind", [BY_CONNECTION, FIRST_PRESERVED], ids=lambda kind: kind.name)
def test_only_what_was_dialled_may_answer(lab_factory: LabFactory, kind: TunKind) -> None:
    """From outside a bare SYN comes in where one went out before, and nowhere else."""
    lab = lab_factory(kind, None, rtt_ms=RTT_MS)
    server = probe.Server(lab)
    seen = server.observe("alice", PUNCH, server.endpoints[0]).seen
    listener = probe.listen(lab, "alice", PUNCH)
    strangers = [probe.dial(lab, role, seen) for role in ("srv", "bob")]
    assert probe.settle(strangers, 0.5) == [Answer.SILENT, Answer.SILENT]
    assert not probe.has_guest(listener)


@pytest.mark.parametrize("kind", [BY_CONNECTION, FIRST_PRESERVED], ids=lambda kind: kind.name)
def test_what_passes_is_whole(lab_factory: LabFactory, kind: TunKind) -> None:
    """Some megabytes each way at once, in batches of segments and single ones: a wrong checksum would stop them."""
    lab = lab_factory(kind, None, rtt_ms=RTT_MS)
    server = probe.Server(lab)
    connection = server.observe("alice", PUNCH, server.endpoints[0])
    ends = (connection.client, connection.server)
    for end in ends:
        end.setblocking(False)
    sent = [os.urandom(3 << 20) for _ in ends]
    left = {end: memoryview(data) for end, data in zip(ends, sent, strict=True)}
    got: dict[socket.socket, bytearray] = {end: bytearray() for end in ends}
    while any(len(data) < 3 << 20 for data in got.values()):
        readable, writable, _ = select.select(ends, [end for end in ends if left[end]], [], 10.0)
        assert readable or writable, "it does not go on"
        for end in readable:
            got[end] += end.recv(1 << 16)
        for end in writable:
            left[end] = left[end][end.send(left[end][: 1 << 16]) :]
    assert [bytes(got[end]) for end in reversed(ends)] == sent


def test_what_the_lab_cannot_do_is_refused(lab_factory: LabFactory) -> None:
    with pytest.raises(LabError):
        lab_factory(BY_CONNECTION, None, rtt_ms=0)
    with pytest.raises(LabError):
        lab_factory(BY_CONNECTION, None, rtt_ms=RTT_MS, carrier_a=KINDS["full-cone"])
    lab = lab_factory(BY_CONNECTION, None, rtt_ms=RTT_MS)
    for change in (lab.flush_nat, lab.reboot_nat):
        with pytest.raises(LabError):
            change("nat_a")


@pytest.mark.parametrize("kind", [BY_CONNECTION, FIRST_PRESERVED, TunKind("by-connection", 5000, 5003)])
def test_a_kind_survives_the_command_line(kind: TunKind) -> None:
    assert TunKind.decode(kind.encode()) == kind
    with pytest.raises(ValueError, match="no such mapping"):
        TunKind.decode("sometimes,1,2")
