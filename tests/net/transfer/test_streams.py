"""The two ends of a stream against a peer that is played by the test, and the sinks that take it."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blake3 import blake3
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from p2pxfer.core.session.channelwire import Attach, ChannelMessage, Credit, End, Open, Opened, Piece, Receipt, Reset
from p2pxfer.core.transfer.geometry import chunk_count, chunk_span
from p2pxfer.core.transfer.manifest import DIRECTORY, FILE, Entry, Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.core.words.eventtext import describe
from p2pxfer.errors import (
    ChunkRefused,
    Damaged,
    DiskError,
    Incomplete,
    Interrupted,
    NoSpace,
    P2pxferError,
    PathRefused,
    ProtocolBreach,
    Refused,
    Unreachable,
)
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.staging import streamfile
from p2pxfer.net.staging.streamfile import StreamFile
from p2pxfer.net.transfer.arrivals import MAX_STREAMS, Arrivals
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.net.transfer.instream import IncomingStream
from p2pxfer.net.transfer.outlet import Outlet
from p2pxfer.net.transfer.outstream import StreamPump
from p2pxfer.net.transfer.places import Received
from p2pxfer.net.transfer.undecided import Undecided
from p2pxfer.status import Event, Offer
from p2pxfer.status import Path as PathEvent
from tests.net.disk_tools import open_fds
from tests.net.reactors import Threads
from tests.net.transfer.pumpworld import FakePath

THERE = b"b" * 16


# -- receiving -----------------------------------------------------------------------------------------------------


class Taking:
    """A stream that is received into a folder; the sender is the test."""

    def __init__(
        self,
        folder: Path,
        answer: Callable[[Offer], Awaitable[bool]] = lambda offer: succeed(True),
        place: Any = None,
    ) -> None:
        self.threads = Threads()
        reactor: Any = self.threads
        self.told: list[Event] = []
        self.paths = PathSet(reactor.seconds, self.told.append)
        self.started: list[IncomingStream] = []
        self.stream = IncomingStream(
            reactor, self.paths, place or Folder(str(folder)), decide=answer, started=self.started.append,
            tell=self.told.append, limit=7000, patience=5.0,
        )  # fmt: skip
        self.outcome: list[Received | BaseException] = []
        self.stream.done.addCallbacks(self.outcome.append, lambda failure: self.outcome.append(failure.value))
        self.path: Any = FakePath()
        self.attach(self.path)

    def attach(self, path: Any) -> None:
        self.paths.add(path)
        self.stream.open_path(path)
        self.stream.message(path, Attach(instance=THERE))

    def say(self, message: ChannelMessage) -> None:
        self.stream.message(self.path, message)
        self.threads.advance(0)

    def run(self, done: Callable[[], bool]) -> None:
        """Let threads work until it has come to that."""
        self.threads.advance(0)
        while not done():
            self.threads.wait()
            self.threads.advance(0)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    where = tmp_path / "inbox"
    where.mkdir()
    return where


@pytest.fixture
def taking(inbox: Path) -> Iterator[Taking]:
    made = Taking(inbox)
    yield made
    made.stream.close()
    made.threads.advance(0)


def opening(number: int = 0, name: str = "log.txt", service: str = "stream", channel: int = 0) -> Open:
    return Open(number=number, channel=channel, service=service, credit=0, about=name)


def ending(number: int, data: bytes) -> End:
    return End(number=number, channel=0, digest=blake3(data).digest())


def test_a_stream_ends_when_everything_is_in_its_place(taking: Taking, inbox: Path) -> None:
    taking.say(opening())
    taking.run(lambda: bool(taking.path.said(Opened)))
    (opened,) = taking.path.said(Opened)
    assert opened.rate == 7000
    taking.say(Piece(1, 0, b"some "))
    taking.say(Piece(2, 0, b"words"))
    taking.say(ending(3, b"some words"))
    assert not taking.path.said(End)
    taking.run(lambda: bool(taking.path.said(End)))
    assert (inbox / "log.txt").read_bytes() == b"some words"
    (end,) = taking.path.said(End)
    assert end.digest == blake3(b"some words").digest()
    taking.run(lambda: bool(taking.outcome))
    (outcome,) = taking.outcome
    assert outcome == Received(end.digest, ("log.txt",), 10)
    assert sum(credit.more for credit in taking.path.said(Credit)) == 10
    assert [path.name for path in inbox.iterdir()] == ["log.txt"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_path_that_goes_when_all_is_in_its_place_is_no_loss(taking: Taking, whole: bool) -> None:
    taking.say(opening())
    taking.run(lambda: bool(taking.path.said(Opened)))
    taking.say(Piece(1, 0, b"words"))
    if whole:
        taking.say(ending(2, b"words"))
        taking.run(lambda: bool(taking.outcome))
    taking.paths.remove(taking.path, "closed cleanly")
    (down,) = [event for event in taking.told if isinstance(event, PathEvent) and event.state == "down"]
    assert (describe(down) == "") is whole


@pytest.mark.parametrize("digest", [b"", b"short", bytes(31), bytes(32)])
def test_an_end_without_the_right_hash_leaves_nothing(taking: Taking, inbox: Path, digest: bytes) -> None:
    taking.say(opening())
    taking.run(lambda: bool(taking.path.said(Opened)))
    taking.say(Piece(1, 0, b"data"))
    taking.say(End(number=2, channel=0, digest=digest))
    taking.run(lambda: bool(taking.outcome))
    assert isinstance(taking.outcome[0], Damaged if len(digest) == 32 else ProtocolBreach)
    assert taking.path.said(Reset)
    taking.run(lambda: not list(inbox.iterdir()))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc/passwd", "a\\b", "c:x", "a\nb", "nul", ".p2pxfer-x", "x."]
)
def test_a_name_that_may_not_be_created_is_refused_before_anybody_is_asked(
    taking: Taking, inbox: Path, name: str
) -> None:
    taking.say(opening(name=name))
    taking.run(lambda: bool(taking.path.said(Reset)))
    (reset,) = taking.path.said(Reset)
    assert reset.word == PathRefused.word
    assert taking.started == []
    assert list(inbox.iterdir()) == []


class SlowFolder:
    """One whose disk takes its time to say whether a stream may come."""

    def __init__(self, path: str) -> None:
        self._folder = Folder(path)
        self.open_stream = self._folder.open_stream
        self.looking = threading.Event()
        self.answer = threading.Event()
        self.lookers: list[int] = []

    def check_stream(self, name: str) -> None:
        self.lookers.append(threading.get_ident())
        self.looking.set()
        assert self.answer.wait(30)
        self._folder.check_stream(name)


@pytest.mark.parametrize("ends", ["it is offered", "the sender gives up", "another one is opened"])
def test_a_disk_that_is_slow_to_look_holds_nobody_up(inbox: Path, ends: str) -> None:
    folder = SlowFolder(str(inbox))
    taking = Taking(inbox, place=folder)
    try:
        taking.say(opening())
        assert folder.looking.wait(30)
        if ends == "the sender gives up":
            taking.say(Reset(number=1, channel=0, word="E_INTERRUPTED", message="never mind"))
        elif ends == "another one is opened":
            taking.say(opening(1, channel=2))
            assert [reset.channel for reset in taking.path.said(Reset)] == [2]
        assert (taking.started, taking.stream.offer) == ([], None)
    finally:
        folder.answer.set()
    if ends == "the sender gives up":
        taking.threads.wait()
        taking.threads.advance(0)
        assert (taking.started, taking.stream.offer) == ([], None)
        assert taking.stream.ended
    else:
        taking.run(lambda: bool(taking.path.said(Opened)))
        assert taking.started == [taking.stream]
    assert threading.get_ident() not in folder.lookers
    taking.stream.close()
    taking.threads.advance(0)


def test_what_is_no_stream_and_a_second_one_are_refused(taking: Taking) -> None:
    taking.say(opening(0, service="web"))
    taking.say(opening(1, channel=2))
    taking.say(opening(2, channel=4))
    taking.run(lambda: bool(taking.path.said(Opened)))
    assert [(reset.channel, reset.word) for reset in taking.path.said(Reset)] == [(0, "E_DENIED"), (4, "E_DENIED")]
    assert taking.path.said(Opened)[0].channel == 2


@pytest.mark.parametrize("name", ["log.txt", "a/b"], ids=["asked about", "refused at once"])
def test_what_was_opened_once_is_not_opened_again(inbox: Path, name: str) -> None:
    """Else one Attach asks the user, and tells of an offer, as often as it likes."""
    asked: list[Offer] = []

    def ask(offer: Offer) -> Deferred[bool]:
        asked.append(offer)
        return Deferred()

    taking = Taking(inbox, ask)
    expected = 0 if "/" in name else 1
    for number in range(20):
        taking.say(opening(2 * number, name=name, channel=2 * number))
        taking.run(lambda: len(asked) == expected)
        taking.say(Reset(number=2 * number + 1, channel=2 * number, word="E_INTERRUPTED", message="never mind"))
    assert (len(asked), len(taking.started)) == (expected, expected)
    taking.say(opening(40, channel=40))
    assert (len(asked), len(taking.started)) == (expected, expected)
    assert [(reset.channel, reset.word) for reset in taking.path.said(Reset)][-1] == (40, "E_DENIED")
    taking.stream.close()


def test_more_than_there_is_credit_for_ends_it(taking: Taking) -> None:
    taking.say(opening())
    taking.run(lambda: bool(taking.path.said(Opened)))
    piece = bytes(131072)
    with pytest.raises(ProtocolBreach, match="more than it has credit for"):
        for number in range(1, 1000):
            taking.stream.message(taking.path, Piece(number, 0, piece))
    taking.run(lambda: bool(taking.outcome))
    assert isinstance(taking.outcome[0], ProtocolBreach)


def test_data_before_the_answer_ends_it(inbox: Path) -> None:
    answer: Deferred[bool] = Deferred()
    taking = Taking(inbox, lambda offer: answer)
    taking.say(opening())
    with pytest.raises(ProtocolBreach):
        taking.stream.message(taking.path, Piece(1, 0, b"early"))
    answer.callback(True)
    taking.threads.advance(0)
    assert not taking.path.said(Opened)
    assert list(inbox.iterdir()) == []


def test_a_sender_that_stays_away_ends_it_after_a_while(taking: Taking, inbox: Path) -> None:
    taking.say(opening())
    taking.run(lambda: bool(taking.path.said(Opened)))
    taking.stream.close_path(taking.path)
    taking.threads.advance(4.9)
    second: Any = FakePath(2)
    taking.attach(second)
    taking.threads.advance(60)
    assert taking.outcome == []
    taking.stream.close_path(second)
    taking.threads.advance(5.1)
    taking.run(lambda: bool(taking.outcome))
    assert isinstance(taking.outcome[0], Incomplete)
    assert "a stream cannot go on" in str(taking.outcome[0])
    assert not list(inbox.iterdir())  # whoever hears of the end may end the process


@pytest.mark.parametrize("way", ["reset", "bye", "away"])
def test_a_sender_that_goes_when_the_last_step_has_begun(taking: Taking, inbox: Path, way: str) -> None:
    """What is in its place was received, whatever the sender makes of it."""
    taking.say(opening())
    taking.run(lambda: bool(taking.path.said(Opened)))
    taking.say(Piece(1, 0, b"data"))
    taking.say(ending(2, b"data"))
    # With this the last step is on its way in its thread; what comes of it is heard when somebody waits for it.
    taking.run(lambda: taking.stream.have_bytes == 4)
    if way == "reset":
        taking.say(Reset(number=3, channel=0, word="E_INTERRUPTED", message="interrupted"))
    elif way == "bye":
        taking.stream.confirm()
    else:
        taking.stream.close_path(taking.path)
        taking.threads.advance(5.1)
    taking.run(lambda: bool(taking.outcome))
    assert taking.outcome == [Received(blake3(b"data").digest(), ("log.txt",), 4)]
    assert taking.stream.over
    assert (inbox / "log.txt").read_bytes() == b"data"


def test_a_yes_to_what_the_sender_gave_up_in_the_same_turn(taking: Taking, inbox: Path) -> None:
    taking.say(opening())
    taking.run(lambda: bool(taking.started))
    taking.stream.message(taking.path, Reset(number=1, channel=0, word="E_INTERRUPTED", message="never mind"))
    taking.threads.wait()  # the sink is there before it is heard that nothing comes
    taking.run(lambda: bool(taking.outcome))
    assert "never mind" in str(taking.outcome[0])
    assert not list(inbox.iterdir())


def test_a_last_step_that_fails_is_told_although_the_sender_has_gone(taking: Taking, inbox: Path) -> None:
    taking.say(opening())
    taking.run(lambda: bool(taking.path.said(Opened)))
    taking.say(Piece(1, 0, b"data"))
    taking.say(ending(2, b"other"))
    taking.run(lambda: taking.stream.have_bytes == 4)
    taking.stream.confirm()
    taking.run(lambda: bool(taking.outcome))
    assert isinstance(taking.outcome[0], Damaged)
    taking.run(lambda: not list(inbox.iterdir()))


@pytest.mark.parametrize("way", ["breach", "bye", "close"])
def test_an_end_of_the_turn_in_which_it_fails_begins_no_last_step(taking: Taking, inbox: Path, way: str) -> None:
    """Else the file comes to its place although both sides are told that it did not."""
    taking.say(opening())
    taking.run(lambda: bool(taking.path.said(Opened)))
    taking.say(Piece(1, 0, b"data"))
    taking.run(lambda: taking.stream.have_bytes == 4)
    taking.stream.message(taking.path, ending(2, b"data"))
    if way == "breach":
        with pytest.raises(ProtocolBreach):
            taking.stream.message(taking.path, Piece(3, 8, b"of no channel"))
    elif way == "bye":
        taking.stream.confirm()
    else:
        taking.stream.close()
    taking.run(lambda: bool(taking.outcome))
    assert isinstance(taking.outcome[0], {"breach": ProtocolBreach, "bye": Incomplete, "close": Interrupted}[way])
    assert [reset.channel for reset in taking.path.said(Reset)] == [0]
    assert not list(inbox.iterdir())


def test_a_disk_that_is_full_is_told_to_both(taking: Taking, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: memoryview, offset: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(streamfile, "write_all", full)
    taking.say(opening())
    taking.run(lambda: bool(taking.path.said(Opened)))
    taking.say(Piece(1, 0, b"data"))
    taking.run(lambda: bool(taking.outcome))
    assert isinstance(taking.outcome[0], NoSpace)
    assert taking.path.said(Reset)[0].word == "E_SPACE"
    assert taking.path.said(Reset)[0].message.startswith("its disk failed: ")
    taking.run(lambda: not list(inbox.iterdir()))


# -- whose stream it is --------------------------------------------------------------------------------------------


class FakeStream:
    offer = object()
    over = False

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.attached = 0

    def open_path(self, path: object) -> None:
        self.attached += 1

    def close_path(self, path: object) -> None:
        self.attached -= 1

    def message(self, path: object, message: object) -> None:
        self.heard.append(message)

    def close(self) -> None:
        """Nothing is held."""


def test_streams_are_told_apart_by_the_process_of_their_sender() -> None:
    made: list[FakeStream] = []

    def begin(path: object) -> Any:
        made.append(FakeStream())
        return made[-1]

    nothing: Any = None
    arrivals = Arrivals(nothing, begin, Undecided(Clock(), lambda: None, lambda since: False))
    paths: list[Any] = [FakePath(number) for number in range(MAX_STREAMS + 5)]
    one, two = Attach(instance=b"1" * 16), Attach(instance=b"2" * 16)
    arrivals.attach(paths[0], one)
    arrivals.attach(paths[1], one)
    arrivals.attach(paths[2], two)
    assert [stream.heard for stream in made] == [[one, one], [two]]
    chunk: Any = None
    with pytest.raises(ProtocolBreach):
        arrivals.chunk(paths[0], chunk)
    offer: Any = SimpleNamespace(transfer=bytes(32))
    with pytest.raises(ProtocolBreach):
        arrivals.offer(paths[0], 0.0, offer)
    made[0].over = True
    for path in paths[:2]:
        arrivals.close_path(path, Unreachable("the connection ended"))
    with pytest.raises(P2pxferError, match="over"):
        arrivals.attach(paths[3], one)
    for number in range(MAX_STREAMS - 1):
        arrivals.attach(paths[4 + number], Attach(instance=bytes([number]) * 16))
    with pytest.raises(Refused, match="too many"):
        arrivals.attach(paths[-1], Attach(instance=b"z" * 16))


# -- sending -------------------------------------------------------------------------------------------------------


class Giving:
    """A stream that is sent from a descriptor of the test; the receiver is the test."""

    def __init__(self, limit: float = 0) -> None:
        self.threads = Threads()
        reactor: Any = self.threads
        self.source, self.feed = os.pipe()
        self.pump = StreamPump(reactor, self.source, "log.txt", limit)
        self.paths = PathSet(reactor.seconds, lambda event: None)
        self.done: list[bytes] = []
        self.failed: list[Exception] = []
        self.pump.attach(self.paths, self.done.append, self.failed.append)
        path: Any = FakePath()
        self.path = path
        self.paths.add(path)
        self.pump.open_path(path)
        self.say(Attach(instance=THERE))

    def say(self, message: ChannelMessage) -> None:
        self.pump.message(self.path, message)
        self.threads.advance(0)

    def give(self, data: bytes) -> None:
        os.write(self.feed, data)
        self.threads.wait()
        self.threads.advance(0)

    def end_input(self) -> None:
        os.close(self.feed)
        self.feed = -1
        self.threads.wait()
        self.threads.advance(0)


@pytest.fixture
def giving() -> Iterator[Giving]:
    made = Giving()
    yield made
    stopped = made.pump._reader.stop()
    made.pump.close()
    if made.feed >= 0:
        os.close(made.feed)
    while not stopped.called:
        made.threads.wait()  # or it would read from whatever has this number next
    os.close(made.source)


def received(giving: Giving, count: int) -> None:
    giving.say(Receipt(received=count))


def test_it_is_sent_when_the_receiver_has_ended_too(giving: Giving) -> None:
    (asked,) = giving.path.said(Open)
    assert (asked.service, asked.about) == ("stream", "log.txt")
    giving.say(Opened(number=0, channel=0, credit=100))
    assert giving.pump.accepted
    giving.give(b"words")
    giving.end_input()
    digest = blake3(b"words").digest()
    assert [end.digest for end in giving.path.said(End)] == [digest]
    received(giving, 3)
    assert giving.done == []
    giving.say(Credit(number=1, channel=0, more=5))
    giving.say(End(number=2, channel=0, digest=digest))
    assert giving.done == [digest]
    assert not giving.failed
    assert giving.pump.acked_bytes == 5


def test_a_receiver_that_means_other_bytes(giving: Giving) -> None:
    giving.say(Opened(number=0, channel=0, credit=100))
    giving.give(b"words")
    giving.end_input()
    received(giving, 3)
    giving.say(Credit(number=1, channel=0, more=5))
    giving.say(End(number=2, channel=0, digest=bytes(32)))
    assert isinstance(giving.failed[0], Damaged)


def test_a_receiver_that_ends_too_early(giving: Giving) -> None:
    giving.say(Opened(number=0, channel=0, credit=100))
    giving.say(End(number=1, channel=0, digest=blake3(b"").digest()))
    assert isinstance(giving.failed[0], ProtocolBreach)


def test_a_receiver_that_sends_data(giving: Giving) -> None:
    giving.say(Opened(number=0, channel=0, credit=100))
    giving.say(Piece(1, 0, b"hello"))
    assert isinstance(giving.failed[0], ProtocolBreach)


def test_credit_is_all_that_is_read(giving: Giving) -> None:
    giving.say(Opened(number=0, channel=0, credit=4))
    giving.give(b"0123456789")
    assert b"".join(bytes(piece.payload) for piece in giving.path.said(Piece)) == b"0123"
    assert os.read(giving.source, 100) == b"456789"


def test_another_receiving_process_cannot_go_on(giving: Giving) -> None:
    giving.say(Opened(number=0, channel=0, credit=4))
    second: Any = FakePath(2)
    giving.paths.add(second)
    giving.pump.open_path(second)
    with pytest.raises(Incomplete, match="started anew: a stream cannot go on"):
        giving.pump.message(second, Attach(instance=b"c" * 16))


def test_the_receivers_limit_is_kept(giving: Giving) -> None:
    giving.say(Opened(number=0, channel=0, credit=10**6, rate=1000))
    giving.give(bytes(5000))
    os.write(giving.feed, bytes(5000))
    giving.threads.advance(1.0)
    assert giving.threads.results.empty()
    giving.threads.advance(4.5)
    giving.threads.wait()


# -- standard output -----------------------------------------------------------------------------------------------


def test_standard_output_takes_one_offer() -> None:
    one, two = Entry("a", FILE, 5), Entry("b", FILE, 5)
    for wrong in ([one, two], [Entry("d", DIRECTORY)], [Entry("d", DIRECTORY), Entry("d/a", FILE, 5)]):
        with pytest.raises(Refused, match="one file or one stream"):
            Outlet(1).check(Manifest(wrong), 0)
    outlet = Outlet(1)
    outlet.check(Manifest([one]), 0)
    with pytest.raises(Refused, match="has got it"):
        outlet.check_stream("x")


def test_standard_output_is_free_again_of_what_was_given_up_before_its_first_byte(tmp_path: Path) -> None:
    payload = b"12345"
    manifest = Manifest([Entry("a", FILE, len(payload))])
    target = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    outlet = Outlet(target)
    for written in (False, True):
        outlet.check(manifest, 0)
        store = outlet.open(bytes(32), manifest, Announced(1, 0, 0, counting=False), relisted=False)
        if written:
            store.write_chunk(0, 0, memoryview(payload), blake3(payload).digest())
        store.discard()
    with pytest.raises(Refused, match="has got it"):
        outlet.check(manifest, 0)
    os.close(target)


def test_chunks_of_a_file_come_out_in_order_however_they_come(tmp_path: Path) -> None:
    """Again and again, too early and damaged ones among them."""
    content = random.Random(1).randbytes(40 * 65536 + 123)
    target = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    before = open_fds()
    manifest = Manifest([Entry("a", FILE, len(content))])
    store = Outlet(target).open(bytes(32), manifest, Announced(1, 0, 0, counting=False), relisted=False)
    order = list(range(chunk_count(len(content)))) * 2
    random.Random(2).shuffle(order)
    for index in order:
        offset, length = chunk_span(len(content), index)
        payload = content[offset : offset + length]
        with pytest.raises(ChunkRefused):
            store.write_chunk(0, index, memoryview(payload), bytes(32))
        store.write_chunk(0, index, memoryview(payload), blake3(payload).digest())
    with pytest.raises(Damaged):
        store.finish(bytes(32), 0.0)
    store.close()
    os.close(target)
    assert (tmp_path / "out").read_bytes() == content
    assert open_fds() <= before


def test_a_reader_that_is_gone_is_said_by_every_chunk() -> None:
    drain, target = os.pipe()
    os.close(drain)
    store = Outlet(target).open(
        bytes(32), Manifest([Entry("a", FILE, 100000)]), Announced(1, 0, 0, counting=False), relisted=False
    )
    payload = bytes(65536)
    for _ in range(2):
        with pytest.raises(Interrupted, match="nobody reads"):
            store.write_chunk(0, 0, memoryview(payload), blake3(payload).digest())
    os.close(target)


# -- a file --------------------------------------------------------------------------------------------------------


def test_a_stream_never_replaces_what_exists(inbox: Path) -> None:
    before = open_fds()
    for number in range(3):
        sink = StreamFile(str(inbox), "Log.txt" if number == 1 else "log.txt")
        assert sink.write([b"num", bytearray(b"ber"), memoryview(b" %d" % number)]) == 8
        sink.finish(blake3(b"number %d" % number).digest())
    assert {path.name: path.read_bytes() for path in inbox.iterdir()} == {
        "log.txt": b"number 0", "Log (1).txt": b"number 1", "log (2).txt": b"number 2",
    }  # fmt: skip
    assert open_fds() == before


def test_what_killed_processes_left_is_removed_and_what_live_ones_have_is_not(inbox: Path) -> None:
    alive = StreamFile(str(inbox), "a")
    alive.write([b"alive"])
    (inbox / (".p2pxfer-stream-" + "0" * 16)).mkdir(mode=0o700)
    (inbox / (".p2pxfer-stream-" + "0" * 16) / "data").write_text("dead")
    (inbox / (".p2pxfer-stream-" + "1" * 16)).symlink_to("/")
    second = StreamFile(str(inbox), "b")
    second.discard()
    names = sorted(path.name for path in inbox.iterdir())
    assert len(names) == 2
    assert ".p2pxfer-stream-" + "1" * 16 in names
    alive.finish(blake3(b"alive").digest())
    assert (inbox / "a").read_text() == "alive"


def test_a_destination_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="none' is gone; make it again"):
        StreamFile(str(tmp_path / "none"), "a")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    sink = StreamFile(str(inbox), "a")
    sink.write([b"some"])
    shutil.rmtree(inbox)
    with pytest.raises(DiskError, match="inbox' is gone, and what had arrived with it; ") as raised:
        sink.finish(blake3(b"some").digest())
    sink.discard()
    assert raised.value.abroad == (
        "its destination is gone, and what had arrived with it; run the command again when it is there again"
    )
