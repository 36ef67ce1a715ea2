"""Protocols on the channels of two sessions in memory: everything that they may expect of a transport."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ITransport
from twisted.internet.testing import NonStreamingProducer
from twisted.protocols.basic import FileSender, LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from p2pxfer.core.session.windows import Limits
from p2pxfer.errors import Incomplete, LimitReached, P2pxferError, Refused
from p2pxfer.net.services.peeraddress import PeerAddress
from p2pxfer.net.services.streamsession import LINGER_S, Asking, Streams
from p2pxfer.net.session import reception as reception_module
from p2pxfer.net.session.knownpeers import KnownPeer
from tests.guard import LostErrors
from tests.moments import for_now
from tests.net.services.noting import Noting
from tests.net.sessionworld import Caller, World, into, world

__all__ = ["world"]

HERE, THERE = PeerAddress("p2px1-here", None, "echo"), PeerAddress("p2px1-there", "peer", "echo")


@implementer(IHalfCloseableProtocol)
class Halves(Noting):
    """Its directions end one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.halves: list[str] = []

    def readConnectionLost(self) -> None:
        self.halves.append("read")

    def writeConnectionLost(self) -> None:
        self.halves.append("write")


class Two:
    """A session with connections at both ends."""

    def __init__(self, world: World) -> None:
        self.world = world
        reactor: Any = world.clock
        self.asked: list[Asking] = []
        self.there: list[Streams] = []
        self.house = world.host("host", lambda key: KnownPeer(key, "guest", "contact"), self.user_for)
        self.here = Streams(reactor, HERE, THERE)
        self.caller: Caller = world.caller("guest", "host", self.here)
        world.run()

    def user_for(self, peer: KnownPeer) -> Streams:
        reactor: Any = self.world.clock
        self.there.append(Streams(reactor, THERE, HERE, self.asked.append))
        return self.there[-1]

    def connect(self, kind: type[Noting] = Noting) -> tuple[Any, Any]:
        """One connection: the protocols of this and of the other side."""
        ends = kind(), kind()
        opening = self.here.open("echo", lambda address: ends[0])
        self.world.run()
        self.asked.pop().accept(lambda address: ends[1])
        self.world.run()
        assert opening.result is ends[0]
        return ends


@pytest.fixture
def two(world: World) -> Two:
    return Two(world)


def test_bytes_go_both_ways_and_each_transport_knows_its_ends(two: Two) -> None:
    here, there = two.connect()
    verifyObject(ITransport, here.transport)
    here.transport.write(b"ping")
    there.transport.writeSequence([b"po", b"ng"])
    two.world.run()
    assert (there.heard, here.heard) == (b"ping", b"pong")
    assert here.transport.getPeer() == THERE
    assert here.transport.getHost() == HERE


def test_each_direction_ends_by_itself(two: Two) -> None:
    here, there = two.connect(Halves)
    here.transport.write(b"question")
    here.transport.loseWriteConnection()
    two.world.run()
    assert (here.halves, there.halves) == (["write"], ["read"])
    assert there.heard == b"question"
    there.transport.write(b"answer")
    there.transport.loseWriteConnection()
    two.world.run()
    assert here.heard == b"answer"
    assert here.ends == there.ends == [ConnectionDone]
    assert len(two.here) == len(two.there[0]) == 0


def test_the_end_of_one_direction_ends_a_protocol_that_knows_no_halves(two: Two) -> None:
    here, there = two.connect()
    here.transport.write(b"last words")
    here.transport.loseConnection()
    here.transport.write(b"too late")
    two.world.run()
    assert there.heard == b"last words"
    assert here.ends == there.ends == [ConnectionDone]


def test_who_ends_is_told_so_when_the_other_one_has_had_everything(two: Two) -> None:
    """Not before: a program may exit then."""
    here, there = two.connect(Halves)
    there.transport.pauseProducing()
    here.transport.write(b"x" * 100_000)
    here.transport.loseConnection()
    two.world.run(10)
    assert here.ends == []
    there.transport.resumeProducing()
    two.world.run()
    assert here.ends == [ConnectionDone]
    assert there.heard == b"x" * 100_000
    assert there.halves == ["read"]
    # What goes on there is heard out for a while, and then reset, as TCP would do.
    there.transport.write(b"is anybody there")
    two.world.run()
    assert there.ends == []
    two.world.run(LINGER_S + 1)
    assert there.ends == [ConnectionLost]
    assert here.heard == b""


def test_who_ends_after_its_own_direction_was_taken_waits_for_no_more(two: Two) -> None:
    """However long the other one goes on in its direction."""
    here, there = two.connect(Halves)
    here.transport.write(b"all")
    here.transport.loseWriteConnection()
    two.world.run()
    assert there.heard == b"all"
    assert here.ends == []
    here.transport.loseConnection()
    two.world.run(10)
    assert here.ends == [ConnectionDone]
    assert there.ends == []
    two.world.run(LINGER_S + 1)
    assert there.ends == [ConnectionLost]
    assert here.ends == [ConnectionDone]


def test_an_abort_is_a_reset_at_the_other_end(two: Two) -> None:
    here, there = two.connect(Halves)
    here.transport.write(b"never mind")
    here.transport.abortConnection()
    assert here.ends == [ConnectionAborted]
    two.world.run()
    assert there.ends == [ConnectionLost]
    assert "reset" in there.said[0]
    assert there.halves == []


class Source:
    """A producer that counts what it is told."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.paused = False
        self.stopped = False
        self.written = 0

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.stopped = True

    def fill(self, most: int) -> None:
        while not self.paused and self.written < most:
            self.transport.write(b"y" * 10_000)
            self.written += 10_000


def test_a_paused_reader_holds_the_writer_at_the_far_end(two: Two) -> None:
    here, there = two.connect()
    source = Source(here.transport)
    here.transport.registerProducer(source, True)
    there.transport.pauseProducing()
    most = 10**9
    for _ in range(20):
        source.fill(most)
        two.world.run()
    assert for_now(source.paused)
    window = reception_module.FIRST_LIMITS.begin([])
    assert source.written <= window + 20_000
    assert there.heard == b""
    there.transport.resumeProducing()
    two.world.run()
    assert not source.paused
    assert len(there.heard) == source.written
    here.transport.loseConnection()
    two.world.run()
    assert there.ends == []  # it ends when the producer is done
    here.transport.unregisterProducer()
    two.world.run()
    assert there.ends == [ConnectionDone]


def test_a_producer_that_is_asked_for_each_piece(two: Two) -> None:
    here, there = two.connect()
    producer = NonStreamingProducer(here.transport)
    here.transport.registerProducer(producer, False)
    two.world.run()
    assert there.heard == b"0123456789"


def test_a_file_is_sent_piece_by_piece(two: Two) -> None:
    """As many as fit the channel at once, without a call inside a call for each."""
    here, there = two.connect()
    content = bytes(range(256)) * 40_000
    sending = FileSender().beginFileTransfer(BytesIO(content), here.transport)
    for _ in range(20):
        two.world.run()
    assert sending.called
    assert there.heard == content


def test_files_are_sent_one_after_the_other(two: Two) -> None:
    """The next one is registered in the call that tells the one before it that there is room."""
    here, there = two.connect()
    content = bytes(range(256)) * 40_000
    files = [content, b"", b"second"]

    def send_next(_: object = None) -> None:
        if files:
            FileSender().beginFileTransfer(BytesIO(files.pop(0)), here.transport).addCallback(send_next)

    send_next()
    for _ in range(20):
        two.world.run()
    assert len(there.heard) == len(content) + len(b"second")
    assert there.heard.endswith(b"second")


def test_a_producer_is_stopped_when_the_connection_is_lost(two: Two) -> None:
    here, there = two.connect()
    source = Source(here.transport)
    here.transport.registerProducer(source, True)
    there.transport.abortConnection()
    two.world.run()
    assert source.stopped
    late = Source(here.transport)
    here.transport.registerProducer(late, True)
    assert late.stopped


def test_a_refusal_is_the_reason_of_the_peer(two: Two) -> None:
    opening = two.here.open("echo", lambda address: Noting())
    errors: list[Any] = []
    opening.addErrback(errors.append)
    two.world.run()
    two.asked.pop().refuse(Refused("not on Sundays"))
    two.world.run()
    assert errors[0].check(Refused)
    assert "not on Sundays" in errors[0].getErrorMessage()
    assert len(two.here) == 0


def test_whoever_no_longer_waits_takes_the_connection_back(two: Two) -> None:
    opening = two.here.open("echo", lambda address: Noting())
    errors: list[Any] = []
    opening.addErrback(errors.append)
    two.world.run()
    (asking,) = two.asked
    gone: list[bool] = []
    asking.on_gone = lambda: gone.append(True)
    opening.cancel()
    two.world.run()
    assert gone == [True]
    assert errors[0].check(CancelledError)
    asking.accept(lambda address: pytest.fail("nobody is there"))


def test_connections_end_with_the_session(two: Two) -> None:
    here, there = two.connect()
    waiting = two.here.open("echo", lambda address: Noting())
    errors: list[Any] = []
    waiting.addErrback(errors.append)
    two.world.run()
    two.world.waiting.clear()
    two.world.cut()
    two.world.run(40)
    assert here.ends == there.ends == [ConnectionLost]
    assert "has not been reachable" in here.said[0]
    assert errors[0].check(Incomplete)
    late: list[Any] = []
    two.here.open("echo", lambda address: Noting()).addErrback(late.append)
    assert late[0].check(Incomplete)


def test_connections_survive_a_change_of_path(two: Two) -> None:
    here, there = two.connect()
    here.transport.write(b"before ")
    two.world.cut()
    here.transport.write(b"between ")
    two.world.run(5)
    here.transport.write(b"after")
    two.world.run()
    assert there.heard == b"before between after"


class OneLine(LineReceiver):
    """Hears one line and has enough."""

    transport: Any

    def __init__(self) -> None:
        self.said: list[str] = []

    def lineReceived(self, line: bytes) -> None:
        self.said.append(line.decode())
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008  # as Twisted has it
        self.said.append("lost")


def test_who_aborts_between_two_lines_hears_no_more(two: Two) -> None:
    opening = two.here.open("echo", lambda address: Noting())
    two.world.run()
    lines = OneLine()
    two.asked.pop().accept(lambda address: lines)
    two.world.run()
    here: Any = opening.result
    here.transport.write(b"one\r\ntwo\r\n")
    two.world.run()
    assert lines.said == ["one", "lost"]


class Broken(Noting):
    def dataReceived(self, data: bytes) -> None:
        raise RuntimeError("no")


def test_a_fault_of_a_protocol_ends_its_own_connection_only(two: Two, lost_errors: LostErrors) -> None:
    here, there = two.connect(Broken)
    other, another = two.connect()
    here.transport.write(b"x")
    two.world.run()
    assert there.ends == [ConnectionAborted]
    assert here.ends == [ConnectionLost]
    other.transport.write(b"fine")
    two.world.run()
    assert another.heard == b"fine"
    assert len(lost_errors.flush(RuntimeError)) == 1


def fault(address: object) -> Noting:
    raise RuntimeError("no protocol")


def test_a_factory_that_fails_leaves_no_connection_behind(two: Two, lost_errors: LostErrors) -> None:
    errors: list[Any] = []
    opening = two.here.open("echo", lambda address: Noting())
    opening.addErrback(errors.append)
    two.world.run()
    assert two.asked.pop().accept(fault)
    two.world.run()
    assert errors[0].check(Refused)
    assert len(lost_errors.flush(RuntimeError)) == 1
    two.here.open("echo", fault).addErrback(errors.append)
    two.world.run()
    there = Noting()
    two.asked.pop().accept(lambda address: there)
    two.world.run()
    assert errors[1].check(RuntimeError)
    assert there.ends == [ConnectionLost]
    assert len(two.here) == len(two.there[0]) == 0
    two.connect()


def test_a_connection_too_many_is_refused_and_the_others_go_on(two: Two) -> None:
    ends = [two.connect() for _ in range(Limits().channels)]
    errors: list[P2pxferError] = []
    two.here.open("echo", lambda address: Noting()).addErrback(into(errors))
    two.world.run()
    assert [type(error) for error in errors] == [LimitReached]
    for number, (here, _) in enumerate(ends):
        here.transport.write(str(number).encode())
    two.world.run()
    assert [there.heard for _, there in ends] == [str(number).encode() for number in range(len(ends))]


def test_what_is_asked_of_who_asks_is_refused(two: Two) -> None:
    """Only one side offers something; the other one has nobody who would answer."""
    errors: list[P2pxferError] = []
    two.there[0].open("echo", lambda address: Noting()).addErrback(into(errors))
    two.world.run()
    assert [type(error) for error in errors] == [Refused]
    assert "nothing is offered" in errors[0].message
