"""The sockets of a punch, on loopback: candidates and plans, what is handed over, what is closed, what is exhausted."""

from __future__ import annotations

import errno
import math
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from p2pxfer.core.addresses import PUNCH_PORTS, Endpoint, parse_endpoint
from p2pxfer.core.messages import NatSummary
from p2pxfer.core.traversal.course import SETTLING_S
from p2pxfer.core.traversal.dialing import MAX_CANDIDATES
from p2pxfer.core.traversal.dials import Candidate, Plan, Volley
from p2pxfer.core.traversal.strategies import Situation
from p2pxfer.net.traversal import halfopen, puncher
from p2pxfer.net.traversal.gateway import hold_port
from p2pxfer.net.traversal.halfopen import RESERVE, HalfOpen, descriptor_room
from p2pxfer.net.traversal.listening import Doorman
from p2pxfer.net.traversal.puncher import MAPPED_START, OTHERS_S, Mapped, Puncher
from tests.net.reactors import reactor, sleep, until
from tests.net.serverkit import dialled_from, free_port, is_reset

HOST = "127.0.0.1"
STEADY = NatSummary(mapping="endpoint-independent", ports="preserving")
SEQUENTIAL = NatSummary(mapping="port-dependent", ports="sequential", step=1, latest=40000)
PUBLIC: tuple[Endpoint, ...] = (parse_endpoint("198.18.2.1:30000"),)


class Peer(Protocol):
    """One end of a connection that came about."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        sock.listen(200)
        yield sock


@pytest.fixture
def silent() -> Iterator[int]:
    """A port whose SYNs get no answer: the queue of its listener is full."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        sock.listen(0)
        port = sock.getsockname()[1]
        first = socket.create_connection((HOST, port))
        yield port
        first.close()


class Punch:
    """A puncher with a plan that the test chose, and what it built."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        plan: Plan | None,
        *,
        candidates: list[Candidate] | None = None,
        situation: Situation | None = None,
        permit: Callable[[], str | None] = puncher.always,
        refuse: bool = False,
        mapped: int = 0,
    ) -> None:
        self.built: list[Peer] = []
        self.made_by: list[str] = []
        self.led_here: list[Peer] = []
        self.planned: list[Situation] = []
        self.plan = plan
        self.refuse = refuse

        def planned(situation: Situation, port: int, draw: object) -> Plan | None:
            self.planned.append(situation)
            return self.plan

        monkeypatch.setattr(puncher, "plan", planned)
        situation = situation or Situation(STEADY, STEADY, PUBLIC, round_trip=0.01)
        self.puncher = Puncher(reactor, free_port(), candidates or [], self.build, situation, permit,
                                Mapped(mapped, self.lead) if mapped else None)  # fmt: skip
        self.puncher.start()

    def lead(self, address: IAddress) -> Peer | None:
        self.led_here.append(Peer())
        return self.led_here[-1]

    def build(self, address: IAddress) -> Peer | None:
        if self.refuse:
            return None
        self.built.append(Peer())
        self.made_by.append(self.puncher.made_by)
        return self.built[-1]

    def end(self) -> None:
        self.puncher.stop()
        for peer in self.built + self.led_here:
            if not peer.lost:
                peer.transport.abortConnection()  # type: ignore[union-attr]  # it is connected


def volley(port: int, count: int = 1, **changes: Any) -> Volley:
    given: dict[str, Any] = {
        "source": "fresh", "host": HOST, "ports": (port,) * count, "pace": math.inf, "window": 512, "ends": 5.0,
        "after_error": "leave", "most": 1000,
    }  # fmt: skip
    return Volley(**{**given, **changes})


@pytest_twisted.ensureDeferred
async def test_a_candidate_that_refuses_is_dialled_until_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    punch = Punch(monkeypatch, None, candidates=[Candidate("host", HOST, port)])
    await until(lambda: punch.puncher.last_errors)
    assert punch.puncher.last_errors == {(HOST, port): "Connection refused"}
    with socket.socket() as late:
        late.bind((HOST, port))
        late.listen()
        await until(lambda: punch.built)
        far, _ = late.accept()
        far.sendall(b"hello")
        await until(lambda: punch.built[0].heard == b"hello")
        far.close()
    punch.end()
    assert await punch.puncher.done > 1


@pytest_twisted.ensureDeferred
async def test_what_a_server_tells_without_end_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece of news of the peer may name other endpoints; only those that are dialled are expected to come."""
    port = free_port()
    punch = Punch(monkeypatch, None, candidates=[Candidate("host", HOST, port)])
    news = [[(f"127.1.{number}.{host}", 30000) for host in range(1, 9)] for number in range(100)]
    for endpoints in news:
        punch.puncher.add([Candidate("server-reflexive", *endpoint) for endpoint in endpoints])
    expected = punch.puncher._guests[0].expected
    assert len(expected) == MAX_CANDIDATES
    assert {(HOST, port), *news[0]} <= expected
    punch.end()


@pytest_twisted.ensureDeferred
async def test_a_plan_dials_from_fresh_ports_and_hands_every_connection_over(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    punch = Punch(monkeypatch, Plan("tried", (volley(listener.getsockname()[1], 100),)))
    await until(lambda: len(punch.built) == 100)
    ports = set()
    for _ in range(100):
        far, (_, port) = listener.accept()
        ports.add(port)
        far.close()
    assert len(ports) == 100
    assert ports <= set(PUNCH_PORTS)
    assert punch.puncher.tried == "tried (100 SYNs from here)"
    await until(lambda: all(peer.lost for peer in punch.built))
    punch.end()


@pytest_twisted.ensureDeferred
async def test_a_refused_connection_is_reset(monkeypatch: pytest.MonkeyPatch, listener: socket.socket) -> None:
    punch = Punch(monkeypatch, Plan("", (volley(listener.getsockname()[1]),)), refuse=True)
    far, _ = await _accepted(listener)
    await until(lambda: is_reset(far))
    far.close()
    punch.end()


@pytest_twisted.ensureDeferred
async def test_the_port_that_the_router_leads_here_is_listened_on_and_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = hold_port()
    assert held is not None
    port = held.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((HOST, port))
    for option in (None, socket.SO_REUSEADDR):
        with pytest.raises(OSError, match="in use"), socket.socket() as other:
            if option is not None:
                other.setsockopt(socket.SOL_SOCKET, option, 1)
            other.bind((HOST, port))
    punch = Punch(monkeypatch, None, mapped=port)
    with socket.create_connection((HOST, port)):
        await until(lambda: punch.led_here)
    assert not punch.built
    punch.end()
    await until(lambda: not listening_at(port))
    held.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_no_other_user_gets_in_at_the_port() -> None:
    program = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "address, port = socket.SO_REUSEADDR, socket.SO_REUSEPORT\n"
        "for options in ([], [address], [port], [address, port]):\n"
        "    for host in ('', '127.0.0.1'):\n"
        "        with socket.socket() as other:\n"
        "            for option in options:\n"
        "                other.setsockopt(socket.SOL_SOCKET, option, 1)\n"
        "            try:\n"
        "                other.bind((host, int(sys.argv[1])))\n"
        "                other.listen()\n"
        "                print('listens', options, host)\n"
        "            except OSError:\n"
        "                print('no')\n"
    )
    held = hold_port()
    assert held is not None
    with held:
        argv = [sys.executable, "-c", program, str(held.getsockname()[1])]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.split("\n") == ["no"] * 8 + [""]


def listening_at(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((HOST, port)) == 0


@pytest_twisted.ensureDeferred
async def test_punches_that_share_their_ports_get_the_connections_of_their_own_peers() -> None:
    """The kernel would spread them over all listeners; the end of one punch leaves the others theirs."""
    port, mapped = free_port(), free_port()
    doorman = Doorman(reactor)
    punches: dict[str, Puncher] = {}
    came: list[tuple[str, str]] = []
    built: list[Peer] = []

    def build(mine: str, address: Any) -> Peer:
        came.append((mine, address.host))
        built.append(Peer())
        return built[-1]

    hosts = ["127.0.0.2", "127.0.0.3"]
    for host in hosts:
        candidates = [Candidate("server-reflexive", host, free_port())]
        led = Mapped(mapped, partial(build, host))
        punches[host] = Puncher(reactor, port, candidates, partial(build, host), mapped=led, doorman=doorman)
        punches[host].start()
    far = [dialled_from(host, at) for _ in range(10) for host in hosts for at in (port, mapped)]
    await until(lambda: len(came) == len(far))
    assert all(mine == host for mine, host in came)
    punches["127.0.0.3"].stop()
    far += [dialled_from("127.0.0.2", at) for at in (port, mapped)]
    await until(lambda: len(came) == len(far))
    assert all(mine == host for mine, host in came)
    punches["127.0.0.2"].stop()
    await until(lambda: not listening_at(port) and not listening_at(mapped))
    for peer in built:
        peer.transport.abortConnection()  # type: ignore[union-attr]  # it is connected
    for sock in far:
        sock.close()


@pytest.mark.parametrize("theirs", [True, False])
def test_a_plan_waits_longer_where_a_router_gave_a_port(monkeypatch: pytest.MonkeyPatch, theirs: bool) -> None:
    """The peer's router, or the one here: what it leads here will most likely win."""
    now: Any = Clock()
    planned: list[object] = []
    monkeypatch.setattr(puncher, "plan", lambda *_: planned.append(1))
    candidates = [Candidate("mapped", HOST, free_port())] if theirs else []
    mapped = None if theirs else Mapped(free_port(), lambda _: None, announced=True)
    monkeypatch.setattr(Puncher, "_dial", lambda self, dial: None)
    doorman: Any = SimpleNamespace(admit=lambda *_: None, dismiss=lambda _: None)
    situation = Situation(STEADY, STEADY, PUBLIC, 1.0)
    punch = Puncher(now, free_port(), candidates, lambda _: None, situation, mapped=mapped, doorman=doorman)
    punch.start()
    now.advance(MAPPED_START - 0.1)
    assert not planned
    now.advance(0.2)
    assert planned
    punch.stop()


@pytest_twisted.ensureDeferred
async def test_when_a_path_stands_what_is_of_use_beside_it_is_still_tried(
    monkeypatch: pytest.MonkeyPatch, silent: int
) -> None:
    """All else is given up at once."""
    for name in ("OTHERS_S", "PUNCH_S"):
        monkeypatch.setattr(puncher, name, 60.0)  # it is stopped here
    late, beside = free_port(), "127.0.0.2"
    punch = Punch(monkeypatch, None, candidates=[Candidate("host", HOST, silent), Candidate("host", beside, late)])
    await until(lambda: (beside, late) in punch.puncher.last_errors)
    assert [dial.host for dial in punch.puncher._attempts.under_way if dial.host == HOST]
    punch.puncher.settle_for(lambda host: host == beside)
    assert not [dial.host for dial in punch.puncher._attempts.under_way if dial.host == HOST]
    with socket.socket() as listener:
        listener.bind((beside, late))
        listener.listen()
        await until(lambda: bool(punch.built))
    assert not punch.puncher.done.called
    punch.end()
    assert await punch.puncher.done


def test_a_silent_punch_listens_at_once_and_dials_later_whatever_it_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    now: Any = Clock()
    admitted: list[int] = []
    dialled: list[tuple[float, str]] = []
    doorman: Any = SimpleNamespace(admit=lambda port, *_: admitted.append(port), dismiss=lambda _: None)
    monkeypatch.setattr(Puncher, "_dial", lambda self, dial: dialled.append((now.seconds(), dial.host)))
    punch = Puncher(now, 30000, [Candidate("host", HOST, 40000)], lambda _: None, doorman=doorman)
    punch.start(0.2)
    assert admitted == [30000]
    now.advance(0.1)
    punch.add([Candidate("host", "127.0.0.2", 40000)])
    now.advance(0.05)
    assert dialled == []
    now.advance(0.05)
    assert sorted(host for _, host in dialled) == [HOST, "127.0.0.2"]
    punch.stop()


def test_what_is_of_use_beside_a_path_that_stands_is_tried_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for as long as the whole punch."""
    now: Any = Clock()
    doorman: Any = SimpleNamespace(admit=lambda *_: None, dismiss=lambda _: None)
    monkeypatch.setattr(Puncher, "_dial", lambda self, dial: None)
    punch = Puncher(now, free_port(), [Candidate("host", HOST, free_port())], lambda _: None, doorman=doorman)
    punch.start()
    now.advance(1.0)
    punch.settle_for(lambda host: True)
    now.advance(OTHERS_S - 0.1)
    assert not punch.done.called
    now.advance(0.2)
    assert punch.done.called


@pytest_twisted.ensureDeferred
async def test_when_a_path_stands_and_nothing_else_is_of_use_the_punch_is_over(
    monkeypatch: pytest.MonkeyPatch, silent: int
) -> None:
    punch = Punch(monkeypatch, None, candidates=[Candidate("host", HOST, silent)])
    punch.puncher.settle_for(lambda host: False)
    assert punch.puncher.done.called
    assert not punch.puncher._attempts.under_way


@pytest_twisted.ensureDeferred
async def test_a_candidate_that_becomes_known_later_is_dialled(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    punch = Punch(monkeypatch, None)
    punch.puncher.add([Candidate("mapped", HOST, listener.getsockname()[1])])
    await until(lambda: punch.built)
    far, _ = await _accepted(listener)
    far.close()
    punch.end()
    punch.puncher.add([Candidate("mapped", HOST, free_port())])
    assert await punch.puncher.done == 1


async def _accepted(listener: socket.socket) -> tuple[socket.socket, Any]:
    listener.setblocking(False)
    end = time.monotonic() + 40
    while True:
        try:
            return listener.accept()
        except BlockingIOError:
            assert time.monotonic() < end
            await sleep(0.01)


@pytest_twisted.ensureDeferred
async def test_what_is_half_open_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch, silent: int) -> None:
    before = len(reactor.getWriters())
    punch = Punch(monkeypatch, Plan("", (volley(silent, 300),)))
    await until(lambda: punch.puncher.tried)
    assert len(reactor.getWriters()) >= before + 290
    punch.end()
    assert len(reactor.getWriters()) == before
    assert await punch.puncher.done == 300


@pytest_twisted.ensureDeferred
async def test_the_oldest_makes_room_and_errors_are_counted(monkeypatch: pytest.MonkeyPatch, silent: int) -> None:
    before = len(reactor.getWriters())
    rolling = volley(silent, 60, window=20, keep=0.0)
    refusing = volley(free_port(), 30)
    punch = Punch(monkeypatch, Plan("", (rolling, refusing)))
    await until(lambda: punch.puncher.plan_errors["Connection refused"] == 30)
    await until(lambda: "90 SYNs" in punch.puncher.tried)
    assert len(reactor.getWriters()) <= before + 20
    punch.end()


@pytest_twisted.ensureDeferred
async def test_descriptors_run_out_for_the_plan_and_not_for_the_program(
    monkeypatch: pytest.MonkeyPatch, silent: int
) -> None:
    """A limit that falls below what the plan was promised: the plan makes do with what it has."""
    monkeypatch.setattr(puncher, "descriptor_room", lambda wanted: wanted)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as highest:
        number = highest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (number + 60, hard))
    try:
        punch = Punch(monkeypatch, Plan("", (volley(silent, 300, pace=300.0, ends=3.0),)))
        await until(lambda: punch.puncher.plan_errors["Too many open files"])
        await sleep(0.2)
        assert punch.puncher.plan_errors["Too many open files"] < 20  # of some 240 that would fail otherwise
        with socket.socket():
            pass  # there is one left
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        punch.end()


@pytest_twisted.ensureDeferred
async def test_the_one_that_stands_is_kept_when_descriptors_have_run_out(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket, silent: int
) -> None:
    """Handing a connection over takes one descriptor more: those that only try make room for it."""
    adopt, calls = reactor.adoptStreamConnection, []

    def exhausted_once(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        adopt(*args)

    monkeypatch.setattr(reactor, "adoptStreamConnection", exhausted_once)
    before = len(reactor.getWriters())
    waiting = volley(silent, 50)
    punch = Punch(monkeypatch, Plan("", (waiting, volley(listener.getsockname()[1]))))
    await until(lambda: punch.built)
    assert len(calls) == 2
    assert len(reactor.getWriters()) == before
    far, _ = await _accepted(listener)
    far.sendall(b"hello")
    await until(lambda: punch.built[0].heard == b"hello")
    far.close()
    punch.end()


@pytest_twisted.ensureDeferred
async def test_a_connection_that_nobody_can_take_is_reset_whatever_goes_wrong(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    def broken(*args: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(reactor, "adoptStreamConnection", broken)
    punch = Punch(monkeypatch, Plan("", (volley(listener.getsockname()[1]),)))
    far, _ = await _accepted(listener)
    await until(lambda: is_reset(far))
    far.close()
    punch.end()


def test_the_soft_limit_is_raised_and_what_is_short_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(400, 1000)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.append(pair))
    monkeypatch.setattr(halfopen, "Path", lambda text: _Directory(100))
    assert descriptor_room(40) == 40
    assert limits == [(400, 1000)]
    assert descriptor_room(600) == 600
    assert limits[-1] == (1000, 1000)
    assert descriptor_room(900) == 1000 - 100 - RESERVE


class _Directory:
    def __init__(self, entries: int) -> None:
        self._entries = entries

    def iterdir(self) -> Iterator[int]:
        return iter(range(self._entries))


@pytest_twisted.ensureDeferred
async def test_a_reason_against_a_plan_is_told_and_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def permit() -> str:
        asked.append(1)
        return "no"

    punch = Punch(monkeypatch, Plan("tried", ()), permit=permit)
    await until(lambda: punch.puncher.tried)
    punch.puncher.peer_nat(SEQUENTIAL)
    assert punch.puncher.tried == "no"
    assert asked == [1]
    punch.end()


@pytest_twisted.ensureDeferred
async def test_a_plan_for_the_next_ports_waits_for_news_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    situation = Situation(STEADY, SEQUENTIAL, PUBLIC, round_trip=0.1)
    monkeypatch.setattr(puncher, "NEWS", 6000.0)
    punch = Punch(monkeypatch, Plan("tried", ()), situation=situation)
    course = punch.puncher._course
    assert course is not None
    await until(lambda: course._due)
    assert punch.planned == []
    fresher = NatSummary(mapping="port-dependent", ports="sequential", step=1, latest=40017)
    punch.puncher.peer_nat(fresher)
    assert [one.theirs.latest for one in punch.planned] == [40017]
    punch.puncher.peer_nat(SEQUENTIAL)
    assert len(punch.planned) == 1
    punch.end()


@pytest.mark.parametrize("light", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_plan_that_is_no_more_than_a_candidate_needs_no_permission(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket, light: bool
) -> None:
    planned = Plan("tried", (volley(listener.getsockname()[1]),), "second", light)
    punch = Punch(monkeypatch, planned, permit=lambda: "forbidden")
    await until(lambda: punch.puncher.plan_state != "none")
    assert punch.puncher.plan_state == ("followed" if light else "withheld")
    if light:
        await until(lambda: punch.built)
    punch.end()
    assert ("forbidden" in punch.puncher.tried) != light


@pytest_twisted.ensureDeferred
async def test_without_news_the_plan_goes_on_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    punch = Punch(monkeypatch, Plan("tried", ()), situation=Situation(STEADY, SEQUENTIAL, PUBLIC, round_trip=0.05))
    await until(lambda: punch.planned)
    assert punch.planned[0].theirs.latest == 40000
    punch.end()


@pytest_twisted.ensureDeferred
async def test_a_second_look_leads_to_a_second_plan_under_the_same_permission(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    """Both sides may have a counter: this one looked itself, and has heard of the other."""
    asked: list[int] = []

    def permit() -> None:
        asked.append(1)

    situation = Situation(SEQUENTIAL, SEQUENTIAL, PUBLIC, round_trip=0.05)
    punch = Punch(monkeypatch, Plan("tried", (volley(free_port()),), "meet"), situation=situation, permit=permit)
    await until(lambda: punch.planned)
    await sleep(SETTLING_S)
    punch.plan = Plan("tried", (volley(listener.getsockname()[1]),), "meet")
    fresher = NatSummary(mapping="port-dependent", ports="sequential", step=1, latest=40500)
    punch.puncher.peer_nat(fresher)
    assert len(punch.planned) == 1
    punch.puncher.looked_again(fresher)
    assert [(one.mine.latest, one.theirs.latest) for one in punch.planned[1:]] == [(40500, 40500)]
    await until(lambda: punch.built)
    assert asked == [1]
    assert punch.puncher.tried.startswith("tried, and again")
    punch.end()


@pytest_twisted.ensureDeferred
async def test_what_becomes_known_later_leads_to_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    punch = Punch(monkeypatch, None)
    await until(lambda: punch.planned)
    changing = NatSummary(mapping="port-dependent", ports="random")
    punch.puncher.my_nat(changing)
    assert punch.planned[-1].mine == changing
    punch.end()


@pytest_twisted.ensureDeferred
async def test_it_is_known_to_which_way_a_connection_belongs(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    punch = Punch(monkeypatch, None, candidates=[Candidate("host", HOST, port)])
    await until(lambda: punch.built)
    assert (punch.puncher.way, punch.made_by) == ("single", ["single"])
    punch.end()
    planned = Plan("tried", (volley(port),), "walk")
    punch = Punch(monkeypatch, planned, candidates=[Candidate("host", HOST, free_port())])
    await until(lambda: punch.built)
    assert (punch.puncher.way, punch.made_by) == ("walk", ["walk"])
    # A connection from where no candidate is comes from the plan of the other side.
    with socket.create_connection((HOST, punch.puncher._port)):
        await until(lambda: len(punch.built) == 2)
    assert punch.made_by == ["walk", "walk"]
    punch.end()


@pytest.mark.parametrize(("order", "at_once"), [((), False), (("walk", "single"), True), (("single", "walk"), False)])
@pytest_twisted.ensureDeferred
async def test_a_plan_begins_when_the_order_says(
    monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...], at_once: bool
) -> None:
    changing = NatSummary(mapping="port-dependent", ports="random")
    situation = Situation(STEADY, changing, PUBLIC, round_trip=600.0, order=order)
    punch = Punch(monkeypatch, Plan("tried", (), "walk"), situation=situation)
    await sleep(0.05)
    assert bool(punch.planned) == at_once
    punch.end()


def test_a_dial_that_fails_at_once_is_an_error() -> None:
    with pytest.raises(OSError) as raised:
        HalfOpen(reactor, 0, ("255.255.255.255", 30000), lambda code: None)
    assert raised.value.errno in (errno.ENETUNREACH, errno.EACCES, errno.EHOSTUNREACH)


def test_an_event_that_was_meant_for_another_socket_decides_nothing(silent: int) -> None:
    """Within one batch of events a descriptor's number may have been closed and given to a new dial."""
    ends: list[int] = []
    half_open = HalfOpen(reactor, 0, (HOST, silent), ends.append)
    half_open.doWrite()
    assert ends == []
    writers: list[object] = list(reactor.getWriters())
    assert half_open in writers
    half_open.close()


@pytest_twisted.ensureDeferred
async def test_four_hundred_dials_a_second_cost_little(monkeypatch: pytest.MonkeyPatch, silent: int) -> None:
    """Ten times what a walk's share of a processor may be would still pass; a Deferred each would not."""
    monkeypatch.setattr(puncher, "PUNCH_S", 60.0)
    before = time.process_time()
    punch = Punch(monkeypatch, Plan("", (volley(silent, 800, pace=600.0, window=400, keep=0.0, ends=60.0),)))
    await until(lambda: punch.puncher._schedule.dials > 400)
    used = time.process_time() - before
    punch.end()
    dials = await punch.puncher.done
    print(f"{dials} dials in {used:.3f} s of the processor, {1e6 * used / dials:.0f} microseconds each")
    assert used / dials < 0.0025
