"""The two descriptors of a pipe: how their ends are passed on, and what goes wrong there."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from p2pxfer.core.session.channelwire import Attach, ChannelMessage, Credit, End, Open, Opened, Piece, Reset
from p2pxfer.core.session.delivery import MAX_FRAMES
from p2pxfer.errors import Interrupted, LimitReached
from p2pxfer.net.blocking import close_output
from p2pxfer.net.services.pipe import SERVICE, Pipe
from tests.net.reactors import Threads
from tests.net.session.sessionstand import HIGHEST, LOWEST, Stand


class Ends:
    """A pipe between two descriptors of the test, on a session whose peer is played by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, peer: bytes, *, reads: bool = True) -> None:
        self.stand = Stand(monkeypatch, folder, peer)
        self.threads = Threads()
        (self.source, self.feed), (self.drain, self.target) = os.pipe(), os.pipe()
        reactor: Any = self.threads
        self.pipe = Pipe(reactor, self.source if reads else None, self.target)
        self.stand.hear = self.pipe.event
        self.pipe.attach(self.stand.session)
        _, self.path = self.stand.path()
        self.say(Attach(instance=b"b" * 16))

    def say(self, message: ChannelMessage) -> None:
        """The peer says this."""
        self.stand.session.path_message(self.path, message)
        self.stand.clock.advance(0)

    def close(self) -> None:
        self.pipe.close()
        self.stand.session.close()
        os.close(self.feed)
        for number in (self.source, self.drain, self.target):
            os.close(number)


@pytest.fixture
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    made = Ends(monkeypatch, tmp_path, request.param)
    yield made
    made.close()


@pytest.mark.parametrize("ends", [HIGHEST], indirect=True, ids=["asking"])
def test_what_is_read_after_the_pipe_was_given_up_goes_nowhere(ends: Ends) -> None:
    ends.say(Opened(number=0, channel=0, credit=1000))
    ends.pipe.give_up(Interrupted("interrupted"))
    os.write(ends.feed, b"late")
    ends.threads.wait()
    assert ends.pipe.bytes_out == 0


@pytest.mark.parametrize("ends", [HIGHEST], indirect=True, ids=["asking"])
def test_what_is_read_when_the_peer_has_just_given_up_goes_nowhere(ends: Ends) -> None:
    ends.say(Opened(number=0, channel=0, credit=1000))
    reset = Reset(number=1, channel=0, word="E_INTERRUPTED", message="never mind")
    ends.stand.session.path_message(ends.path, reset)
    os.write(ends.feed, b"late")
    ends.threads.wait()  # before it is heard that the channel is gone
    ends.stand.clock.advance(0)
    assert ends.pipe.bytes_out == 0
    assert "never mind" in str(ends.pipe.done.result)


@pytest.mark.parametrize("ends", [LOWEST], indirect=True, ids=["waiting"])
def test_a_peer_that_opens_the_pipe_and_gives_it_up_at_once(ends: Ends) -> None:
    ends.stand.session.path_message(ends.path, Open(number=0, channel=0, service=SERVICE, credit=1000))
    ends.say(Reset(number=1, channel=0, word="E_INTERRUPTED", message="never mind"))
    assert ends.pipe.done.called
    assert "never mind" in str(ends.pipe.done.result)
    assert ends.threads.results.empty()


@pytest.mark.parametrize("ends", [LOWEST], indirect=True, ids=["waiting"])
def test_a_peer_that_acknowledges_no_refusal_ends_the_session(ends: Ends) -> None:
    for number in range(MAX_FRAMES + 1):
        ends.say(Open(number=number, channel=2 * number, service=SERVICE, credit=1))
    assert [type(error) for error in ends.stand.errors] == [LimitReached]
    # There is no way to tell the peer, which is no error either.
    ends.pipe.give_up(ends.stand.errors[0])


@pytest.mark.parametrize("ends", [LOWEST], indirect=True, ids=["waiting"])
def test_credit_that_the_peer_does_not_acknowledge_ends_the_session(ends: Ends) -> None:
    """It is given back when the thread has written."""
    ends.say(Open(number=0, channel=0, service=SERVICE, credit=0))
    ends.say(Piece(1, 0, b"written"))
    ends.say(End(number=2, channel=0))
    for number in range(1, MAX_FRAMES):
        ends.say(Open(number=number + 2, channel=2 * number, service=SERVICE, credit=1))
    assert ends.stand.errors == []
    ends.threads.wait()
    assert os.read(ends.drain, 100) == b"written"
    assert os.read(ends.drain, 1) == b""
    assert [type(error) for error in ends.stand.errors] == [LimitReached]


def test_where_nothing_is_read_the_end_is_told_once_and_what_comes_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ends = Ends(monkeypatch, tmp_path, HIGHEST, reads=False)
    try:
        ends.say(Opened(number=0, channel=0, credit=1000))
        assert [message.channel for message in ends.path.sent if isinstance(message, End)] == [0]
        ends.say(Credit(number=1, channel=0, more=0, wider=1000))
        ends.say(Piece(2, 0, b"written"))
        ends.say(End(number=3, channel=0))
        ends.threads.wait()
        assert os.read(ends.drain, 100) == b"written"
        assert os.read(ends.drain, 1) == b""
        assert [message.channel for message in ends.path.sent if isinstance(message, End)] == [0]
    finally:
        ends.close()


def test_the_end_of_the_output_is_seen_where_input_and_output_are_one_socket() -> None:
    """As inetd and socat start a program: the descriptor for the input keeps the socket open."""
    here, there = socket.socketpair()
    with here, there:
        there.settimeout(30)
        output = os.dup(here.fileno())
        close_output(output)
        assert there.recv(1) == b""
        there.send(b"x")
        assert here.recv(1) == b"x"
        os.close(output)


def test_the_end_of_the_output_is_seen_at_a_pipe_and_the_number_stays_taken() -> None:
    out, into = os.pipe()
    close_output(into)
    assert os.read(out, 1) == b""
    os.write(into, b"nobody gets this")
    assert os.read(out, 1) == b""
    os.close(into)
    os.close(out)


def test_an_output_whose_reader_is_gone_can_be_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as here:
        there, _ = server.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        there.close()
        here.settimeout(30)
        try:
            here.recv(1)
        except ConnectionResetError:
            pass
        output = os.dup(here.fileno())
        close_output(output)
        os.close(output)
