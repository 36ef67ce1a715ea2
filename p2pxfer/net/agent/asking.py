"""What commands ask the agent of their home; without Twisted, and they wait for the answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from p2pxfer.core.agent.control import (
    MAX_ANSWER,
    Answer,
    Declined,
    Doorbell,
    Ending,
    EndWanted,
    Question,
    Status,
    StatusWanted,
    decode_answer,
    encode_line,
)
from p2pxfer.core.text import path_text, safe_text
from p2pxfer.errors import ConfigError, Incomplete, P2pxferError, ProtocolBreach, Refused, Unreachable
from p2pxfer.net.agent.process import OtherEnd
from p2pxfer.net.agent.room import FOLDER, LOCK, SocketName, how_to_start

PATIENCE_S: Final = 5.0
END_PATIENCE_S: Final = 30.0
"""How long the end of an agent is waited for, seconds; it gives what is under way a third of that."""


def ask(home: Path, question: Question, patience: float = PATIENCE_S) -> Answer:
    """The answer of the agent that runs for ``home``, which may take ``patience`` seconds.

    Raises:
        Unreachable: none runs, or it does not answer.
        Refused: it does not want to answer.
        ProtocolBreach: what came is no answer.
    """
    answer = _answer(home, question, patience)
    if answer is None:
        raise _nobody(home)
    return answer


def _nobody(home: Path) -> Unreachable:
    return Unreachable(f"no agent runs for the home {path_text(home)}; {how_to_start(home)}")


def _answer(home: Path, question: Question, patience: float) -> Answer | None:
    """The same, and ``None`` if none runs."""
    with _dialled(home, patience) as connection:
        return _asked(connection, question, patience) if connection is not None else None


def _asked(connection: socket.socket, question: Question, patience: float) -> Answer:
    deadline = time.monotonic() + patience
    with suppress(BrokenPipeError):  # who is not heard out was given a reason
        connection.sendall(encode_line(question))
    answer = decode_answer(_line(connection, deadline))
    if isinstance(answer, Declined):
        raise Refused(safe_text(answer.why, 300))
    return answer


@contextmanager
def _dialled(home: Path, patience: float) -> Iterator[socket.socket | None]:
    """A connection to the agent, ``None`` if none runs; what goes wrong with it becomes an error for people."""
    try:
        name = SocketName(home / FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as error:
        raise Unreachable(f"the agent cannot be asked ({error.strerror or error})") from error
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(patience)
            try:
                connection.connect(name.name)
            except (FileNotFoundError, ConnectionRefusedError):
                yield None
            else:
                yield connection
    except OSError as error:
        raise Unreachable(f"the agent does not answer ({error.strerror or 'it took too long'})") from error
    finally:
        name.close()


def _line(connection: socket.socket, deadline: float) -> bytes:
    """One line without its end.  Raises ``OSError`` or :class:`ProtocolBreach`."""
    heard = bytearray()
    while not heard.endswith(b"\n"):
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        data = connection.recv(65536)
        if not data:
            raise ConnectionError(0, "it hung up")
        heard += data
        if len(heard) > MAX_ANSWER:
            raise ProtocolBreach("the agent's answer is too long")
    return bytes(heard[:-1])


def status(home: Path) -> Status:
    """What the agent of this home does.  Raises as :func:`ask`."""
    return _status(ask(home, StatusWanted()))


def _other() -> ProtocolBreach:
    return ProtocolBreach("the agent answered another question")


def _status(answer: Answer) -> Status:
    if not isinstance(answer, Status):
        raise _other()
    return answer


def stop(home: Path, patience: float = END_PATIENCE_S) -> int:
    """End the agent of this home; returns when its process has ended, within ``patience`` seconds, which one it was.

    Raises:
        Unreachable: none runs, or it does not answer.
        Incomplete: it was told, and still runs.
    """
    deadline = time.monotonic() + patience
    with _dialled(home, PATIENCE_S) as connection:
        if connection is None:
            raise _nobody(home)
        with closing(OtherEnd(connection, home / FOLDER / LOCK)) as agent:
            answer = _asked(connection, EndWanted(), PATIENCE_S)
            if not isinstance(answer, Ending):
                raise _other()
            if not agent.ends_by(deadline, answer.pid):
                raise Incomplete(
                    f"the agent (process {answer.pid}) was told to end and has not in {patience:g} s; what arrived is"
                    f" kept in any case, kill -9 {answer.pid} too"
                )
    return answer.pid


def check_name_is_free(home: Path, name: str) -> None:
    """Fail where the agent of this home receives under ``name``: whoever registers it next takes it from the other.

    Raises:
        ConfigError: it does, or one runs and it cannot be known under which name.
    """
    try:
        answer = _answer(home, StatusWanted(), PATIENCE_S)
        if answer is None:
            return
        agent = _status(answer).agent
    except P2pxferError as error:
        raise ConfigError(
            f"whether the agent of this home receives as {name} cannot be known: {error.message}; stop it, or try again"
        ) from error
    if agent.receives and agent.name == name:
        raise ConfigError(
            f"the agent of this home (process {agent.pid}) receives as {name} already; stop it with p2pxfer agent"
            " stop, or receive under another name with --as"
        )


def ring(home: Path) -> bool:
    """Tell the agent of this home, if one runs, that the queue was changed; whether one heard it."""
    try:
        ask(home, Doorbell())
    except P2pxferError:
        return False
    return True
