"""The agent's socket with real sockets, and the blocking side of commands in threads."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from p2pxfer.core.agent.control import (
    MAX_ANSWER,
    MAX_QUESTION,
    Answer,
    Declined,
    Doorbell,
    Ending,
    EndWanted,
    Looking,
    Question,
    Status,
    StatusWanted,
    encode_line,
)
from p2pxfer.errors import ConfigError, Incomplete, P2pxferError, Refused, Unreachable
from p2pxfer.inventory import Agent
from p2pxfer.net.agent import asking, door
from p2pxfer.net.agent.door import MAX_CONNECTIONS, Door
from p2pxfer.net.agent.room import FOLDER, Room
from tests.net.serverkit import reactor

ABOUT = Agent(1, 1.5, "bob", "p2px1-x", "127.0.0.1:8877", "", True, 0, 0, 0)


class Home:
    """A home with a door, which answers as the test says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.room = Room(path)
        self.questions: list[Question] = []
        self.error: Exception | None = None
        self.door = Door(reactor, self.room.path, self._answer)
        self.door.open()

    def _answer(self, question: Question) -> Answer:
        self.questions.append(question)
        if self.error is not None:
            raise self.error
        if isinstance(question, EndWanted):
            return Ending(os.getpid())
        return Looking() if isinstance(question, Doorbell) else Status(ABOUT)

    def dial(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(20)
        made.connect(str(self.room.path / "socket"))
        return made

    async def says(self, data: bytes) -> bytes:
        """What the door says to these bytes until it hangs up."""

        def talk() -> bytes:
            with self.dial() as connection:
                with suppress(BrokenPipeError):  # it may have answered and hung up already
                    connection.sendall(data)
                return heard(connection)

        return bytes(await deferToThread(talk))


def heard(connection: socket.socket) -> bytes:
    """Everything until the other side hangs up."""
    found = bytearray()
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return bytes(found)


@pytest_twisted.async_yield_fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    made = Home(tmp_path / "home")
    yield made
    await made.door.close()
    made.room.close()


@pytest_twisted.ensureDeferred
async def test_a_command_asks_and_rings(home: Home) -> None:
    assert await deferToThread(asking.status, home.path) == Status(ABOUT)
    assert await deferToThread(asking.ring, home.path) is True
    assert home.questions == [StatusWanted(), Doorbell()]
    assert (home.room.path / "socket").stat().st_mode & 0o777 == 0o600


@pytest_twisted.ensureDeferred
async def test_nobody_is_there(home: Home, tmp_path: Path) -> None:
    await home.door.close()
    assert asking.ring(home.path) is False
    with pytest.raises(Unreachable, match="no agent runs"):
        asking.status(home.path)
    with pytest.raises(Unreachable, match="no agent runs"):
        asking.status(tmp_path / "elsewhere")


@pytest_twisted.ensureDeferred
async def test_a_name_is_free_only_where_that_is_known(home: Home, tmp_path: Path) -> None:
    asking.check_name_is_free(tmp_path / "elsewhere", "bob")
    await deferToThread(asking.check_name_is_free, home.path, "carol")
    with pytest.raises(ConfigError, match="receives as bob already; stop it with p2pxfer agent stop"):
        await deferToThread(asking.check_name_is_free, home.path, "bob")
    home.error = Refused("not now")
    with pytest.raises(ConfigError, match="cannot be known: not now; stop it"):
        await deferToThread(asking.check_name_is_free, home.path, "bob")
    await home.door.close()
    asking.check_name_is_free(home.path, "bob")


@pytest.mark.parametrize(
    "data",
    [b"\n", b"[]\n", b'{"ask": "money"}\n', b"\xff\n", b"x" * (MAX_QUESTION + 1), b'{"ask": "status", "x": [[[]]\n'],
    ids=repr,
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_what_is_no_question_is_declined(home: Home, data: bytes) -> None:
    assert (await home.says(data)).startswith(b'{"answer":"declined","why":')
    assert home.questions == []
    assert await deferToThread(asking.ring, home.path)


@pytest_twisted.ensureDeferred
async def test_one_connection_is_one_question(home: Home) -> None:
    assert await home.says(b'{"ask":"doorbell"}\n' * 3) == b'{"answer":"looking"}\n'
    assert home.questions == [Doorbell()]


@pytest_twisted.ensureDeferred
async def test_faults_become_answers(home: Home, lost_errors: Any) -> None:
    home.error = Refused("not now")
    with pytest.raises(Refused, match="not now"):
        await deferToThread(asking.status, home.path)
    home.error = ZeroDivisionError("oh")
    with pytest.raises(Refused, match="a fault inside the agent"):
        await deferToThread(asking.status, home.path)
    assert len(lost_errors.flush(ZeroDivisionError)) == 1
    home.error = None
    assert await deferToThread(asking.ring, home.path)


@pytest_twisted.ensureDeferred
async def test_whoever_says_nothing_is_hung_up_on(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "DEADLINE_S", 0.2)
    with home.dial() as silent, home.dial() as slow:
        slow.sendall(b'{"ask":')
        assert await deferToThread(heard, silent) == b""
        assert await deferToThread(heard, slow) == b""


LONG = "no" * (MAX_ANSWER // 3)
"""A reason that does not fit into the buffers of a socket."""


@pytest.mark.parametrize(
    ("says", "answered"),
    [
        (b"", False),
        (b'{"ask":', False),
        (encode_line(StatusWanted()), True),
        (encode_line(StatusWanted()), False),
        (encode_line(EndWanted()), True),
        (encode_line(EndWanted()), False),
        (b"x" * (MAX_QUESTION + 1), True),
    ],
    ids=["silent", "slow", "asks", "reads nothing", "ends it", "ends it and reads nothing", "says too much"],
)
@pytest_twisted.ensureDeferred
async def test_nobody_keeps_a_place_longer_than_the_deadline(
    home: Home, monkeypatch: pytest.MonkeyPatch, says: bytes, answered: bool
) -> None:
    """Nor who keeps its own end, as whoever waits for the end of the agent does."""
    monkeypatch.setattr(door, "DEADLINE_S", 1.0 if not answered else 3600.0)
    if not answered:
        home.error = Refused(LONG)
    visitors = home.door._factory.here
    with home.dial() as visitor:
        visitor.sendall(says)
        if answered:
            assert await deferToThread(heard, visitor)
        else:
            while not visitors:
                await deferLater(reactor, 0.01)
        while visitors:
            await deferLater(reactor, 0.01)
        home.error = None
        assert await deferToThread(asking.ring, home.path)


@pytest_twisted.ensureDeferred
async def test_whoever_ends_the_agent_is_answered_as_others_are(home: Home) -> None:
    assert await home.says(encode_line(EndWanted())) == encode_line(Ending(os.getpid()))
    with pytest.raises(Incomplete, match=rf"the agent .process {os.getpid()}. was told to end and has not in 0.3 s"):
        await deferToThread(asking.stop, home.path, 0.3)
    assert home.questions == [EndWanted()] * 2
    await home.door.close()
    with pytest.raises(Unreachable, match="no agent runs"):
        asking.stop(home.path)


@pytest_twisted.ensureDeferred
async def test_too_many_at_once_are_turned_away(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "DEADLINE_S", 300.0)  # none of them goes before the others have come
    silent = [home.dial() for _ in range(MAX_CONNECTIONS)]
    try:
        with home.dial() as one_more:
            assert await deferToThread(heard, one_more) == b""
            with pytest.raises(BrokenPipeError):
                one_more.sendall(encode_line(Doorbell()))
        with pytest.raises(P2pxferError):
            await deferToThread(asking.status, home.path)
    finally:
        for connection in silent:
            connection.close()
    while not await deferToThread(asking.ring, home.path):
        await deferLater(reactor, 0.05)


@pytest_twisted.ensureDeferred
async def test_another_user_gets_no_answer(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory keeps others out; should it not, whoever connects is looked at."""
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(Refused, match="another user's agent"):
        await deferToThread(asking.status, home.path)
    assert home.questions == []


def test_who_is_not_heard_out_gets_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent may have answered and hung up before the question is sent."""
    room = Room(tmp_path / "home")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(room.path / "socket"))
        agent.listen()

        def hang_up(question: StatusWanted) -> bytes:
            caller, _ = agent.accept()
            caller.sendall(encode_line(Declined("not you")))
            caller.close()
            return encode_line(question)

        monkeypatch.setattr(asking, "encode_line", hang_up)
        with pytest.raises(Refused, match="not you"):
            asking.status(tmp_path / "home")
    room.close()


@pytest_twisted.ensureDeferred
async def test_an_agent_that_hangs_is_not_waited_for(home: Home) -> None:
    """Asked from the reactor's own thread, it cannot answer."""
    with pytest.raises(Unreachable, match="does not answer"):
        asking.ask(home.path, StatusWanted(), patience=0.2)


@pytest_twisted.ensureDeferred
async def test_the_socket_of_a_killed_agent_is_replaced(tmp_path: Path) -> None:
    room = Room(tmp_path / "home")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(room.path / "socket"))
    assert asking.ring(tmp_path / "home") is False
    room.close()
    again = Home(tmp_path / "home")
    assert await deferToThread(asking.ring, again.path)
    await again.door.close()
    again.room.close()
    assert not (again.room.path / "socket").exists()


@pytest_twisted.ensureDeferred
async def test_a_path_too_long_for_a_socket(tmp_path: Path, no_descriptor_is_lost: None) -> None:
    far = tmp_path / ("a" * 100) / ("b" * 100)
    far.mkdir(parents=True)
    home = Home(far)
    assert await deferToThread(asking.ring, far)
    await home.door.close()
    home.room.close()
    assert not (far / FOLDER / "socket").exists()


def test_there_is_one_agent_of_a_home(tmp_path: Path, no_descriptor_is_lost: None) -> None:
    room = Room(tmp_path)
    with pytest.raises(ConfigError, match=r"another agent runs for the home \S+$"):
        Room(tmp_path)
    room.sign()
    with pytest.raises(ConfigError, match=rf"another agent runs for the home \S+ \(process {os.getpid()}\)$"):
        Room(tmp_path)
    room.close()
    Room(tmp_path).close()


def test_a_home_without_room_for_an_agent(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(ConfigError, match="the agent cannot use the home"):
        Room(tmp_path)


@pytest_twisted.ensureDeferred
async def test_where_no_socket_can_be_is_one_line(tmp_path: Path) -> None:
    room = Room(tmp_path)
    (room.path / "socket").mkdir()
    with pytest.raises(ConfigError, match="the agent cannot have its socket in"):
        Door(reactor, room.path, lambda question: Looking()).open()
    room.close()
